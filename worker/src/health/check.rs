//! When to look at an engine, and what follows from what is seen.
//!
//! A healthy engine is looked at once in a period. One that is not is looked at again soon, then less and less often, so that the
//! worker is back within a minute of its engine. Every look has a limit, and is abandoned when the future is dropped.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::Health;
use crate::metrics::Metrics;
use crate::trouble::Trouble;

/// How long an engine may take to show that it is well. One that takes longer keeps jobs waiting just as long.
const LIMIT: Duration = Duration::from_secs(30);
/// How soon a failed look is repeated.
const FIRST_RETRY: Duration = Duration::from_secs(2);
/// How long the wait between two looks gets at most while the engine is unwell.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// What may be unwell.
pub(crate) trait Patient {
    /// Looks at it, and says in a sentence what is wrong.
    async fn examine(&self) -> Result<(), String>;
}

/// Looks after one engine.
pub(crate) struct HealthCheck<P> {
    pub(crate) patient: P,
    /// How often to look while nothing is wrong.
    pub(crate) period: Duration,
    /// Whether an engine that has never answered is none of the worker's business.
    pub(crate) may_never_come: bool,
    pub(crate) metrics: Metrics,
    /// Tells when jobs fail because of the engine, and is told when that has come to an end.
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
            self.trouble.engine_is_missed(missed);
            let health = match found {
                Err(reason) if missed => Health::Bad(reason),
                Err(reason) => {
                    self.say_once_that_it_is_not_missed(&reason);
                    Health::Good
                }
                Ok(()) => Health::Good,
            };
            let good = health == Health::Good;
            self.metrics.health_checked(started.elapsed(), good);
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
                () = self.trouble.engine_failure() => {}
            }
        }
    }

    async fn look(&self) -> Result<(), String> {
        match timeout(LIMIT, self.patient.examine()).await {
            Ok(found) => found,
            Err(_) => Err(format!(
                "the Docker engine does not answer within {} s",
                LIMIT.as_secs()
            )),
        }
    }

    fn say_once_that_it_is_not_missed(&self, reason: &str) {
        if *self.told.borrow() == Health::Unknown {
            warn!("There is no Docker engine ({reason}). Taking jobs, as some need none");
        }
    }

    fn tell(&self, health: Health) {
        let before = self.told.send_replace(health.clone());
        match (before, health) {
            (Health::Bad(before), Health::Bad(now)) if before == now => {}
            (_, Health::Bad(reason)) => warn!("Not taking jobs: {reason}"),
            (Health::Bad(_), _) => {
                self.trouble.is_over();
                info!("The Docker engine is well again. Taking jobs");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
