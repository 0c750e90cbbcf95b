//! `run`: a command in a sandbox.

use bstr::{BString, ByteSlice};
use futures::FutureExt;
use futures::future::BoxFuture;
use ocluster_obuilder_spec::{Cache, Run, RunKey};
use tokio_util::sync::CancellationToken;
use zeroize::{Zeroize, Zeroizing};

use super::engine::Engine;
use super::fault::Fault;
use super::layered::{Change, view};
use super::place::Place;
use super::{BuildError, Secrets, room, words};
use crate::sandbox::{self, CacheMount, Ended, Network, SecretFile, Step};
use crate::store::{CacheLease, Draft, Layer};
use crate::{StepId, StepLog};

/// A `run`, with everything it needs.
pub(super) struct Command {
    argv: Vec<BString>,
    place: Place,
    network: Network,
    caches: Vec<Cache>,
    /// Values and targets, in reverse order of the spec's.
    secrets: Vec<(Zeroizing<Vec<u8>>, BString)>,
}

impl Command {
    /// What `run` does at `place`.
    ///
    /// # Errors
    /// A secret that nobody gave; a network there is not.
    pub(super) fn new(run: &Run, place: &Place, secrets: &Secrets) -> Result<Self, BuildError> {
        let secrets = run
            .secrets
            .iter()
            .rev()
            .map(|secret| {
                let value = secret.id.to_str().ok().and_then(|id| secrets.0.get(id));
                match value {
                    Some(value) => Ok((value.clone(), secret.target.clone())),
                    None => Err(BuildError::Failed(format!(
                        "Couldn't find value for requested secret '{}'",
                        secret.id
                    ))),
                }
            })
            .collect::<Result<_, _>>()?;
        let network = match run.network.as_slice() {
            [] => Network::None,
            [name] if name == "host" => Network::Host,
            names => return Err(BuildError::Failed(words::unsupported_network(names))),
        };
        let mut argv = place.shell.clone();
        argv.push(run.shell.clone());
        Ok(Self {
            argv,
            place: place.clone(),
            network,
            caches: run.caches.clone(),
            secrets,
        })
    }

    /// The step's id, above `base`.
    pub(super) fn id(&self, base: StepId, run: &Run) -> StepId {
        let mut secrets: Vec<(BString, BString)> = self
            .secrets
            .iter()
            .map(|(value, target)| (BString::from(value.as_slice()), target.clone()))
            .collect();
        let id = RunKey {
            base,
            workdir: &self.place.workdir,
            user: &self.place.user,
            env: &self.place.env,
            command: &run.shell,
            shell: &self.place.shell,
            network: &run.network,
            secrets: &secrets,
        }
        .id();
        for (value, _) in &mut secrets {
            value.zeroize();
        }
        id
    }

    async fn run(
        &self,
        engine: &Engine,
        draft: &Draft,
        base: &Layer,
        log: &StepLog,
        cancel: &CancellationToken,
    ) -> Result<(), Fault> {
        let user = sandbox::resolve(&self.place.user, &view(base).await?).await?;
        let mut leases = Vec::with_capacity(self.caches.len());
        for cache in &self.caches {
            leases.push(engine.store.cache(cache.id.as_bstr(), user).await?);
        }
        let step = self.step(engine, draft, user, &leases);
        let ended = engine.sandbox.run(step, log, cancel).await?;
        // A failed command may have filled the cache with what the next one needs as well.
        for (lease, cache) in leases.into_iter().zip(&self.caches) {
            if let Err(error) = lease.release().await {
                tracing::warn!(cache = %cache.id, %error, "the cache keeps its former content");
            }
        }
        match ended {
            Ended::Exited(0) => Ok(()),
            Ended::Cancelled => Err(BuildError::Cancelled.into()),
            ended => Err(Fault {
                full_disk: matches!(ended, Ended::Exited(_) | Ended::Signalled(_))
                    && room::was_wanting(&engine.store, log).await,
                error: BuildError::Failed(words::failed(&self.argv, ended, &engine.options.limits)),
            }),
        }
    }

    fn step(
        &self,
        engine: &Engine,
        draft: &Draft,
        user: (u32, u32),
        leases: &[CacheLease],
    ) -> Step {
        Step {
            rootfs: draft.rootfs().clone(),
            argv: self.argv.clone(),
            cwd: self.place.workdir.clone(),
            env: self.place.env.clone(),
            user,
            network: self.network,
            caches: leases
                .iter()
                .zip(&self.caches)
                .map(|(lease, cache)| CacheMount {
                    tree: lease.rootfs().clone(),
                    target: cache.target.clone(),
                })
                .collect(),
            secrets: self
                .secrets
                .iter()
                .map(|(value, target)| SecretFile {
                    value: value.clone(),
                    target: target.clone(),
                })
                .collect(),
            limits: engine.options.limits,
        }
    }
}

impl Change for Command {
    fn apply<'a>(
        &'a self,
        engine: &'a Engine,
        draft: &'a Draft,
        base: &'a Layer,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<(), Fault>> {
        self.run(engine, draft, base, log, cancel).boxed()
    }
}
