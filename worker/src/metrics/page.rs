//! The worker's own page: names, labels and help texts are OCluster's.

use ocluster_cli::{LogCounts, MetricsPage};
use ocluster_vat::Stats;

use super::counts::Metrics;

/// The content type of the page.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The whole page.
///
/// # Errors
/// Only if two metrics had the same name.
#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; counts are far below 2^52"
)]
pub(super) fn render(
    metrics: &Metrics,
    net: &Stats,
    logged: &LogCounts,
) -> prometheus::Result<String> {
    let mut page = MetricsPage::new();
    page.plain_counter(
        "ocluster_worker_jobs_accepted_total",
        "Number of jobs accepted in total",
        metrics.jobs_accepted(),
    )?;
    page.summary(
        "ocluster_worker_job_time_seconds",
        "Time jobs ran for",
        &["result"],
        &metrics.job_times(),
    );
    page.summary(
        "ocluster_worker_docker_push_time_seconds",
        "Time uploading to Docker Hub",
        &[],
        &[metrics.push_times()],
    );
    page.summary(
        "ocluster_worker_docker_prune_time_seconds",
        "Time spent pruning Docker cache",
        &[],
        &[metrics.prune_times()],
    );
    page.plain_gauge(
        "ocluster_worker_running_jobs",
        "Number of jobs currently running",
        metrics.running() as f64,
    )?;
    page.plain_gauge(
        "ocluster_worker_healthcheck_time_seconds",
        "Time to perform last healthcheck",
        metrics.last_health_check(),
    )?;
    page.plain_gauge(
        "ocluster_worker_unhealthy",
        "Number of unhealthy workers",
        f64::from(u8::from(metrics.is_unhealthy())),
    )?;
    // OCluster's workers show these two from their start. Without a store they stay at 0.
    let (hits, misses) = metrics.store_uses();
    page.plain_gauge(
        "ocluster_worker_cache_hits",
        "Number of OBuilder cache hits",
        hits as f64,
    )?;
    page.plain_gauge(
        "ocluster_worker_cache_misses",
        "Number of OBuilder cache misses",
        misses as f64,
    )?;
    // How much of the store is free is left out without one: 0 would mean that it is full.
    if let Some(percent) = metrics.store_space_free() {
        page.plain_gauge(
            "ocluster_worker_obuilder_space_free",
            "OBuilder percentage of space free",
            percent,
        )?;
    }
    page.program(net, logged)?;
    page.render()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::counts::{Checked, JobEnd};
    use super::*;

    #[test]
    fn every_name_of_upstream_s_workers_is_there_with_its_type_help_and_value() {
        let metrics = Metrics::default();
        metrics.job_started(1).ended(JobEnd::Fail);
        let _running = metrics.job_started(2);
        metrics.pushed(Duration::from_millis(2500));
        metrics.pruned(Duration::from_secs(3));
        metrics.health_checked(Checked::Engine, Duration::from_millis(500), false);
        metrics.health_checked(Checked::Store, Duration::from_millis(500), true);
        metrics.store_used(7, 5);
        metrics.store_space(41.5);
        let page = render(&metrics, &Stats::new(), &LogCounts::new()).unwrap();
        // The time that a test job took is the only thing that varies.
        let shown: Vec<&str> = page
            .lines()
            .filter(|line| line.contains("ocluster_worker"))
            .filter(|line| !line.starts_with("ocluster_worker_job_time_seconds_sum{result=\"fail"))
            .collect();
        insta::assert_snapshot!("worker_page", shown.join("\n"));
        for (family, kind) in [
            ("process_start_time_seconds", "gauge"),
            ("process_cpu_seconds_total", "counter"),
            ("capnp_net_connections", "gauge"),
            ("capnp_net_messages_inbound_received_total", "counter"),
        ] {
            assert!(
                page.contains(&format!("# TYPE {family} {kind}\n")),
                "{page}"
            );
        }
    }
}
