//! What the service manager is told of the scheduler: that it serves, and in one line how much there is to do.

use std::rc::Rc;
use std::time::Duration;

use ocluster_cli::Service;
use ocluster_scheduling::view::PoolStats;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::state::Scheduler;

/// How often the line is brought up to date. It is for a person who looks now and then.
const PERIOD: Duration = Duration::from_secs(10);

/// The scheduler's announcement; its end is the end of the watchdog's pings.
pub(crate) struct Announced {
    _service: Service,
    _telling: Option<AbortOnDropHandle<()>>,
}

/// Tells the service manager, if there is one, that the scheduler serves, and how it does, until `shutdown` fires or the answer is
/// dropped.
pub(crate) fn announce(scheduler: &Rc<Scheduler>, shutdown: &CancellationToken) -> Announced {
    let service = Service::start(shutdown);
    service.ready();
    let telling = service.is_watched().then(|| {
        let told = tell(scheduler.clone(), service.clone());
        AbortOnDropHandle::new(tokio::task::spawn_local(told))
    });
    Announced {
        _service: service,
        _telling: telling,
    }
}

async fn tell(scheduler: Rc<Scheduler>, service: Service) {
    loop {
        let figures: Vec<PoolStats> = scheduler.look(|cluster| {
            let pools = cluster.pools();
            pools.filter_map(|pool| cluster.pool_stats(pool)).collect()
        });
        service.status(&line(&figures));
        tokio::time::sleep(PERIOD).await;
    }
}

fn line(pools: &[PoolStats]) -> String {
    let sum = |figure: fn(&PoolStats) -> u64| pools.iter().map(figure).sum::<u64>();
    let queued = sum(|pool| {
        let local = pool.local.iter().map(|(_, lengths)| lengths);
        let queues = std::iter::once(&pool.incoming).chain(local);
        queues.map(|lengths| lengths.total()).sum()
    });
    format!(
        "Pools: {}, connected workers: {}, running jobs: {}, queued jobs: {queued}",
        pools.len(),
        sum(|pool| pool.connected),
        sum(|pool| pool.running),
    )
}

#[cfg(test)]
mod tests {
    use ocluster_scheduling::view::Lengths;

    use super::*;

    #[test]
    fn the_line_adds_up_all_pools_and_queues() {
        let pool = PoolStats {
            connected: 2,
            running: 3,
            incoming: Lengths { high: 1, low: 4 },
            local: vec![("w".into(), Lengths { high: 0, low: 5 })],
            ..PoolStats::default()
        };
        assert_eq!(
            line(&[pool.clone(), pool]),
            "Pools: 2, connected workers: 4, running jobs: 6, queued jobs: 20"
        );
    }
}
