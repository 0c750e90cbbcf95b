//! The scheduler's metrics, in the Prometheus exposition format.
//!
//! They are made from a picture of the state at every scrape. So nothing is counted twice on the way of a job, and a worker or
//! client that has left is gone from the page.

use ocluster_cli::LogCounts;
use ocluster_scheduling::view::{Lengths, PoolStats};
use ocluster_vat::Stats;
use prometheus::{GaugeVec, IntCounterVec, Opts, Registry, TextEncoder};

use crate::state::Scheduler;

/// What the scheduling state looks like at one moment. Made on the vat thread, rendered elsewhere.
pub(crate) struct Picture {
    pools: Vec<(String, PoolStats)>,
}

impl Picture {
    /// Takes the picture; costs in proportion to the workers and clients, not to the jobs.
    pub(crate) fn take(scheduler: &Scheduler) -> Self {
        let pools = scheduler.look(|cluster| {
            let names = cluster.pools();
            names
                .filter_map(|pool| Some((pool.as_str().to_owned(), cluster.pool_stats(pool)?)))
                .collect()
        });
        Self { pools }
    }
}

/// What is counted outside of the scheduling state.
#[derive(Clone)]
pub(crate) struct Counters {
    /// Messages and connections.
    pub(crate) net: Stats,
    /// Log lines.
    pub(crate) log: LogCounts,
}

/// The whole page.
///
/// # Errors
/// Only if two metrics had the same name.
pub(crate) fn render(picture: &Picture, counters: &Counters) -> prometheus::Result<String> {
    let page = Page::new();
    page.pools(picture)?;
    page.process(counters)?;
    TextEncoder::new().encode_to_string(&page.registry.gather())
}

struct Page {
    registry: Registry,
}

impl Page {
    fn new() -> Self {
        Self {
            registry: Registry::new(),
        }
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float; counts are far below 2^52"
    )]
    fn pools(&self, picture: &Picture) -> prometheus::Result<()> {
        let submitted = self.counter(
            "ocluster_pool_jobs_submitted_total",
            "Number of jobs submitted to the pool",
            &["pool"],
        )?;
        let cancelled = self.counter(
            "ocluster_pool_jobs_cancelled_total",
            "Number of jobs cancelled while queued",
            &["pool"],
        )?;
        let accepted = self.counter(
            "ocluster_pool_jobs_accepted_total",
            "Number of jobs accepted by workers",
            &["pool"],
        )?;
        let connected = self.gauge(
            "ocluster_pool_workers_connected",
            "Number of connected workers",
            &["pool"],
        )?;
        let capacity = self.gauge(
            "ocluster_pool_workers_capacity",
            "Aggregate capacity of connected workers",
            &["pool"],
        )?;
        let ready = self.gauge(
            "ocluster_pool_workers_ready",
            "Number of workers ready to accept a new job",
            &["pool"],
        )?;
        let paused = self.gauge(
            "ocluster_pool_workers_paused",
            "Number of workers set to inactive",
            &["pool"],
        )?;
        let queue = self.gauge(
            "ocluster_pool_queue_length",
            "Items in the queue",
            &["queue", "pool", "priority"],
        )?;
        let clients = self.gauge(
            "ocluster_scheduler_client_submitted_jobs",
            "Items currently queued",
            &["client", "pool", "priority"],
        )?;
        for (pool, stats) in &picture.pools {
            let pool = pool.as_str();
            submitted.with_label_values(&[pool]).inc_by(stats.submitted);
            cancelled.with_label_values(&[pool]).inc_by(stats.cancelled);
            accepted.with_label_values(&[pool]).inc_by(stats.accepted);
            connected
                .with_label_values(&[pool])
                .set(stats.connected as f64);
            capacity
                .with_label_values(&[pool])
                .set(stats.capacity as f64);
            ready.with_label_values(&[pool]).set(stats.ready as f64);
            paused.with_label_values(&[pool]).set(stats.paused as f64);
            let queues = std::iter::once(("incoming", &stats.incoming));
            let local = stats
                .local
                .iter()
                .map(|(worker, lengths)| (worker.as_str(), lengths));
            for (name, lengths) in queues.chain(local) {
                for (priority, length) in by_priority(lengths) {
                    queue
                        .with_label_values(&[name, pool, priority])
                        .set(length as f64);
                }
            }
            for (client, lengths) in &stats.clients {
                for (priority, length) in by_priority(lengths) {
                    clients
                        .with_label_values(&[client.as_str(), pool, priority])
                        .set(length as f64);
                }
            }
        }
        Ok(())
    }

    #[expect(
        clippy::cast_precision_loss,
        reason = "a gauge is a float; counts are far below 2^52"
    )]
    fn process(&self, counters: &Counters) -> prometheus::Result<()> {
        let net = &counters.net;
        let connections = self.gauge(
            "capnp_net_connections",
            "Number of live capnp-rpc connections",
            &[],
        )?;
        connections
            .with_label_values(NO_LABELS)
            .set(net.connections() as f64);
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
            self.counter(name, help, &[])?
                .with_label_values(NO_LABELS)
                .inc_by(value);
        }
        let logged = self.counter(
            "prometheus_logs_messages_total",
            "Total number of messages logged",
            &["level", "src"],
        )?;
        for count in counters.log.snapshot() {
            logged
                .with_label_values(&[count.level, count.source.as_str()])
                .inc_by(count.count);
        }
        // Brings process_start_time_seconds and process_cpu_seconds_total.
        self.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))
    }

    fn gauge(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let gauge = GaugeVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn counter(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        let counter = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }
}

const NO_LABELS: &[&str] = &[];

fn by_priority(lengths: &Lengths) -> [(&'static str, u64); 2] {
    [("high", lengths.high), ("low", lengths.low)]
}
