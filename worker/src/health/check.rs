//! When to look at what jobs need, and what follows from what is seen.
//!
//! A healthy engine or store is looked at once in a period. One that is not is looked at again soon, then less and less often, so that
//! the worker is back within a minute of it. Every look has a limit, and is abandoned when the future is dropped.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::Health;
use crate::metrics::{Checked, Metrics};
use crate::trouble::Trouble;

/// How soon a failed look is repeated.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// How long the wait between two looks gets at most while the engine is unwell.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What may be unwell.
pub(crate) trait Patient {
    /// Looks at it, and says in a sentence what is wrong.
    async fn examine(&self) -> Result<(), String>;
}

/// Looks after one of them.
pub(crate) struct HealthCheck<P> {
    pub(crate) patient: P,
    /// What it is.
    pub(crate) checked: Checked,
    /// How often to look while nothing is wrong.
    pub(crate) period: Duration,
    /// How long it may take to show that it is well. One that takes longer keeps jobs waiting just as long.
    pub(crate) limit: Duration,
    /// Whether one that has never answered is none of the worker's business.
    pub(crate) may_never_come: bool,
    pub(crate) metrics: Metrics,
    /// Tells when jobs fail because of the engine, and is told when such failures have come to an end.
    pub(crate) trouble: Trouble,
    pub(crate) told: watch::Sender<Health>,
}

impl<P: Patient> HealthCheck<P> {
    /// Looks again and again, and tells. Ends only by being dropped.
    pub(crate) async fn run(self) {
        let mut ever_well = false;
        let mut retry = FIRST_RETRY;
        loop {
            let started = Instant::now();
            let found = self.look().await;
            ever_well |= found.is_ok();
            let missed = ever_well || !self.may_never_come;
            if self.checked == Checked::Engine {
                self.trouble.engine_is_missed(missed);
            }
            let health = match found {
                Err(reason) if missed => Health::Bad(reason),
                Err(reason) => {
                    self.say_once_that_it_is_not_missed(&reason);
                    Health::Good
                }
                Ok(()) => Health::Good,
            };
            let good = health == Health::Good;
            self.metrics
                .health_checked(self.checked, started.elapsed(), good);
            self.tell(health);
            let wait = if good {
                retry = FIRST_RETRY;
                self.period
            } else {
                let wait = retry;
                retry = (retry * 2).min(LAST_RETRY);
                wait
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.trouble.engine_failure(), if self.checked == Checked::Engine => {}
            }
        }
    }

    async fn look(&self) -> Result<(), String> {
        match timeout(self.limit, self.patient.examine()).await {
            Ok(found) => found,
            Err(_) => Err(format!(
                "the {} does not answer within {} s",
                self.checked,
                self.limit.as_secs()
            )),
        }
    }

    fn say_once_that_it_is_not_missed(&self, reason: &str) {
        if *self.told.borrow() == Health::Unknown {
            warn!(
                "There is no {} ({reason}). Taking jobs, as some need none",
                self.checked
            );
        }
    }

    fn tell(&self, health: Health) {
        let before = self.told.send_replace(health.clone());
        match (before, health) {
            (Health::Bad(before), Health::Bad(now)) if before == now => {}
            (_, Health::Bad(reason)) => warn!("Not taking jobs: {reason}"),
            (Health::Bad(_), _) => {
                self.trouble.is_over();
                info!("The {} is well again. Taking jobs", self.checked);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
