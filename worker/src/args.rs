//! The command line of `ocluster-worker`.

mod disk;
mod docker;
mod elsewhere;
mod git;
mod health;
mod metrics;
mod obuilder;
mod push;
mod reconnect;
mod update;
mod weights;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser;
use ocluster_cli::{CapArgs, LogArgs};

use self::disk::DiskArgs;
use self::docker::DockerArgs;
use self::elsewhere::ElsewhereArgs;
use self::git::GitArgs;
use self::health::HealthArgs;
use self::metrics::MetricsArgs;
use self::obuilder::OBuilderArgs;
use self::push::PushArgs;
use self::reconnect::ReconnectArgs;
use self::update::UpdateArgs;
use self::weights::WeightArgs;
use crate::agent::{Config, PRUNE_RETRY};
use crate::executor::docker::WorkerMark;
use crate::executor::{DockerConfig, DockerExecutor, Executors};
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

    #[command(flatten)]
    reconnect: ReconnectArgs,

    #[command(flatten)]
    disk: DiskArgs,

    #[command(flatten)]
    health: HealthArgs,

    #[command(flatten)]
    weights: WeightArgs,

    /// Also run custom jobs of the kind "test", which sleep, print, fail or hang as told. For trying a cluster out.
    #[arg(long)]
    allow_test_jobs: bool,

    /// Largest log that is kept of one job, in bytes (or with k, M, G); 0 for any size.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = ocluster_cli::parse_size)]
    log_max_size: u64,

    #[command(flatten)]
    git: GitArgs,

    #[command(flatten)]
    docker: DockerArgs,

    #[command(flatten)]
    push: PushArgs,

    #[command(flatten)]
    obuilder: OBuilderArgs,

    #[command(flatten)]
    metrics: MetricsArgs,

    #[command(flatten)]
    update: UpdateArgs,

    #[command(flatten)]
    elsewhere: ElsewhereArgs,

    #[command(flatten)]
    log: LogArgs,
}

impl Args {
    /// The logging options, to be put in force first.
    #[must_use]
    pub fn log(&self) -> &LogArgs {
        &self.log
    }

    /// Sees to it that the arguments fit together.
    ///
    /// # Errors
    /// What is wrong with them, for the one who typed them.
    pub fn check(&self) -> Result<(), String> {
        self.elsewhere.refuse()?;
        self.obuilder.check()?;
        self.weights.fit(self.capacity)
    }

    /// The configuration these arguments ask for.
    ///
    /// # Errors
    /// If the capability file is not one, or the environment asks for an engine that cannot be used.
    pub fn into_config(self) -> anyhow::Result<Config> {
        let docker = DockerConfig {
            push: self.push.config(),
            worker: Some(WorkerMark::new(&self.name, &self.state_dir)),
            ..self.docker.into_config()?
        };
        let metrics = Metrics::default();
        Ok(Config {
            self_update: self.update.plan(&docker),
            cap: self
                .cap
                .load()
                .context("cannot read the pool's capability")?,
            name: self.name,
            capacity: self.capacity,
            state_dir: self.state_dir,
            executors: Executors {
                docker: Some(Arc::new(
                    DockerExecutor::new(docker).counting_in(metrics.clone()),
                )),
                test_kind: self.allow_test_jobs,
                ..Executors::default()
            },
            obuilder: self.obuilder.into_config()?,
            disk_limit: self.disk.limit(),
            prune_scope: self.disk.scope(),
            prune_retry: PRUNE_RETRY,
            health_check: self.health.period(),
            weights: self.weights.weights(),
            reconnect_grace: self.reconnect.grace(),
            max_log_bytes: self.log_max_size,
            git_keep: self.git.keep(),
            metrics,
            metric_sources: self.metrics.into_sources()?,
            git_child: None,
            surroundings: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk_care::{DiskLimit, ImagesSize};

    pub(super) fn parse(flags: &[&str]) -> Result<Args, ocluster_cli::args::Ended> {
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
    fn a_weight_beyond_the_capacity_is_a_mistake_in_the_command_line() {
        let check = |flags: &[&str]| parse(flags).unwrap().check();
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&["--capacity=3", "--weight=*octez*=3"]), Ok(()));
        assert_eq!(
            check(&["--capacity=3", "--weight=a=1", "--weight=*octez*=4"]),
            Err(
                "--weight=*octez*=4 asks for more slots than this worker has: raise --capacity, which is 3, or lower the weight"
                    .to_owned()
            )
        );
        let ended = parse(&["--weight=octez"]).unwrap_err();
        let ocluster_cli::args::Ended::Mistake(text) = &ended else {
            panic!("{ended:?}")
        };
        assert!(text.contains("PATTERN=SLOTS"), "{text}");
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
