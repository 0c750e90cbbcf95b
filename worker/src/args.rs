//! The command line of `ocluster-worker`.

mod push;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use ocluster_cli::{CapArgs, LogArgs};

use crate::agent::{Config, PRUNE_RETRY};
use crate::disk_care::{DiskLimit, FreePercent, ImagesSize};
use crate::executor::docker::WorkerMark;
use crate::executor::{DockerConfig, DockerExecutor, EngineAddress, Executors, Pull};
use crate::metrics::Metrics;

/// Take jobs from a pool and run them.
#[derive(Debug, Parser)]
#[command(name = "ocluster-worker", version)]
pub struct Args {
    #[command(flatten)]
    cap: CapArgs,

    /// Unique name of this worker.
    #[arg(long, value_name = "ID")]
    name: String,

    /// Number of jobs to run at once.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    capacity: u32,

    /// Directory for caches and temporary files. Created if absent.
    #[arg(long, value_name = "PATH")]
    state_dir: PathBuf,

    /// When to pull the base images of Docker builds: "always" asks the registry each time, "missing" only for images that the
    /// engine does not have.
    #[arg(long, value_name = "WHEN", default_value_t = Pull::Always)]
    docker_pull: Pull,

    #[command(flatten)]
    push: push::PushArgs,

    /// Prune Docker when less than this share of the space or of the inodes below its root directory is free: 0 to 100.
    #[arg(long, value_name = "PCT")]
    prune_threshold: Option<FreePercent>,

    /// Prune Docker when its images take more than this many GB. Not used with --prune-threshold.
    #[arg(long, value_name = "GB")]
    docker_max_df_size: Option<ImagesSize>,

    /// Also run custom jobs of the kind "test", which sleep, print, fail or hang as told. For trying a cluster out.
    #[arg(long)]
    allow_test_jobs: bool,

    /// Largest log that is kept of one job, in bytes; 0 for any size.
    #[arg(long, value_name = "BYTES", default_value_t = 1 << 30)]
    log_max_size: u64,

    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    /// The logging options, to be put in force first.
    #[must_use]
    pub fn log(&self) -> &LogArgs {
        &self.log
    }

    /// The configuration these arguments ask for.
    ///
    /// # Errors
    /// If the capability file is not one, or the environment asks for an engine that cannot be used.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let docker = DockerConfig {
            pull: self.docker_pull,
            engine: EngineAddress::from_environment()?,
            push: self.push.config(),
            worker: Some(WorkerMark::new(&self.name, &self.state_dir)),
            ..DockerConfig::default()
        };
        let metrics = Metrics::default();
        let docker = DockerExecutor::new(docker).counting_in(metrics.clone());
        let disk_limit = match (self.prune_threshold, self.docker_max_df_size) {
            (Some(free), _) => Some(DiskLimit::Free(free)),
            (None, size) => size.map(DiskLimit::Images),
        };
        Ok(Config {
            cap: self
                .cap
                .load()
                .context("cannot read the pool's capability")?,
            name: self.name,
            capacity: self.capacity,
            state_dir: self.state_dir,
            executors: Executors {
                docker: Some(Arc::new(docker)),
                test_kind: self.allow_test_jobs,
                ..Executors::default()
            },
            disk_limit,
            prune_retry: PRUNE_RETRY,
            max_log_bytes: self.log_max_size,
            metrics,
            git_child: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, ocluster_cli::args::Ended> {
        let words = [
            "ocluster-worker",
            "capnp://insecure@127.0.0.1:9000/c2VjcmV0",
            "--name=w",
            "--state-dir=/nonexistent",
        ];
        ocluster_cli::args::parse_from(words.iter().chain(flags))
    }

    fn disk_limit(flags: &[&str]) -> Option<DiskLimit> {
        parse(flags).unwrap().into_config().unwrap().disk_limit
    }

    #[test]
    fn the_threshold_comes_before_the_size_of_images() {
        let free = Some(DiskLimit::Free("20".parse().unwrap()));
        let size = Some(DiskLimit::Images(ImagesSize::from_bytes(5_000_000_000)));
        assert_eq!(disk_limit(&[]), None);
        assert_eq!(disk_limit(&["--prune-threshold=20"]), free);
        assert_eq!(disk_limit(&["--docker-max-df-size=5"]), size);
        let both = ["--docker-max-df-size=5", "--prune-threshold=20"];
        assert_eq!(disk_limit(&both), free);
    }

    #[test]
    fn a_threshold_that_is_no_share_is_a_mistake_in_the_command_line() {
        for flag in ["--prune-threshold=101", "--prune-threshold=-1"] {
            let ended = parse(&[flag]).unwrap_err();
            let ocluster_cli::args::Ended::Mistake(text) = &ended else {
                panic!("{ended:?}")
            };
            let reason = "prune_threshold must be in the range 0 to 100";
            assert!(text.contains(reason), "{text}");
        }
    }
}
