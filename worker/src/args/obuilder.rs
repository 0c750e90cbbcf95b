//! Flags about OBuilder builds. Without `--obuilder-store` there are none, and no other flag of these makes sense.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ocluster_cli::{parse_duration, parse_size};
use ocluster_obuilder::build::BuilderOptions;
use ocluster_obuilder::image::registry::Mirrors;
use ocluster_obuilder::image::{DockerEngine, LocalImages, PullPolicy};
use ocluster_obuilder::sandbox::{Limits, Seccomp};
use ocluster_obuilder::store::{Location, RsyncMode, StoreOptions};
use ocluster_obuilder::{EngineConfig, ImagesConfig, RemoteImages};

use crate::executor::{EngineAddress, OBuilderConfig, PruneRules};

/// How OBuilder builds are done.
#[derive(Debug, Args)]
#[command(next_help_heading = "OBuilder builds")]
pub(super) struct OBuilderArgs {
    /// Where OBuilder builds keep their layers: overlayfs:/path, btrfs:/path, xfs:/path or rsync:/path, or just /path. Without this the
    /// worker runs no OBuilder jobs.
    #[arg(long, value_name = "STORE")]
    obuilder_store: Option<Location>,

    /// How an rsync store keeps files that a step did not change: "copy", "hardlink", or "hardlink_unsafe" (which trusts sizes and times).
    #[arg(long, value_name = "MODE", requires = "obuilder_store")]
    rsync_mode: Option<RsyncMode>,

    /// Prune the store when no more than this percentage of its disk is free.
    #[arg(long, value_name = "PCT", default_value_t = PruneRules::default().threshold, value_parser = percentage)]
    obuilder_prune_threshold: f64,

    /// Remove at most this many layers in one round of pruning.
    #[arg(long, value_name = "N", default_value_t = PruneRules::default().limit)]
    obuilder_prune_limit: usize,

    /// How often to build something small, to see whether OBuilder works, in seconds; 0 for never. While it does not, no jobs are taken.
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0, value_parser = super::health::seconds)]
    obuilder_healthcheck: f64,

    /// The image that is built on for that. A local one (oci:, docker-archive:, rootfs:) needs no network.
    #[arg(
        long,
        value_name = "IMAGE",
        default_value = "busybox",
        requires = "obuilder_store"
    )]
    obuilder_healthcheck_image: String,

    /// Have steps ignore requests to flush files to the disk. They get faster, and lose nothing but what the machine's crash would take.
    #[arg(long)]
    fast_sync: bool,

    /// How many stages of one build run at once.
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN.saturating_add(1))]
    obuilder_parallel_stages: NonZeroUsize,

    /// When to ask the registry again what the name of a base image stands for: "missing" never, "always" for each build, or after
    /// some time, as in "6h". A new answer makes new layers.
    #[arg(long, value_name = "WHEN", default_value_t = PullPolicy::Missing)]
    obuilder_pull: PullPolicy,

    /// Who fetches base images: this worker itself from their "registry", or its "docker" engine.
    #[arg(long, value_enum, value_name = "WHO", default_value = "registry")]
    obuilder_fetcher: Fetcher,

    /// Ask this mirror before the registry, as in docker.io=https://mirror.example:5000. May be repeated.
    #[arg(long, value_name = "HOST=URL", requires = "obuilder_store")]
    obuilder_mirror: Vec<Mirrors>,

    /// Speak plain http with this registry, as in registry.example:5000. May be repeated. Images of registries on this machine's own
    /// loopback addresses are refused unless those are named here.
    #[arg(long, value_name = "HOST", requires = "obuilder_store")]
    obuilder_plain_http: Vec<String>,

    /// Trust the certificates of authorities in this file (PEM) besides the system's when speaking with registries. May be repeated.
    #[arg(long, value_name = "FILE", requires = "obuilder_store")]
    obuilder_ca_certificate: Vec<PathBuf>,

    /// Let builds use images in this directory by oci:, docker-archive: and rootfs:. May be repeated. Without it such names are refused.
    #[arg(long, value_name = "DIR", requires = "obuilder_store")]
    obuilder_images: Vec<PathBuf>,

    /// The OCI runtime that runs steps: a program in PATH, or its file.
    #[arg(
        long,
        value_name = "PROGRAM",
        default_value = "runc",
        requires = "obuilder_store"
    )]
    obuilder_runtime: PathBuf,

    /// Which system calls steps may make: "open", all of them, as with OBuilder; or "guarded", all but those that concern the machine
    /// rather than a build (mounts, namespaces, tracing, keys, clocks, modules), which fail.
    #[arg(long, value_name = "CALLS", default_value_t = Seccomp::Open, requires = "obuilder_store")]
    obuilder_seccomp: Seccomp,

    /// The control group below which steps get theirs, as in /machine.slice. Where a service may only use what systemd delegates to it
    /// (Delegate=), one of that.
    #[arg(
        long,
        value_name = "GROUP",
        default_value = "/",
        value_parser = control_group,
        requires = "obuilder_store"
    )]
    obuilder_cgroup_parent: PathBuf,

    /// Keep at most this much in caches (bytes, or with k, M, G), removing those not used for the longest time.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "obuilder_store")]
    obuilder_cache_quota: Option<u64>,

    /// Give each step at most this much memory (bytes, or with k, M, G), and no swap on top.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, requires = "obuilder_store")]
    obuilder_memory: Option<u64>,

    /// Give each step at most this much processor time: 1.5 is one processor and a half.
    #[arg(long, value_name = "N", value_parser = processors, requires = "obuilder_store")]
    obuilder_cpus: Option<f64>,

    /// Let each step have at most this many processes and threads at once; 0 for no limit.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 32_768,
        requires = "obuilder_store"
    )]
    obuilder_pids: u64,

    /// Stop a step that takes longer than this, as in "90m".
    #[arg(long, value_name = "TIME", value_parser = parse_duration, requires = "obuilder_store")]
    obuilder_step_time: Option<Duration>,

    /// Stop a step that prints more than this (bytes, or with k, M, G); 0 for no limit.
    #[arg(
        long,
        value_name = "SIZE",
        default_value = "1G",
        value_parser = parse_size,
        requires = "obuilder_store"
    )]
    obuilder_step_output: u64,
}

