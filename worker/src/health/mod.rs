//! Whether the Docker engine does its work: looked at when the worker starts, then now and then, and at once when a job fails because
//! of it.
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
use crate::trouble::Trouble;

use check::HealthCheck;

/// How often the engine is looked at while it is well, unless the operator says otherwise.
pub const HEALTH_CHECK_PERIOD: Duration = Duration::from_secs(60);

/// What is known of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// It has not been looked at yet.
    Unknown,
    /// Nothing is known against it.
    Good,
    /// It does not do its work; in words for people.
    Bad(String),
}

/// The health of the engine, kept up to date as long as `checking` lives.
pub(crate) struct Watched {
    pub(crate) health: watch::Receiver<Health>,
    #[expect(dead_code, reason = "held for its drop")]
    checking: Option<AbortOnDropHandle<()>>,
}

/// Begins to look after the engine of `config`, if it has one and its health is to be checked; else it is good for ever.
///
/// Must be called inside a `LocalSet`.
pub(crate) fn watch(config: &Config, pool: &tokio::runtime::Handle, trouble: &Trouble) -> Watched {
    let (told, health) = watch::channel(Health::Unknown);
    let (Some(period), Some(docker)) = (config.health_check, &config.executors.docker) else {
        told.send_replace(Health::Good);
        return Watched {
            health,
            checking: None,
        };
    };
    let check = HealthCheck {
        patient: Host::new(docker.clone(), pool.clone()),
        period,
        // Somebody who runs jobs of other kinds may never have had an engine.
        may_never_come: config.executors.test_kind || !config.executors.custom.is_empty(),
        metrics: config.metrics.clone(),
        trouble: trouble.clone(),
        told,
    };
    let checking = tokio::task::spawn_local(check.run());
    Watched {
        health,
        checking: Some(AbortOnDropHandle::new(checking)),
    }
}
