//! Who may work now: at most so many stages of a build at once, and the earlier ones first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Leave to work, for a limited number at once. Clones share the number.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    free: usize,
    /// By their place in the build.
    waiting: BTreeMap<usize, oneshot::Sender<Turn>>,
}

/// Leave to work. Dropping it gives it to the earliest stage that waits.
#[derive(Debug)]
pub(super) struct Turn {
    /// Taken out once it is somebody else's.
    turns: Option<Turns>,
}

impl Turns {
    /// Leave for `number` (at least one) at once.
    pub(super) fn new(number: usize) -> Self {
        let state = State {
            free: number.max(1),
            waiting: BTreeMap::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Waits for leave. No two may wait at once for the same `place`.
    pub(super) async fn take(&self, place: usize) -> Turn {
        let granted = {
            let mut state = self.lock();
            if state.free > 0 {
                state.free -= 1;
                return self.turn();
            }
            let (grant, granted) = oneshot::channel();
            state.waiting.insert(place, grant);
            granted
        };
        // Whoever gives up waiting drops the receiver, with the turn in it if there is one.
        match granted.await {
            Ok(turn) => turn,
            // Only another waiter at our place could have pushed us out. Work rather than wait for ever.
            Err(_) => self.turn(),
        }
    }

    fn turn(&self) -> Turn {
        Turn {
            turns: Some(self.clone()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // A loop, and never a drop within this one: a build that is thrown away may leave any number of waiters that are gone.
        while let Some(turns) = self.turns.take() {
            let next = {
                let mut state = turns.lock();
                let next = state.waiting.pop_first();
                if next.is_none() {
                    state.free += 1;
                }
                next
            };
            if let Some((_, grant)) = next
                && let Err(mut refused) = grant.send(Self { turns: Some(turns) })
            {
                self.turns = refused.turns.take();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_earliest_waiter_is_next() {
        let turns = Turns::new(1);
        let first = turns.take(0).await;
        let mut late = Box::pin(turns.take(7));
        let mut early = Box::pin(turns.take(3));
        assert!(late.as_mut().now_or_never().is_none());
        assert!(early.as_mut().now_or_never().is_none());
        drop(first);
        assert!(late.as_mut().now_or_never().is_none());
        let early = early.as_mut().now_or_never().unwrap();
        drop(early);
        assert!(late.as_mut().now_or_never().is_some());
    }

    #[tokio::test]
    async fn who_gives_up_waiting_takes_no_turn_along() {
        let turns = Turns::new(1);
        let first = turns.take(0).await;
        let mut gone = Box::pin(turns.take(1));
        assert!(gone.as_mut().now_or_never().is_none());
        let mut granted = Box::pin(turns.take(2));
        assert!(granted.as_mut().now_or_never().is_none());
        drop(gone);
        drop(first);
        // Granted, but never looked at.
        drop(granted);
        assert!(turns.take(3).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_turn_passes_over_many_waiters_that_are_gone() {
        let turns = Turns::new(1);
        let first = turns.take(0).await;
        for place in 1..100_000 {
            assert!(turns.take(place).now_or_never().is_none());
        }
        drop(first);
        assert!(turns.take(0).now_or_never().is_some());
    }

    #[tokio::test]
    async fn so_many_at_once_and_no_more() {
        let turns = Turns::new(2);
        let _one = turns.take(0).await;
        let two = turns.take(1).await;
        assert!(turns.take(2).now_or_never().is_none());
        drop(two);
        assert!(turns.take(3).now_or_never().is_some());
    }
}
