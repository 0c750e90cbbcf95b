//! Steps under way: builds that ask for the same step share the work, its log and its result.
//!
//! The work belongs to a task of its own, never to one of its users: a user may go at any time, and only when the last one has gone
//! is the work told to stop. Whatever happens to the task, it leaves the table and its users get an answer.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::FutureExt;
use tokio_util::sync::CancellationToken;

use super::BuildError;
use super::feed::{Feed, Publisher, feed};
use crate::StepId;
use crate::store::Layer;

/// How a shared step ended.
pub(super) type Outcome = Result<Made, BuildError>;

/// The result of a step.
#[derive(Clone, Debug)]
pub(super) struct Made {
    /// What is in the store.
    pub(super) layer: Layer,
    /// Whether it was there before.
    pub(super) cached: bool,
}

/// The steps under way in one store. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    table: Arc<Mutex<HashMap<StepId, Slot>>>,
}

/// One step under way.
#[derive(Debug)]
struct Slot {
    /// Who waits for it. Once nobody does, it is being cancelled, and nobody can join any more.
    users: usize,
    step: Arc<Step>,
}

#[derive(Debug)]
struct Step {
    cancel: CancellationToken,
    feed: Feed,
    /// There when the step is over; missing then if its task died.
    outcome: OnceLock<Outcome>,
    /// Fires when the step is over, and its task holds nothing of it any more.
    over: CancellationToken,
}

/// A user's part in a step. Dropping it is leaving.
#[derive(Debug)]
pub(super) struct Share {
    id: StepId,
    steps: Steps,
    step: Arc<Step>,
}

/// How somebody gets to a step.
pub(super) enum Entry {
    /// As one of its users.
    Joined(Share),
    /// Not yet: it is being cancelled. To be tried again when this is over.
    Cancelling(Leaving),
}

/// A step that is being cancelled.
pub(super) struct Leaving(CancellationToken);

impl Steps {
    /// Joins the step `id`, or starts it: then `work` runs in a task of its own, is to stop soon when its token fires, and says with
    /// its publisher what there is to tell.
    pub(super) fn enter<Work>(
        &self,
        id: StepId,
        work: impl FnOnce(Publisher, CancellationToken) -> Work,
    ) -> Entry
    where
        Work: Future<Output = Outcome> + Send + 'static,
    {
        let mut table = self.lock();
        if let Some(slot) = table.get_mut(&id) {
            if slot.users == 0 {
                return Entry::Cancelling(Leaving(slot.step.over.clone()));
            }
            slot.users += 1;
            return Entry::Joined(self.share(id, Arc::clone(&slot.step)));
        }
        let (publisher, feed) = feed();
        let step = Arc::new(Step {
            cancel: CancellationToken::new(),
            feed,
            outcome: OnceLock::new(),
            over: CancellationToken::new(),
        });
        let slot = Slot {
            users: 1,
            step: Arc::clone(&step),
        };
        table.insert(id, slot);
        drop(table);
        let end = TaskEnd {
            id,
            steps: self.clone(),
            over: step.over.clone(),
            step: Some(Arc::clone(&step)),
        };
        let work = work(publisher, step.cancel.clone());
        tokio::spawn(async move {
            let outcome = AssertUnwindSafe(work).catch_unwind().await;
            end.publish(outcome.unwrap_or_else(|_| Err(died())));
        });
        Entry::Joined(self.share(id, step))
    }

    /// Waits until no step is under way, those that are being cancelled included.
    pub(super) async fn settled(&self) {
        loop {
            let next = self
                .lock()
                .values()
                .next()
                .map(|slot| slot.step.over.clone());
            match next {
                Some(over) => over.cancelled().await,
                None => return,
            }
        }
    }

