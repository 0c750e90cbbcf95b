//! What the scheduler is told of this worker in one stay in the pool: whether it is to be given jobs and, if not, why.
//!
//! Two may object to jobs at the same time, the health of the engine and whoever keeps the worker from asking: the care for its disk,
//! or jobs that fail because of this machine. One future speaks for both, so that
//! what the scheduler heard last is what holds; it never speaks of what it has said already.

use std::cell::Cell;

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::queue;
use ocluster_api::extensions_capnp::explained_queue;
use ocluster_vat::RpcError;
use tokio::sync::watch;

use crate::health::Health;

/// The worker's standing with one scheduler.
pub(crate) struct Standing {
    health: watch::Receiver<Health>,
    /// Why the worker does not ask for jobs, if so.
    pause: watch::Sender<Option<String>>,
    /// What the scheduler knows.
    told: watch::Sender<Option<String>>,
    /// Whether the scheduler is thought to understand reasons. Those that know only the frozen protocol do not.
    explained: Cell<bool>,
}

impl Standing {
    /// Right after registration, when the scheduler takes the worker for active.
    pub(crate) fn new(health: watch::Receiver<Health>) -> Self {
        Self {
            health,
            pause: watch::Sender::new(None),
            told: watch::Sender::new(None),
            explained: Cell::new(true),
        }
    }

    /// Tells the scheduler whatever changes. Returns when that fails, with the reason.
    pub(crate) async fn keep_told(&self, queue: &queue::Client) -> RpcError {
        let mut health = self.health.clone();
        let mut pause = self.pause.subscribe();
        loop {
            let objection = objection(
                &health.borrow_and_update(),
                pause.borrow_and_update().as_deref(),
            );
            let told = self.told.borrow().clone();
            if objection != told {
                if let Err(error) = self.tell(queue, told.is_some(), objection.as_deref()).await {
                    return error;
                }
                self.told.send_replace(objection);
            }
            tokio::select! {
                () = change(&mut health) => {}
                () = change(&mut pause) => {}
            }
        }
    }

    /// Waits until nothing speaks against taking a job, and the scheduler knows.
    pub(crate) async fn good(&self) {
        loop {
            until(&self.health, |health| *health == Health::Good).await;
            until(&self.told.subscribe(), Option::is_none).await;
            if *self.health.borrow() == Health::Good {
                return;
            }
        }
    }

    /// Objects to jobs. Returns when the scheduler knows that there is an objection, this one or another.
    pub(crate) async fn pause(&self, reason: String) {
        self.pause.send_replace(Some(reason));
        until(&self.told.subscribe(), Option::is_some).await;
    }

    /// Objects no more.
    pub(crate) fn resume(&self) {
        self.pause.send_replace(None);
    }

    async fn tell(
        &self,
        queue: &queue::Client,
        paused: bool,
        objection: Option<&str>,
    ) -> Result<(), RpcError> {
        if let (Some(reason), true) = (objection, self.explained.get()) {
            let queue: explained_queue::Client = queue.clone().cast_to();
            let mut request = queue.set_inactive_request();
            request.get().set_reason(reason);
            match request.send().promise.await.map_err(RpcError::from) {
                Err(RpcError::Unimplemented(_)) => self.explained.set(false),
                Err(error) => return Err(error),
                Ok(_) => return Ok(()),
            }
        }
        let active = objection.is_none();
        if active != paused {
            // One reason has taken the place of another, which this scheduler does not hear of.
            return Ok(());
        }
        let mut request = queue.set_active_request();
        request.get().set_active(active);
        request.send().promise.await?;
        Ok(())
    }
}

/// Everything that speaks against jobs, in one line.
fn objection(health: &Health, pause: Option<&str>) -> Option<String> {
    match (health, pause) {
        (Health::Bad(reason), Some(pause)) => Some(format!("{reason}; {pause}")),
        (Health::Bad(reason), None) => Some(reason.clone()),
        (_, pause) => pause.map(str::to_owned),
    }
}