/// Who fetches base images.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fetcher {
    Registry,
    Docker,
}

impl OBuilderArgs {
    /// Sees to it that they fit together.
    ///
    /// # Errors
    /// What does not, for the one who typed them.
    pub(super) fn check(&self) -> Result<(), String> {
        self.location().map(|_| ())
    }

    fn location(&self) -> Result<Option<Location>, String> {
        let Some(store) = &self.obuilder_store else {
            return Ok(None);
        };
        let store = store.clone().with_rsync_mode(self.rsync_mode);
        store.map(Some).map_err(|error| error.to_string())
    }

    /// What they ask for, if there is a store.
    ///
    /// # Errors
    /// As [`OBuilderArgs::check`].
    pub(super) fn into_config(self) -> anyhow::Result<Option<OBuilderConfig>> {
        let Some(store) = self.location().map_err(anyhow::Error::msg)? else {
            return Ok(None);
        };
        let engine = EngineConfig {
            store,
            store_options: StoreOptions {
                cache_quota: self.obuilder_cache_quota,
            },
            runtime: self.obuilder_runtime,
            cgroup_parent: self.obuilder_cgroup_parent,
            seccomp: self.obuilder_seccomp,
            fast_sync: self.fast_sync,
            images: ImagesConfig {
                local: LocalImages::Below(self.obuilder_images),
                remote: match self.obuilder_fetcher {
                    Fetcher::Registry => RemoteImages::Registries {
                        mirrors: self.obuilder_mirror,
                        plain_http: self.obuilder_plain_http,
                        loopback: false,
                        ca_certificates: self.obuilder_ca_certificate,
                    },
                    Fetcher::Docker => RemoteImages::Docker(docker_engine()?),
                },
            },
            build: BuilderOptions {
                parallel_stages: self.obuilder_parallel_stages.get(),
                pull: self.obuilder_pull,
                limits: Limits {
                    memory: self.obuilder_memory.filter(|bytes| *bytes > 0),
                    cpus: self.obuilder_cpus,
                    pids: Some(self.obuilder_pids).filter(|pids| *pids > 0),
                    time: self.obuilder_step_time.filter(|time| !time.is_zero()),
                    output: Some(self.obuilder_step_output).filter(|bytes| *bytes > 0),
                },
            },
        };
        Ok(Some(OBuilderConfig {
            prune: PruneRules {
                threshold: self.obuilder_prune_threshold,
                limit: self.obuilder_prune_limit,
            },
            health_check: (self.obuilder_healthcheck > 0.0)
                .then(|| Duration::from_secs_f64(self.obuilder_healthcheck)),
            health_image: self.obuilder_healthcheck_image,
            engine,
        }))
    }
}

/// The engine that the environment names, as for Docker builds.
fn docker_engine() -> anyhow::Result<DockerEngine> {
    Ok(match EngineAddress::from_environment()? {
        EngineAddress::Unix(socket) => DockerEngine::unix(&socket)?,
        EngineAddress::Http(address) => DockerEngine::http(&address)?,
    })
}

fn percentage(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => Err("a percentage must be in the range 0 to 100"),
    }
}

fn processors(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(number) if (0.01..=65_536.0).contains(&number) => Ok(number),
        _ => Err("expected a number of processors, such as 2 or 1.5"),
    }
}

fn control_group(text: &str) -> Result<PathBuf, &'static str> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err("expected the group's path from the top of the hierarchy, as in /machine.slice")
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        args: OBuilderArgs,
    }

    fn engine(flags: &[&str]) -> EngineConfig {
        let words = ["worker", "--obuilder-store=/obuilder"].iter().chain(flags);
        let config = Line::try_parse_from(words).unwrap().args.into_config();
        config.unwrap().unwrap().engine
    }

    #[test]
    fn a_step_cannot_print_or_fork_for_ever_unless_the_operator_says_so() {
        let limits = engine(&[]).build.limits;
        assert_eq!(limits.pids, Some(32_768));
        assert_eq!(limits.output, Some(1 << 30));
        let limits = engine(&["--obuilder-pids=0", "--obuilder-step-output=0"])
            .build
            .limits;
        assert_eq!(limits, Limits::default());
    }

    #[test]
    fn the_sandbox_can_be_guarded_and_put_below_a_group() {
        let config = engine(&[]);
        assert_eq!(config.seccomp, Seccomp::Open);
        assert_eq!(config.cgroup_parent, PathBuf::from("/"));
        let config = engine(&[
            "--obuilder-seccomp=guarded",
            "--obuilder-cgroup-parent=/machine.slice",
        ]);
        assert_eq!(config.seccomp, Seccomp::Guarded);
        assert_eq!(config.cgroup_parent, PathBuf::from("/machine.slice"));
        for wrong in ["--obuilder-seccomp=shut", "--obuilder-cgroup-parent=slice"] {
            let words = ["worker", "--obuilder-store=/obuilder", wrong];
            assert!(Line::try_parse_from(words).is_err(), "{wrong}");
        }
    }
}
