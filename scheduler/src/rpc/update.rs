//! `PoolAdmin.update`: a worker finishes its jobs, restarts as a newer version, and comes back.
//!
//! The worker is kept from taking jobs meanwhile. Unlike upstream's, an update that fails gives the worker back to the pool.

use std::rc::Rc;

use ocluster_scheduling::{Event, PoolName, WorkerName};
use ocluster_vat::{RpcError, error as rpc_error};
use tracing::{info, warn};

use super::progress::Reporter;
use crate::state::Scheduler;
use crate::worker_session::WorkerSession;

/// Updates one connected worker.
///
/// # Errors
/// `Unknown worker` if it is not connected, that it is being updated already, the worker's own error, or that it did not come back.
pub(super) async fn update(
    scheduler: &Rc<Scheduler>,
    pool: &PoolName,
    name: &WorkerName,
    reporter: &Reporter,
) -> capnp::Result<()> {
    let session = scheduler
        .worker(pool, name)
        .ok_or_else(|| rpc_error::failed("Unknown worker"))?;
    // A second update that ended early would give the worker jobs in the middle of the first.
    if session.updating.get() {
        return Err(rpc_error::failed(format!(
            "Worker \"{name}\" is being updated already"
        )));
    }
    scheduler
        .handle(Event::ShuttingDown { worker: session.id })
        .map_err(|refusal| rpc_error::failed(refusal.to_string()))?;
    // From here on the worker takes no jobs, and gets them back whatever happens: also if the admin gives up.
    session.updating.set(true);
    let back_to_work = BackToWork {
        scheduler,
        session: &session,
    };
    session
        .until_idle(async |count| {
            if count > 0 {
                reporter.report(&format!("Running jobs: {count}")).await;
            }
        })
        .await;
    if session.left.is_cancelled() {
        return Err(rpc_error::failed(
            "The worker left before it could be updated",
        ));
    }
    reporter.report("Restarting").await;
    info!(%pool, "Updating worker \"{name}\"");
    match session.cap.self_update_request().send().promise.await {
        Ok(_) => {
            return Err(rpc_error::failed(
                "Internal error: the worker says that it was updated, but it did not restart",
            ));
        }
        Err(error) => match RpcError::from(error) {
            RpcError::Disconnected(_) => {}
            other => {
                warn!(%pool, %other, "Updating worker \"{name}\" failed");
                return Err(other.into());
            }
        },
    }
    drop(back_to_work);
    let replacement = scheduler.replacement(pool, name, session.id);
    match tokio::time::timeout(scheduler.update_timeout(), replacement).await {
        Ok(_) => Ok(()),
        Err(_) => Err(rpc_error::failed(
            "Timeout waiting for worker to reconnect!",
        )),
    }
}

/// Ends the state of shutting down when dropped, which does nothing for a worker that has left.
struct BackToWork<'a> {
    scheduler: &'a Rc<Scheduler>,
    session: &'a WorkerSession,
}

impl Drop for BackToWork<'_> {
    fn drop(&mut self) {
        self.session.updating.set(false);
        self.scheduler.post(Event::ShutdownCleared {
            worker: self.session.id,
        });
    }
}
