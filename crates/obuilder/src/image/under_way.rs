//! Which layers somebody is unpacking right now, so that nobody makes the same one beside them.
//!
//! Nobody waits for a fetch of others, and nobody waits without end: who stands still is waited for no longer.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::StepId;

/// The layers under way. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub(super) struct UnderWay {
    table: Arc<Mutex<HashMap<StepId, Waiting>>>,
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
    work: StepId,
    /// Others wait until it is gone.
    _signal: watch::Sender<()>,
}

/// The end of somebody else's attempt.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    end: watch::Receiver<()>,
    pulse: Pulse,
}

/// Counts what an install gets done. Clones count together.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

/// A reader whose progress counts.
pub(super) struct Heard<R> {
    reader: R,
    pulse: Pulse,
}

impl UnderWay {
    /// Takes the layer, unless somebody has it. `work` tells whose bytes it and all below it are made of: those who would do the same
    /// work wait for each other, and nobody else does.
    pub(super) fn claim(&self, work: StepId, pulse: &Pulse) -> Claim {
        let mut table = self.lock();
        if let Some(theirs) = table.get(&work) {
            return Claim::Theirs(theirs.clone());
        }
        let (signal, end) = watch::channel(());
        let pulse = pulse.clone();
        table.insert(work, Waiting { end, pulse });
        Claim::Ours(Lead {
            table: self.clone(),
            work,
            _signal: signal,
        })
    }

    /// The end of what somebody else does, if somebody does it.
    pub(super) fn theirs(&self, work: StepId) -> Option<Waiting> {
        self.lock().get(&work).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<StepId, Waiting>> {
        // A map is whole after each of its operations, whoever panicked meanwhile.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Waits until the other is done, or has failed: true. False if it gets nothing done for `patience` (or up to twice that).
    pub(super) async fn over(mut self, patience: Duration) -> bool {
        loop {
            let before = self.pulse.count();
            match timeout(patience, self.end.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return true,
                Err(_) if self.pulse.count() == before => return false,
                Err(_) => {}
            }
        }
    }
}

impl Pulse {
    /// Something was done.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The same bytes; each piece of them is something done.
    pub(super) fn hear<R>(&self, reader: R) -> Heard<R> {
        let pulse = self.clone();
        Heard { reader, pulse }
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl<R: Read> Read for Heard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.pulse.beat();
        self.reader.read(buffer)
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        self.table.lock().remove(&self.work);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn taken(table: &UnderWay, work: StepId, pulse: &Pulse) -> Lead {
        match table.claim(work, pulse) {
            Claim::Ours(lead) => lead,
            Claim::Theirs(_) => panic!("nobody has it"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_second_waits_and_may_then_try() {
        let (table, pulse) = (UnderWay::default(), Pulse::default());
        let work = StepId::from_bytes([1; 32]);
        let lead = taken(&table, work, &pulse);
        let Claim::Theirs(waiting) = table.claim(work, &Pulse::default()) else {
            panic!("it is taken");
        };
        taken(&table, StepId::from_bytes([2; 32]), &pulse);
        let waiter = tokio::spawn(waiting.over(PATIENCE));
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(lead);
        assert!(waiter.await.unwrap());
        assert!(table.theirs(work).is_none());
        taken(&table, work, &pulse);
    }

    #[tokio::test(start_paused = true)]
    async fn who_stands_still_is_waited_for_no_longer() {
        let (table, pulse) = (UnderWay::default(), Pulse::default());
        let work = StepId::from_bytes([1; 32]);
        let _lead = taken(&table, work, &pulse);
        let waiting = table.theirs(work).unwrap();
        let waiter = tokio::spawn(waiting.over(PATIENCE));
        for _ in 0..20 {
            tokio::time::sleep(PATIENCE / 3).await;
            pulse.beat();
            assert!(!waiter.is_finished(), "it gets something done");
        }
        let still = tokio::time::Instant::now();
        assert!(!waiter.await.unwrap());
        assert!(still.elapsed() <= PATIENCE * 2);
    }
}
