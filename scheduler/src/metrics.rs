//! The scheduler's metrics, in the Prometheus exposition format.
//!
//! They are made from a picture of the state at every scrape. So nothing is counted twice on the way of a job, and a worker or
//! client that has left is gone from the page.

use ocluster_cli::{LogCounts, MetricsPage};
use ocluster_scheduling::view::{Lengths, PoolStats};
use ocluster_vat::Stats;

use crate::space::SpaceGuard;
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
    /// The room on the disk.
    pub(crate) space: SpaceGuard,
}

/// The whole page.
///
/// # Errors
/// Only if two metrics had the same name.
pub(crate) fn render(
    picture: &Picture,
    store_works: bool,
    counters: &Counters,
) -> prometheus::Result<String> {
    let page = MetricsPage::new();
    pools(&page, picture)?;
    page.plain_gauge(
        "ocluster_scheduler_store_healthy",
        "Whether the scheduler can write down what must survive a restart",
        f64::from(u8::from(store_works)),
    )?;
    room(&page, &counters.space)?;
    page.program(&counters.net, &counters.log)?;
    page.render()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; no disk has 2^52 bytes"
)]
fn room(page: &MetricsPage, space: &SpaceGuard) -> prometheus::Result<()> {
    if let Some(free) = space.free_bytes() {
        page.plain_gauge(
            "ocluster_scheduler_disk_free_bytes",
            "Room that the filesystem of the state directory has",
            free as f64,
        )?;
    }
    page.plain_gauge(
        "ocluster_scheduler_disk_short",
        "Whether new jobs are refused because the disk is short of room",
        f64::from(u8::from(space.is_short())),
    )?;
    page.plain_counter(
        "ocluster_scheduler_jobs_refused_for_room_total",
        "Number of jobs refused because the disk was short of room",
        space.refused(),
    )
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float; counts are far below 2^52"
)]
fn pools(page: &MetricsPage, picture: &Picture) -> prometheus::Result<()> {
    let submitted = page.counter(
        "ocluster_pool_jobs_submitted_total",
        "Number of jobs submitted to the pool",
        &["pool"],
    )?;
    let cancelled = page.counter(
        "ocluster_pool_jobs_cancelled_total",
        "Number of jobs cancelled while queued",
        &["pool"],
    )?;
    let accepted = page.counter(
        "ocluster_pool_jobs_accepted_total",
        "Number of jobs accepted by workers",
        &["pool"],
    )?;
    let running = page.gauge(
        "ocluster_pool_jobs_running",
        "Number of jobs that workers have accepted and not finished",
        &["pool"],
    )?;
    let connected = page.gauge(
        "ocluster_pool_workers_connected",
        "Number of connected workers",
        &["pool"],
    )?;
    let capacity = page.gauge(
        "ocluster_pool_workers_capacity",
        "Aggregate capacity of connected workers",
        &["pool"],
    )?;
    let ready = page.gauge(
        "ocluster_pool_workers_ready",
        "Number of workers ready to accept a new job",
        &["pool"],
    )?;
    let paused = page.gauge(
        "ocluster_pool_workers_paused",
        "Number of workers set to inactive",
        &["pool"],
    )?;
    let queue = page.gauge(
        "ocluster_pool_queue_length",
        "Items in the queue",
        &["queue", "pool", "priority"],
    )?;
    let clients = page.gauge(
        "ocluster_scheduler_client_submitted_jobs",
        "Items currently queued",
        &["client", "pool", "priority"],
    )?;
    for (pool, stats) in &picture.pools {
        let pool = pool.as_str();
        for (counter, value) in [
            (&submitted, stats.submitted),
            (&cancelled, stats.cancelled),
            (&accepted, stats.accepted),
        ] {
            counter.with_label_values(&[pool]).inc_by(value);
        }
        for (gauge, value) in [
            (&running, stats.running),
            (&connected, stats.connected),
            (&capacity, stats.capacity),
            (&ready, stats.ready),
            (&paused, stats.paused),
        ] {
            gauge.with_label_values(&[pool]).set(value as f64);
        }
        let local = stats.local.iter();
        let local = local.map(|(worker, lengths)| (worker.as_str(), lengths));
        // Added, as a worker may bear the name of the main queue.
        for (name, lengths) in std::iter::once(("incoming", &stats.incoming)).chain(local) {
            for (priority, length) in by_priority(lengths) {
                queue
                    .with_label_values(&[name, pool, priority])
                    .add(length as f64);
            }
        }
        for (client, lengths) in &stats.clients {
            for (priority, length) in by_priority(lengths) {
                clients
                    .with_label_values(&[client.as_str(), pool, priority])
                    .add(length as f64);
            }
        }
    }
    Ok(())
}

fn by_priority(lengths: &Lengths) -> [(&'static str, u64); 2] {
    [("high", lengths.high), ("low", lengths.low)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(stats: PoolStats) -> String {
        let picture = Picture {
            pools: vec![("linux".to_owned(), stats)],
        };
        let counters = Counters {
            net: Stats::new(),
            log: LogCounts::new(),
            space: SpaceGuard::seen(3 << 20, 1 << 20),
        };
        render(&picture, true, &counters).unwrap()
    }

    #[test]
    fn every_name_of_upstream_s_scheduler_is_there_with_its_type_labels_and_help() {
        let lengths = |high, low| Lengths { high, low };
        let page = page(PoolStats {
            submitted: 10,
            accepted: 5,
            cancelled: 2,
            connected: 3,
            capacity: 12,
            ready: 1,
            paused: 1,
            running: 4,
            incoming: lengths(1, 2),
            local: vec![("w1".into(), lengths(0, 1))],
            clients: vec![("alice".into(), lengths(1, 3))],
        });
        let shown: Vec<&str> = page
            .lines()
            .filter(|line| line.contains("ocluster_"))
            .collect();
        insta::assert_snapshot!("scheduler_page", shown.join("\n"));
        for (family, kind) in [
            ("process_start_time_seconds", "gauge"),
            ("process_cpu_seconds_total", "counter"),
            ("prometheus_logs_messages_total", "counter"),
            ("capnp_net_connections", "gauge"),
            ("capnp_net_messages_inbound_received_total", "counter"),
            ("capnp_net_messages_outbound_enqueued_total", "counter"),
            ("capnp_net_messages_outbound_sent_total", "counter"),
            ("capnp_net_messages_outbound_dropped_total", "counter"),
        ] {
            // A family without children is not shown.
            let counted = family != "prometheus_logs_messages_total";
            let announced = page.contains(&format!("# TYPE {family} {kind}\n"));
            assert_eq!(announced, counted, "{family}\n{page}");
        }
    }

    #[test]
    fn d13_whoever_has_left_is_gone_from_the_page() {
        let stats = PoolStats {
            local: vec![("w1".into(), Lengths::default())],
            clients: vec![("alice".into(), Lengths::default())],
            ..PoolStats::default()
        };
        let before = page(stats.clone());
        assert!(before.contains("queue=\"w1\"") && before.contains("client=\"alice\""));
        let after = page(PoolStats {
            local: Vec::new(),
            clients: Vec::new(),
            ..stats
        });
        assert!(!after.contains("queue=\"w1\"") && !after.contains("client="));
    }
}
