//! A page of metrics in the Prometheus text format, and the part of it that scheduler and worker have in common: process, log and
//! network.
//!
//! A page is made anew at every scrape from what is true then, so that nothing is counted twice and whoever has left is gone from
//! it. Making it never waits for anything but `/proc`.

use ocluster_vat::Stats;
use prometheus::core::Collector as _;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType, Summary};
use prometheus::{Counter, GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};
use rustix::time::{ClockId, clock_gettime};

use crate::log_counts::LogCounts;

/// What labels a metric without any has.
pub const NO_LABELS: &[&str] = &[];

/// A page in the making.
#[derive(Default)]
pub struct MetricsPage {
    registry: Registry,
    /// What the registry has no type for.
    summaries: Vec<MetricFamily>,
}

/// How often something took how long: one line of a summary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    /// The values of the summary's labels, in their order.
    pub labels: Vec<&'static str>,
    /// How often.
    pub count: u64,
    /// How long altogether, in seconds.
    pub seconds: f64,
}

impl MetricsPage {
    /// An empty page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a family of gauges.
    ///
    /// # Errors
    /// If the page has the name already, or it is not one.
    pub fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    /// Adds a gauge without labels.
    ///
    /// # Errors
    /// As [`MetricsPage::gauge`].
    pub fn plain_gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        let gauge = self.gauge(name, help, NO_LABELS)?;
        gauge.with_label_values(NO_LABELS).set(value);
        Ok(())
    }

    /// Adds a family of counters.
    ///
    /// # Errors
    /// As [`MetricsPage::gauge`].
    pub fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    /// Adds a counter without labels.
    ///
    /// # Errors
    /// As [`MetricsPage::gauge`].
    pub fn plain_counter(&self, name: &str, help: &str, value: u64) -> prometheus::Result<()> {
        let counter = self.counter(name, help, NO_LABELS)?;
        counter.with_label_values(NO_LABELS).inc_by(value);
        Ok(())
    }

    /// Adds a summary, which has sums and counts and no quantiles.
    pub fn summary(&mut self, name: &str, help: &str, labels: &[&str], times: &[Times]) {
        let metrics = times.iter().map(|times| {
            let mut pairs: Vec<LabelPair> = labels
                .iter()
                .zip(&times.labels)
                .map(|(label, value)| {
                    let mut pair = LabelPair::default();
                    pair.set_name((*label).to_owned());
                    pair.set_value((*value).to_owned());
                    pair
                })
                .collect();
            pairs.sort();
            let mut summary = Summary::default();
            summary.set_sample_count(times.count);
            summary.set_sample_sum(times.seconds);
            let mut metric = Metric::from_label(pairs);
            metric.set_summary(summary);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(name.to_owned());
        family.set_help(help.to_owned());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(metrics.collect());
        self.summaries.push(family);
    }

    /// Adds what every program has: `process_*`, `prometheus_logs_messages_total` and `capnp_net_*`, under OCluster's names.
    ///
    /// # Errors
    /// As [`MetricsPage::gauge`].
    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float; counts are far below 2^52"
    )]
    pub fn program(&self, net: &Stats, log: &LogCounts) -> prometheus::Result<()> {
        self.plain_gauge(
            "capnp_net_connections",
            "Number of live capnp-rpc connections",
            net.connections() as f64,
        )?;
        for (name, help, value) in [
            (
                "capnp_net_messages_inbound_received_total",
                "Total number of messages received",
                net.inbound_received(),
            ),
            (
                "capnp_net_messages_outbound_enqueued_total",
                "Total number of messages enqueued to be transmitted",
                net.outbound_enqueued(),
            ),
            (
                "capnp_net_messages_outbound_sent_total",
                "Total number of messages transmitted",
                net.outbound_sent(),
            ),
            (
                "capnp_net_messages_outbound_dropped_total",
                "Total number of messages lost due to disconnections",
                net.outbound_dropped(),
            ),
        ] {
            self.plain_counter(name, help, value)?;
        }
        let logged = self.counter(
            "prometheus_logs_messages_total",
            "Total number of messages logged",
            &["level", "src"],
        )?;
        for count in log.snapshot() {
            logged
                .with_label_values(&[count.level, count.source.as_str()])
                .inc_by(count.count);
        }
        self.registry
            .register(Box::new(ProcessCollector::for_self()))
    }

    /// The text of the page, its families by name.
    ///
    /// # Errors
    /// If a summary has no line.
    pub fn render(self) -> prometheus::Result<String> {
        let mut families = self.registry.gather();
        for family in &mut families {
            if family.name() == CPU_SECONDS {
                *family = cpu_seconds()?;
            }
        }
        families.extend(self.summaries);
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families)
    }
}

const CPU_SECONDS: &str = "process_cpu_seconds_total";

/// The processor time of this process. The collector's own has whole seconds only, which makes a rate of it useless.
fn cpu_seconds() -> prometheus::Result<MetricFamily> {
    let counter = Counter::new(
        CPU_SECONDS,
        "Total user and system CPU time spent in seconds.",
    )?;
    let used = clock_gettime(ClockId::ProcessCPUTime);
    #[expect(
        clippy::cast_precision_loss,
        reason = "a counter is a float; centuries of processor time are exact enough"
    )]
    counter.inc_by(used.tv_sec as f64 + used.tv_nsec as f64 / 1e9);
    Ok(counter.collect().into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> String {
        let mut page = MetricsPage::new();
        let queue = page
            .gauge("queue_length", "Items.", &["pool", "priority"])
            .unwrap();
        queue.with_label_values(&["a \"b\"\\\n", "low"]).set(3.0);
        let times = |label, count, seconds| Times {
            labels: vec![label],
            count,
            seconds,
        };
        page.summary(
            "job_time_seconds",
            "Time jobs ran for",
            &["result"],
            &[times("ok", 2, 1.5), times("fail", 0, 0.0)],
        );
        page.program(&Stats::new(), &LogCounts::new()).unwrap();
        page.render().unwrap()
    }

    #[test]
    fn d13_help_and_type_are_in_the_standard_form_and_labels_are_escaped() {
        let page = page();
        for line in [
            "# HELP queue_length Items.",
            "# TYPE queue_length gauge",
            r#"queue_length{pool="a \"b\"\\\n",priority="low"} 3"#,
            "# HELP job_time_seconds Time jobs ran for",
            "# TYPE job_time_seconds summary",
            r#"job_time_seconds_sum{result="ok"} 1.5"#,
            r#"job_time_seconds_count{result="ok"} 2"#,
            r#"job_time_seconds_sum{result="fail"} 0"#,
            r#"job_time_seconds_count{result="fail"} 0"#,
            "# TYPE capnp_net_connections gauge",
            "# TYPE process_start_time_seconds gauge",
        ] {
            assert!(page.lines().any(|its| its == line), "{line}\n{page}");
        }
        assert!(!page.lines().any(|line| line.starts_with("#HELP")));
    }

    #[test]
    fn families_come_by_name() {
        let page = page();
        let names: Vec<&str> = page
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE "))
            .collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        assert_eq!(names, sorted);
    }

    #[test]
    fn processor_time_has_fractions() {
        let page = page();
        let line = page.lines().find(|line| line.starts_with(CPU_SECONDS));
        let (_, seconds) = line.unwrap().split_once(' ').unwrap();
        let seconds: f64 = seconds.parse().unwrap();
        assert!(seconds > 0.0 && seconds.fract() > 0.0, "{seconds}");
    }
}
