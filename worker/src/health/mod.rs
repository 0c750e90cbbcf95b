//! Whether the Docker engine and the OBuilder store do their work: looked at when the worker starts, then now and then, and at once
//! when a job fails because of the engine.
//!
//! `check` decides when to look and what follows; `engine` is the real engine. What is found is told to the scheduler elsewhere
//! (`standing`); running jobs are never touched.

mod check;
mod engine;

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::Config;
use crate::disk_care::Host;
use crate::metrics::Checked;
use crate::trouble::Trouble;

pub(crate) use check::Patient;

use check::HealthCheck;

/// How often the engine is looked at while it is well, unless the operator says otherwise.
pub const HEALTH_CHECK_PERIOD: Duration = Duration::from_secs(60);

/// How long an engine may take to show that it is well.
const ENGINE_LIMIT: Duration = Duration::from_secs(30);
/// How long a store may take, the fetch of an image included. Builds have a shorter limit of their own.
const STORE_LIMIT: Duration = Duration::from_secs(600);

/// What is known of what jobs need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not been looked at yet.
    Unknown,
    /// Nothing is known against it.
    Good,
    /// It does not do its work; in words for people.
    Bad(String),
}

impl Health {
    /// Of two things that jobs need.
    fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::Bad(one), Self::Bad(other)) => Self::Bad(format!("{one}; {other}")),
            (bad @ Self::Bad(_), _) | (_, bad @ Self::Bad(_)) => bad.clone(),
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Good, Self::Good) => Self::Good,
        }
    }
}

/// The health of the worker, kept up to date as long as `checking` lives.
pub(crate) struct Watched {
    pub(crate) health: watch::Receiver<Health>,
    #[expect(dead_code, reason = "held for its drop")]
    checking: Vec<AbortOnDropHandle<()>>,
}

/// Begins to look after the engine and the store of `config`, as far as it has them and their health is to be checked; else they are
/// good for ever.
///
/// Must be called inside a `LocalSet`.
pub(crate) fn watch(config: &Config, pool: &tokio::runtime::Handle, trouble: &Trouble) -> Watched {
    let mut checking = Vec::new();
    let (told, engine) = watch::channel(Health::Good);
    if let (Some(period), Some(docker)) = (config.health_check, &config.executors.docker) {
        told.send_replace(Health::Unknown);
        let executors = &config.executors;
        let check = HealthCheck {
            patient: Host::new(docker.clone(), pool.clone()),
            checked: Checked::Engine,
            period,
            limit: ENGINE_LIMIT,
            // Somebody who runs jobs of other kinds may never have had an engine.
            may_never_come: executors.test_kind
                || executors.obuilder.is_some()
                || !executors.custom.is_empty(),
            metrics: config.metrics.clone(),
            trouble: trouble.clone(),
            told,
        };
        checking.push(tokio::task::spawn_local(check.run()));
    }
    let (told, store) = watch::channel(Health::Good);
    if let Some(obuilder) = &config.executors.obuilder
        && let Some(period) = obuilder.health_check()
    {
        told.send_replace(Health::Unknown);
        let check = HealthCheck {
            patient: obuilder.clone(),
            checked: Checked::Store,
            period,
            limit: STORE_LIMIT,
            may_never_come: false,
            metrics: config.metrics.clone(),
            trouble: trouble.clone(),
            told,
        };
        checking.push(tokio::task::spawn_local(check.run()));
    }
    let (told, health) = watch::channel(engine.borrow().and(&store.borrow()));
    checking.push(tokio::task::spawn_local(keep_summed_up(
        engine, store, told,
    )));
    Watched {
        health,
        checking: checking.into_iter().map(AbortOnDropHandle::new).collect(),
    }
}

/// Tells how both are together, whenever that changes.
async fn keep_summed_up(
    mut engine: watch::Receiver<Health>,
    mut store: watch::Receiver<Health>,
    told: watch::Sender<Health>,
) {
    loop {
        let both = engine.borrow_and_update().and(&store.borrow_and_update());
        told.send_if_modified(|before| {
            let changed = *before != both;
            *before = both;
            changed
        });
        // What nobody looks after never changes.
        tokio::select! {
            Ok(()) = engine.changed() => {}
            Ok(()) = store.changed() => {}
            else => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_as_well_as_the_worst_of_what_its_jobs_need() {
        let bad = |reason: &str| Health::Bad(reason.into());
        for (one, other, both) in [
            (Health::Good, Health::Good, Health::Good),
            (Health::Good, Health::Unknown, Health::Unknown),
            (Health::Unknown, bad("no runc"), bad("no runc")),
            (bad("no engine"), Health::Good, bad("no engine")),
            (bad("no engine"), bad("no runc"), bad("no engine; no runc")),
        ] {
            assert_eq!(one.and(&other), both);
        }
    }
}
