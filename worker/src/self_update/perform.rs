//! The order of an update: prepare, wait for the jobs, finish, leave.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::error::UpdateError;
use crate::agent::Agent;

/// How long running jobs are waited for. The scheduler asks when none runs; others may ask at any time.
const BUSY_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Whether an update is under way, and the way out when it is done.
#[derive(Debug)]
pub(crate) struct Update {
    under_way: Rc<Cell<bool>>,
    leaving: Cell<bool>,
    /// Ends the worker's stay.
    leave: CancellationToken,
}

impl Update {
    /// None yet. `leave` makes the worker stop as if it were told to.
    pub(crate) fn new(leave: CancellationToken) -> Self {
        Self {
            under_way: Rc::default(),
            leaving: Cell::new(false),
            leave,
        }
    }

    /// Whether the worker stops to be started again as a newer version.
    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    fn begin(&self) -> Result<UnderWay, UpdateError> {
        if self.leaving.get() || self.under_way.replace(true) {
            return Err(UpdateError::UnderWay);
        }
        Ok(UnderWay(self.under_way.clone()))
    }

    fn leave(&self) {
        self.leaving.set(true);
        self.leave.cancel();
    }
}

/// Until this is dropped, nobody else can update the worker.
struct UnderWay(Rc<Cell<bool>>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

/// Updates the worker, which then leaves: to whoever asked, that looks like a lost connection.
///
/// Dropping the future gives up the preparation, or the wait for jobs; what was begun after that is carried through.
///
/// # Errors
/// Why there was no update. The worker goes on working.
pub(crate) async fn perform(agent: Rc<Agent>) -> Result<Infallible, UpdateError> {
    let under_way = agent.update.begin()?;
    info!("Preparing to be updated");
    let updated = prepare_and_finish(&agent, under_way).await;
    if let Err(error) = updated {
        warn!(%error, "Not updated");
        return Err(error);
    }
    // The connection goes before this call is answered.
    std::future::pending().await
}

async fn prepare_and_finish(agent: &Rc<Agent>, under_way: UnderWay) -> Result<(), UpdateError> {
    let plan = agent.config.self_update.clone();
    let preparing = agent.pool.spawn(async move { plan.prepare().await });
    let prepared = AbortOnDropHandle::new(preparing)
        .await
        .map_err(|error| UpdateError::Crashed(error.to_string()))??;
    let idle = tokio::time::timeout(BUSY_LIMIT, agent.slots.all_free());
    idle.await.map_err(|_| UpdateError::StillBusy(BUSY_LIMIT))?;
    let finishing = agent.pool.spawn(prepared.finish());
    let agent = agent.clone();
    carry_through(under_way, async move {
        let finished = finishing.await;
        finished.map_err(|error| UpdateError::Crashed(error.to_string()))??;
        info!("Leaving to be started again as a newer version");
        agent.update.leave();
        Ok(())
    })
    .await
}

/// Does `work` to its end, also if the future is dropped. Until then nobody else can update the worker.
async fn carry_through(
    under_way: UnderWay,
    work: impl Future<Output = Result<(), UpdateError>> + 'static,
) -> Result<(), UpdateError> {
    let working = tokio::task::spawn_local(async move {
        let _under_way = under_way;
        work.await
    });
    working
        .await
        .map_err(|error| UpdateError::Crashed(error.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_update_at_a_time() {
        let leave = CancellationToken::new();
        let update = Update::new(leave.clone());
        let first = update.begin().unwrap();
        assert!(matches!(update.begin(), Err(UpdateError::UnderWay)));
        drop(first);
        let _second = update.begin().unwrap();
        assert!(!update.is_leaving() && !leave.is_cancelled());
        update.leave();
        assert!(update.is_leaving() && leave.is_cancelled());
    }

    #[tokio::test]
    async fn an_update_that_is_carried_through_without_its_caller_is_still_the_only_one() {
        let update = Update::new(CancellationToken::new());
        let (finish, finished) = tokio::sync::oneshot::channel::<()>();
        let local = tokio::task::LocalSet::new();
        let test = async {
            let work = async move {
                let _ = finished.await;
                Err(UpdateError::UnderWay)
            };
            let mut carried = Box::pin(carry_through(update.begin().unwrap(), work));
            assert!(futures::poll!(&mut carried).is_pending());
            drop(carried);
            assert!(matches!(update.begin(), Err(UpdateError::UnderWay)));
            finish.send(()).unwrap();
        };
        local.run_until(test).await;
        local.await;
        assert!(update.begin().is_ok());
    }

    #[test]
    fn a_worker_that_leaves_is_not_updated_again() {
        let update = Update::new(CancellationToken::new());
        let first = update.begin().unwrap();
        update.leave();
        drop(first);
        assert!(matches!(update.begin(), Err(UpdateError::UnderWay)));
    }
}
