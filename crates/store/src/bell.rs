//! How the writer's thread is called from its rest, by those who cannot wait for its end.
//!
//! Changes that nobody waits for do not ring: waking a thread for each of them would cost more than writing them.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    wake: Condvar,
}

impl Bell {
    /// Ends the rest at hand, or the next one.
    pub(crate) fn ring(&self) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *rung, true);
        drop(rung);
        if !before {
            self.wake.notify_one();
        }
    }

    /// Rests until somebody rings, or has rung since the last rest, but not beyond `end`.
    pub(crate) fn rest_until(&self, end: Instant) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        while !*rung {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            rung = self
                .wake
                .wait_timeout(rung, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *rung = false;
    }
}
