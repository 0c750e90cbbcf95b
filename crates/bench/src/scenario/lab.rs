//! Where scenarios get what they measure: schedulers, and the bare broker beside them.

use std::path::PathBuf;

use anyhow::Context as _;
use ocluster_vat::SturdyRef;

use super::Site;
use super::site::Program;

/// A scheduler that somebody else runs: ours, upstream's, or another. Nothing but capabilities and a process is needed.
#[derive(Clone, Debug)]
pub struct Given {
    /// Its process, whose memory and processor time are read.
    pub pid: u32,
    /// A pool that nobody else uses.
    pub pool: String,
    /// With which workers join the pool.
    pub registration: SturdyRef,
    /// Those of its clients, at least one.
    pub submissions: Vec<SturdyRef>,
}

/// What is measured, and where.
#[derive(Clone, Debug)]
pub struct Lab {
    target: Target,
    directory: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Target {
    Program(PathBuf),
    Given(Given),
}

impl Lab {
    /// Starts `program` anew whenever a scheduler is needed, with its files in a directory of its own in `directory` (otherwise where
    /// the system keeps temporary files). That should be on a real disk.
    #[must_use]
    pub fn of_program(program: PathBuf, directory: Option<PathBuf>) -> Self {
        Self {
            target: Target::Program(program),
            directory,
        }
    }

    /// Measures a scheduler that runs.
    #[must_use]
    pub fn of_given(given: Given, directory: Option<PathBuf>) -> Self {
        Self {
            target: Target::Given(given),
            directory,
        }
    }

    /// The scheduler to be measured: a fresh one, unless one was given.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn scheduler(&self) -> anyhow::Result<Site> {
        self.scheduler_with(&[]).await
    }

    /// The same with more flags, which one that was given does not get.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn scheduler_with(&self, flags: &[&str]) -> anyhow::Result<Site> {
        match &self.target {
            Target::Given(given) => Ok(Site::given(given.clone())),
            Target::Program(path) => {
                let program = Program::Scheduler {
                    path: path.clone(),
                    flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
                };
                Site::start(program, self.directory.as_deref()).await
            }
        }
    }

    /// A fresh bare broker.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn broker(&self) -> anyhow::Result<Site> {
        let path = std::env::current_exe().context("this program does not know where it is")?;
        Site::start(Program::Broker { path }, self.directory.as_deref()).await
    }

    /// A directory for files of a scenario's own, removed when dropped, on the disk that schedulers use.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn directory(&self) -> anyhow::Result<tempfile::TempDir> {
        let directory = match &self.directory {
            Some(directory) => tempfile::TempDir::with_prefix_in("ocluster-bench-", directory),
            None => tempfile::TempDir::with_prefix("ocluster-bench-"),
        };
        directory.context("cannot make a directory for temporary files")
    }
}
