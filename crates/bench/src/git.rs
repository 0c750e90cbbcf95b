//! How long a build context from git takes compared with git's own `clone --reference` and `checkout`, once both have the objects.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use ocluster_git_context::{ChildCommand, DEFAULT_SILENCE_LIMIT, Request, prepare};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::pairs::{Compared, Pairs};
use crate::served::Served;

/// The argument with which a worker runs as the child that reads git repositories.
const GIT_CHILD: &str = "git-context-child";

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct GitArgs {
    /// The worker, whose git child makes the contexts.
    #[arg(long, value_name = "PROGRAM")]
    worker: PathBuf,

    /// Number of files in the commit.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    files: u32,

    /// Number of pairs.
    #[arg(long, value_name = "N", default_value_t = 15)]
    pairs: u32,

    /// Fail if a context takes more than this many times as long as git.
    #[arg(long, value_name = "RATIO")]
    threshold: Option<f64>,
}

/// What was measured: ours is the context, theirs is git.
#[derive(Clone, Debug, Serialize)]
pub struct Git {
    /// Number of files.
    pub files: u32,
    /// The times.
    #[serde(flatten)]
    pub times: Compared,
}

impl GitArgs {
    /// The most that is good enough, as a ratio.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        self.threshold
    }

    /// Makes contexts and clones in turn.
    ///
    /// # Errors
    /// If git is missing, or a context cannot be made.
    pub async fn measure(&self) -> anyhow::Result<Git> {
        let served = Served::start(self.files, "FROM scratch\n")?;
        let (cache, context, clone) = (
            served.beside("cache"),
            served.beside("context"),
            served.beside("clone"),
        );
        let child = ChildCommand::new(&self.worker, [GIT_CHILD]);
        let request = Request {
            repository: served.url(),
            commits: vec![served.commit().to_owned()],
            include_git: false,
            cache_dir: cache.clone(),
            destination: context.clone(),
            silence_limit: DEFAULT_SILENCE_LIMIT,
        };
        // Fills the cache, and warms up what else there is.
        ours(&request, &child).await?;
        let mirror = mirror_in(&cache)?;
        served.clone_with_git(&clone, Some(&mirror))?;
        let mut pairs = Pairs::default();
        for pair in 0..self.pairs {
            remove(&context)?;
            remove(&clone)?;
            let we_are_first = pair % 2 == 0;
            let mut our_time = Duration::ZERO;
            if we_are_first {
                our_time = ours(&request, &child).await?;
            }
            let started = Instant::now();
            served.clone_with_git(&clone, Some(&mirror))?;
            let their_time = started.elapsed();
            if !we_are_first {
                our_time = ours(&request, &child).await?;
            }
            pairs.add(our_time, their_time);
        }
        Ok(Git {
            files: self.files,
            times: pairs.compare()?,
        })
    }
}

async fn ours(request: &Request, child: &ChildCommand) -> anyhow::Result<Duration> {
    let started = Instant::now();
    prepare(request, child, &mut |_| {}, &CancellationToken::new())
        .await
        .context("cannot make a build context")?;
    Ok(started.elapsed())
}

/// The only mirror in the cache.
fn mirror_in(cache: &Path) -> anyhow::Result<PathBuf> {
    for entry in std::fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            return Ok(entry.path());
        }
    }
    bail!("there is no mirror in {}", cache.display())
}

fn remove(directory: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
