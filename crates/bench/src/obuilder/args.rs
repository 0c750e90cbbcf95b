//! The command line, and the order of things.

use std::thread;

use anyhow::{Context as _, anyhow};
use clap::Args;
use ocluster_obuilder::store::{Kind, Location, RsyncMode};
use tempfile::TempDir;

use super::lab::Lab;
use super::{Obuilder, pull, steps};

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct ObuilderArgs {
    /// A store to measure, in a directory that is empty or not there yet: overlayfs:/PATH, btrfs:/PATH, xfs:/PATH or rsync:/PATH. May be
    /// given several times. Without it, one on overlayfs is made in the directory for temporary files.
    #[arg(long, value_name = "KIND:PATH")]
    store: Vec<Location>,

    /// What a store by rsync does with files that did not change: copy, hardlink or hardlink_unsafe.
    #[arg(long, value_name = "MODE", default_value = "copy")]
    rsync_mode: RsyncMode,

    /// Number of builds of the stress job.
    #[arg(long, value_name = "N", default_value_t = 100)]
    builds: u32,

    /// How many of them are under way at once.
    #[arg(long, value_name = "N", default_value_t = 10)]
    at_once: u32,

    /// How often the stress job is done, in turns with the bare runtime.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,

    /// Number of pairs of single steps, ours and the bare runtime's.
    #[arg(long, value_name = "N", default_value_t = 40)]
    pairs: u32,

    /// Number of pairs of pulls, ours and skopeo's.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pulls: u32,

    /// Measure steps only, without a registry.
    #[arg(long)]
    no_pull: bool,
}

/// How many steps are done how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbers {
    pub(super) builds: u32,
    pub(super) at_once: u32,
    pub(super) rounds: u32,
    pub(super) pairs: u32,
    pub(super) pulls: u32,
}

impl ObuilderArgs {
    /// Measures, on threads of its own.
    ///
    /// # Errors
    /// Not root, a program is missing, or a build failed.
    pub async fn measure(&self) -> anyhow::Result<Obuilder> {
        let args = self.clone();
        // The engine is made for several threads; this program has one.
        let (done, measured) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .enable_all()
                .build();
            let measured = runtime
                .context("cannot start threads")
                .and_then(|runtime| runtime.block_on(args.measure_here()));
            // Nobody may wait any more.
            let _ = done.send(measured);
        });
        measured
            .await
            .unwrap_or_else(|_| Err(anyhow!("the measuring thread broke off")))
    }

    async fn measure_here(&self) -> anyhow::Result<Obuilder> {
        let temporary = TempDir::new()?;
        let mut stores = self.store.clone();
        if stores.is_empty() {
            stores.push(Location {
                kind: Kind::Overlayfs,
                root: temporary.path().join("store"),
            });
        }
        let numbers = Numbers {
            builds: self.builds,
            at_once: self.at_once.max(1),
            rounds: self.rounds.max(1),
            pairs: self.pairs.max(1),
            pulls: self.pulls.max(1),
        };
        let mut measured = Obuilder::default();
        for location in stores {
            let location = match location.kind {
                Kind::Rsync(_) => location.with_rsync_mode(Some(self.rsync_mode))?,
                _ => location,
            };
            let name = location.to_string();
            let mut lab = Lab::new(location)
                .await
                .with_context(|| format!("cannot prepare {name}"))?;
            let result = self.measure_store(&mut lab, numbers, &mut measured).await;
            lab.close().await;
            result.with_context(|| format!("with {name}"))?;
        }
        Ok(measured)
    }

    async fn measure_store(
        &self,
        lab: &mut Lab,
        numbers: Numbers,
        measured: &mut Obuilder,
    ) -> anyhow::Result<()> {
        let figures = &mut measured.figures;
        // Some things differ little between stores, and their limits are for this kind.
        let all = lab.kind() == Kind::Overlayfs;
        if all {
            // First: memory that was used before would be used again, unseen.
            figures.push(steps::output(lab).await?);
        }
        figures.push(steps::stress(lab, numbers).await?);
        figures.push(steps::overhead(lab, numbers).await?);
        if all {
            figures.push(steps::cached(lab).await?);
            if !self.no_pull {
                figures.push(pull::pull(lab, numbers).await?);
            }
        }
        Ok(())
    }
}
