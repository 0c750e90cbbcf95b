//! Which layers somebody is making right now, so that nobody makes the same one beside them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::StepId;

/// The layers under way. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay {
    ids: Arc<Mutex<HashMap<StepId, watch::Receiver<()>>>>,
}

/// Who makes a layer.
pub(super) enum Claim {
    /// The caller, as long as this exists.
    Ours(Lead),
    /// Somebody else.
    Theirs(Waiting),
}

/// The right to make a layer.
pub(super) struct Lead {
    table: UnderWay,
    id: StepId,
    /// Others wait until it is gone.
    _signal: watch::Sender<()>,
}

/// The end of somebody else's attempt.
pub(super) struct Waiting(watch::Receiver<()>);

impl UnderWay {
    /// Takes the layer, unless somebody has it.
    pub(super) fn claim(&self, id: StepId) -> Claim {
        let mut ids = self.lock();
        if let Some(theirs) = ids.get(&id) {
            return Claim::Theirs(Waiting(theirs.clone()));
        }
        let (signal, waiting) = watch::channel(());
        ids.insert(id, waiting);
        Claim::Ours(Lead {
            table: self.clone(),
            id,
            _signal: signal,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StepId, watch::Receiver<()>>> {
        // A map is whole after each of its operations, whoever panicked meanwhile.
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Waits until the other is done, or has failed.
    pub(super) async fn over(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.table.lock().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_second_waits_and_may_then_try() {
        let table = UnderWay::default();
        let id = StepId::from_bytes([1; 32]);
        let Claim::Ours(lead) = table.claim(id) else {
            panic!("nobody has it");
        };
        let Claim::Theirs(waiting) = table.claim(id) else {
            panic!("it is taken");
        };
        assert!(matches!(
            table.claim(StepId::from_bytes([2; 32])),
            Claim::Ours(_)
        ));
        let waiter = tokio::spawn(waiting.over());
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(lead);
        waiter.await.unwrap();
        assert!(matches!(table.claim(id), Claim::Ours(_)));
    }
}