/// Waits until there is something new; for ever if there never will be, as with an engine that nobody looks after.
async fn change<T>(value: &mut watch::Receiver<T>) {
    if value.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Waits until it is so; for ever if that cannot be any more.
async fn until<T>(value: &watch::Receiver<T>, is_so: impl FnMut(&T) -> bool) {
    if value.clone().wait_for(is_so).await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use futures::FutureExt as _;

    use super::*;

    /// What a scheduler was told, in order.
    #[derive(Clone, Default)]
    struct Scheduler(Rc<RefCell<Vec<String>>>);

    impl Scheduler {
        fn heard(&self) -> Vec<String> {
            self.0.take()
        }
    }

    impl queue::Server for Scheduler {
        async fn set_active(
            self: Rc<Self>,
            params: queue::SetActiveParams,
            _: queue::SetActiveResults,
        ) -> capnp::Result<()> {
            let active = params.get()?.get_active();
            self.0.borrow_mut().push(active.to_string());
            Ok(())
        }
    }

    /// One that keeps reasons.
    impl explained_queue::Server for Scheduler {
        async fn set_inactive(
            self: Rc<Self>,
            params: explained_queue::SetInactiveParams,
            _: explained_queue::SetInactiveResults,
        ) -> capnp::Result<()> {
            let reason = params.get()?.get_reason()?.to_string()?;
            self.0.borrow_mut().push(reason);
            Ok(())
        }
    }

    /// Tells `queue` of engines and disks that go bad and well again; the words are in what the scheduler heard.
    async fn tell_of_ups_and_downs(queue: queue::Client) {
        let (engine, health) = watch::channel(Health::Unknown);
        let standing = Standing::new(health);
        let ups_and_downs = async {
            assert!(standing.good().now_or_never().is_none(), "not known yet");
            engine.send_replace(Health::Good);
            standing.good().await;
            engine.send_replace(Health::Bad("engine away".into()));
            until(&standing.told.subscribe(), Option::is_some).await;
            assert!(standing.good().now_or_never().is_none());
            standing.pause("pruning".into()).await;
            // Only now both are known: one objection was enough to go on.
            until(&standing.told.subscribe(), |told| {
                told.as_deref() == Some("engine away; pruning")
            })
            .await;
            engine.send_replace(Health::Good);
            until(&standing.told.subscribe(), |told| {
                told.as_deref() == Some("pruning")
            })
            .await;
            standing.resume();
            standing.good().await;
        };
        tokio::select! {
            error = standing.keep_told(&queue) => panic!("{error}"),
            () = ups_and_downs => {}
        }
    }

    #[tokio::test]
    async fn the_scheduler_hears_all_reasons_and_each_once() {
        let scheduler = Scheduler::default();
        let queue: explained_queue::Client = capnp_rpc::new_client(scheduler.clone());
        tell_of_ups_and_downs(queue.cast_to()).await;
        assert_eq!(
            scheduler.heard(),
            ["engine away", "engine away; pruning", "pruning", "true"]
        );
    }

    #[tokio::test]
    async fn a_scheduler_that_knows_no_reasons_hears_when_and_not_why() {
        let scheduler = Scheduler::default();
        tell_of_ups_and_downs(capnp_rpc::new_client(scheduler.clone())).await;
        assert_eq!(scheduler.heard(), ["false", "true"]);
    }

    #[tokio::test]
    async fn an_engine_that_nobody_looks_after_keeps_nobody_from_pausing() {
        let scheduler = Scheduler::default();
        let queue: queue::Client = capnp_rpc::new_client(scheduler.clone());
        let (_, health) = watch::channel(Health::Good);
        let standing = Standing::new(health);
        tokio::select! {
            error = standing.keep_told(&queue) => panic!("{error}"),
            () = async {
                standing.good().await;
                standing.pause("pruning".into()).await;
                standing.resume();
                standing.good().await;
            } => {}
        }
        assert_eq!(scheduler.heard(), ["false", "true"]);
    }

    #[tokio::test]
    async fn a_scheduler_that_refuses_to_listen_is_left() {
        let error = capnp::Error::failed("the store is broken".into());
        let queue = ocluster_vat::broken_cap(error);
        let (_engine, health) = watch::channel(Health::Bad("engine away".into()));
        let standing = Standing::new(health);
        assert_eq!(
            standing.keep_told(&queue).await,
            RpcError::Failed("the store is broken".into())
        );
    }
}
