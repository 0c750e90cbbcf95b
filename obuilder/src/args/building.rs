//! How to build: what runs steps, and where base images come from.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use ocluster_cli::Failure;
use ocluster_obuilder::build::BuilderOptions;
use ocluster_obuilder::image::registry::Mirrors;
use ocluster_obuilder::image::{DockerEngine, LocalImages, PullPolicy};
use ocluster_obuilder::sandbox::Seccomp;
use ocluster_obuilder::store::StoreOptions;
use ocluster_obuilder::{EngineConfig, ImagesConfig, RemoteImages};

use super::StoreArgs;

/// How to build.
#[derive(Debug, Args)]
#[command(next_help_heading = "Building")]
pub(crate) struct BuildingArgs {
    /// Have steps ignore requests to flush files to the disk.
    #[arg(long)]
    fast_sync: bool,
    /// The OCI runtime that runs steps: a program in PATH, or its file.
    #[arg(long, value_name = "PROGRAM", default_value = "runc")]
    runtime: PathBuf,
    /// Which system calls steps may make: "open", all of them, or "guarded", all but those that concern the machine rather than a build
    /// (mounts, namespaces, tracing, keys, clocks, modules), which fail.
    #[arg(long, value_name = "CALLS", default_value_t = Seccomp::Open)]
    seccomp: Seccomp,
    /// The control group below which steps get theirs, as in /machine.slice.
    #[arg(long, value_name = "GROUP", default_value = "/", value_parser = control_group)]
    cgroup_parent: PathBuf,
    /// When to ask the registry again what the name of a base image stands for: "missing" never, "always" each time, or after some
    /// time, as in "6h".
    #[arg(long, value_name = "WHEN", default_value_t = PullPolicy::Missing)]
    pull: PullPolicy,
    /// Who fetches base images: this program itself from their "registry", or the "docker" engine behind DOCKER_HOST.
    #[arg(long, value_enum, value_name = "WHO", default_value = "registry")]
    fetcher: Fetcher,
    /// Ask this mirror before the registry, as in docker.io=https://mirror.example:5000. May be repeated.
    #[arg(long, value_name = "HOST=URL")]
    mirror: Vec<Mirrors>,
    /// Speak plain http with this registry. May be repeated; loopback addresses need it not.
    #[arg(long, value_name = "HOST")]
    plain_http: Vec<String>,
    /// Trust the certificates of authorities in this file (PEM) besides the system's when speaking with registries. May be repeated.
    #[arg(long, value_name = "FILE")]
    ca_certificate: Vec<PathBuf>,
}

/// Who fetches base images.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Fetcher {
    Registry,
    Docker,
}

impl BuildingArgs {
    /// How to build in `store`, and otherwise as `build` says. Whoever runs this program may use any image that it can read.
    ///
    /// # Errors
    /// As [`StoreArgs::location`].
    pub(crate) fn engine(
        self,
        store: &StoreArgs,
        build: BuilderOptions,
    ) -> Result<EngineConfig, Failure> {
        Ok(EngineConfig {
            store: store.location()?,
            store_options: StoreOptions::default(),
            runtime: self.runtime,
            cgroup_parent: self.cgroup_parent,
            seccomp: self.seccomp,
            fast_sync: self.fast_sync,
            images: ImagesConfig {
                local: LocalImages::Any,
                remote: match self.fetcher {
                    Fetcher::Registry => RemoteImages::Registries {
                        mirrors: self.mirror,
                        plain_http: self.plain_http,
                        loopback: true,
                        ca_certificates: self.ca_certificate,
                    },
                    Fetcher::Docker => RemoteImages::Docker(docker_engine()?),
                },
            },
            build: BuilderOptions {
                pull: self.pull,
                ..build
            },
        })
    }
}

/// The engine that `DOCKER_HOST` names, or else the system's.
fn docker_engine() -> Result<DockerEngine, Failure> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let engine = match (host.strip_prefix("unix://"), host.as_str()) {
        (Some(socket), _) => DockerEngine::unix(socket.as_ref()),
        (None, "") => DockerEngine::unix("/var/run/docker.sock".as_ref()),
        (None, address) => DockerEngine::http(address),
    };
    engine.map_err(|error| Failure::failed(error.to_string()))
}

fn control_group(text: &str) -> Result<PathBuf, &'static str> {
    if text.starts_with('/') {
        Ok(text.into())
    } else {
        Err("expected the group's path from the top of the hierarchy, as in /machine.slice")
    }
}
