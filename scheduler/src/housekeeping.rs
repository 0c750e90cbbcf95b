//! What has to be done from time to time: expiring hints, and removing old logs and job records.

use std::rc::Rc;
use std::time::{Duration, SystemTime};

use ocluster_scheduling::Event;
use tracing::{debug, warn};

use crate::config::Retention;
use crate::state::Scheduler;

/// How often it is done.
const PERIOD: Duration = Duration::from_secs(3600);

/// Keeps house until dropped.
pub(crate) async fn run(scheduler: Rc<Scheduler>, retention: Retention) {
    loop {
        sweep(&scheduler, &retention).await;
        tokio::time::sleep(PERIOD).await;
    }
}

async fn sweep(scheduler: &Rc<Scheduler>, retention: &Retention) {
    if let Err(refusal) = scheduler.handle(Event::Tick) {
        warn!(%refusal, "Cannot expire old hints");
    }
    let pruned = scheduler
        .logs()
        .prune(SystemTime::now(), retention.log_age, retention.log_bytes)
        .await;
    debug!(?pruned, "Removed old logs");
    let age = u64::try_from(retention.job_age.as_millis()).unwrap_or(u64::MAX);
    let before = scheduler.now_ms().saturating_sub(age);
    let dropped = scheduler
        .records()
        .store()
        .prune_jobs(retention.jobs, before)
        .await;
    match dropped {
        Ok(dropped) => debug!(dropped, "Dropped old job records"),
        Err(error) => warn!(%error, "Cannot drop old job records"),
    }
}