    fn share(&self, id: StepId, step: Arc<Step>) -> Share {
        Share {
            id,
            steps: self.clone(),
            step,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StepId, Slot>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many users the step `id` has, if it is under way.
    #[cfg(test)]
    fn users(&self, id: StepId) -> Option<usize> {
        self.lock().get(&id).map(|slot| slot.users)
    }
}

impl Share {
    /// All that the step tells, from its start.
    pub(super) fn feed(&self) -> Feed {
        self.step.feed.clone()
    }

    /// How the step ends; waits for it, and until its task holds nothing of it any more: a result that its users drop is free then.
    pub(super) async fn outcome(&self) -> Outcome {
        self.step.over.cancelled().await;
        let outcome = self.step.outcome.get().cloned();
        outcome.unwrap_or_else(|| Err(died()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut table = self.steps.lock();
        // A step that is over is not in the table any more; another one under its id is none of ours.
        let Some(slot) = table
            .get_mut(&self.id)
            .filter(|slot| Arc::ptr_eq(&slot.step, &self.step))
        else {
            return;
        };
        slot.users = slot.users.saturating_sub(1);
        let forsaken = slot.users == 0;
        drop(table);
        if forsaken {
            self.step.cancel.cancel();
        }
    }
}

impl Leaving {
    /// Waits until the step is over.
    pub(super) async fn over(self) {
        self.0.cancelled().await;
    }
}

/// The task's part. When it goes, whether the task ended or was thrown away, the step leaves the table and is over.
struct TaskEnd {
    id: StepId,
    steps: Steps,
    step: Option<Arc<Step>>,
    over: CancellationToken,
}

impl TaskEnd {
    fn publish(self, outcome: Outcome) {
        if let Some(step) = &self.step {
            // It was empty, since there is one task for each step.
            let _ = step.outcome.set(outcome).is_ok();
        }
    }
}

impl Drop for TaskEnd {
    fn drop(&mut self) {
        let slot = self.steps.lock().remove(&self.id);
        // In this order, so that nothing is held by us when users come to know.
        drop((slot, self.step.take()));
        self.over.cancel();
    }
}

fn died() -> BuildError {
    BuildError::Machine(
        "the step ended without a result, because of a fault of the builder itself; its log has the details".to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ID: StepId = StepId::from_bytes([7; 32]);

    fn fails(text: &str) -> Outcome {
        Err(BuildError::Failed(text.to_owned()))
    }

    fn joined(entry: Entry) -> Share {
        match entry {
            Entry::Joined(share) => share,
            Entry::Cancelling(_) => panic!("the step is being cancelled"),
        }
    }

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(30), future)
            .await
            .expect("nothing happened for too long")
    }

    #[tokio::test]
    async fn two_users_share_one_piece_of_work_and_its_end() {
        let steps = Steps::default();
        let go = CancellationToken::new();
        let work = go.clone();
        let first = joined(steps.enter(ID, |_, _| async move {
            work.cancelled().await;
            fails("once")
        }));
        let second = joined(steps.enter(ID, |_, _| async { panic!("started twice") }));
        assert_eq!(steps.users(ID), Some(2));
        go.cancel();
        for share in [first, second] {
            assert_eq!(
                within(share.outcome()).await.unwrap_err().to_string(),
                "once"
            );
        }
        assert_eq!(steps.users(ID), None);
    }

    #[tokio::test]
    async fn only_the_last_user_to_go_cancels() {
        let steps = Steps::default();
        let seen = CancellationToken::new();
        let told = seen.clone();
        let work = |_, cancel: CancellationToken| async move {
            cancel.cancelled().await;
            told.cancel();
            Err(BuildError::Cancelled)
        };
        let first = joined(steps.enter(ID, work));
        let second = joined(steps.enter(ID, |_, _| async { fails("no") }));
        drop(first);
        tokio::task::yield_now().await;
        assert!(!seen.is_cancelled());
        drop(second);
        within(seen.cancelled()).await;
    }

    #[tokio::test]
    async fn who_meets_a_cancelling_step_waits_for_its_end_and_starts_anew() {
        let steps = Steps::default();
        let stop = CancellationToken::new();
        let work = stop.clone();
        drop(joined(steps.enter(ID, |_, _| async move {
            work.cancelled().await;
            Err(BuildError::Cancelled)
        })));
        let Entry::Cancelling(leaving) = steps.enter(ID, |_, _| async { fails("too early") })
        else {
            panic!("joined a step that is being cancelled");
        };
        let waiting = tokio::spawn(leaving.over());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        stop.cancel();
        within(waiting).await.unwrap();
        let anew = joined(steps.enter(ID, |_, _| async { fails("anew") }));
        assert_eq!(
            within(anew.outcome()).await.unwrap_err().to_string(),
            "anew"
        );
    }

    #[tokio::test]
    async fn steps_that_are_being_cancelled_are_waited_for() {
        let steps = Steps::default();
        within(steps.settled()).await;
        let stop = CancellationToken::new();
        let work = stop.clone();
        drop(joined(steps.enter(ID, |_, _| async move {
            work.cancelled().await;
            Err(BuildError::Cancelled)
        })));
        let all = steps.clone();
        let waiting = tokio::spawn(async move { all.settled().await });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        stop.cancel();
        within(waiting).await.unwrap();
        assert_eq!(steps.users(ID), None);
    }

    #[tokio::test]
    async fn leaving_a_step_that_is_over_does_not_touch_its_successor() {
        let steps = Steps::default();
        let old = joined(steps.enter(ID, |_, _| async { fails("old") }));
        let _ = within(old.outcome()).await.is_ok();
        let new = joined(steps.enter(ID, |_, cancel| async move {
            cancel.cancelled().await;
            Err(BuildError::Cancelled)
        }));
        drop(old);
        assert_eq!(steps.users(ID), Some(1));
        assert!(!new.step.cancel.is_cancelled());
    }

    #[tokio::test]
    async fn a_panic_ends_everybody_with_an_error() {
        let steps = Steps::default();
        let share = joined(steps.enter(ID, |publisher, _| async move {
            let _publisher = publisher;
            panic!("a fault, on purpose")
        }));
        assert!(matches!(
            within(share.outcome()).await,
            Err(BuildError::Machine(_))
        ));
        assert_eq!(within(share.feed().next()).await.unwrap(), None);
        assert_eq!(steps.users(ID), None);
    }

    #[test]
    fn a_task_that_is_thrown_away_ends_everybody_with_an_error() {
        let steps = Steps::default();
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap()
        };
        let gone = runtime();
        let share = gone.block_on(async { joined(steps.enter(ID, |_, _| std::future::pending())) });
        drop(gone);
        let outcome = runtime().block_on(share.outcome());
        assert!(matches!(outcome, Err(BuildError::Machine(_))));
        assert_eq!(steps.users(ID), None);
    }
}
