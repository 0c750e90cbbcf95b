//! Flags about Docker builds.

use clap::Args;
use ocluster_obuilder::image::registry::docker_config_file;

use crate::executor::docker::{BuildCpus, BuildLimits, BuildMemory, BuildNetwork};
use crate::executor::{DockerConfig, EngineAddress, Pull};

/// How Docker builds are done.
#[derive(Debug, Args)]
#[command(next_help_heading = "Docker builds")]
pub(super) struct DockerArgs {
    /// When to pull the base images of Docker builds: "always" asks the registry each time, "missing" only for images that the
    /// engine does not have.
    #[arg(long, value_name = "WHEN", default_value_t = Pull::Always)]
    docker_pull: Pull,

    /// Give each step of a build at most this much processor time: 1.5 is one processor and a half. Classic builder only; a job that uses
    /// BuildKit says in its log that it does not hold.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    build_cpus: Option<BuildCpus>,

    /// Give each step of a build at most this much memory (bytes, or with k, M, G), and no swap on top. Classic builder only; a job that uses
    /// BuildKit says in its log that it does not hold.
    #[arg(long, value_name = "SIZE")]
    build_memory: Option<BuildMemory>,

    /// Run the steps of builds in this network: "none", "host", "default", or a network of the engine's by its name. With a name, jobs that use
    /// BuildKit are refused.
    #[arg(long, value_name = "MODE")]
    build_network: Option<BuildNetwork>,

    #[command(flatten)]
    ignored: IgnoredArgs,
}

/// Flags of OCluster's worker that set up a store which is not offered here. They are taken, so that a command line need not change.
#[derive(Debug, Args)]
#[command(next_help_heading = "Accepted without effect")]
struct IgnoredArgs {
    /// Taken for compatibility, without effect: it is about OBuilder's Docker store. For Docker builds, see --build-cpus.
    #[arg(long, value_name = "N")]
    docker_cpus: Option<String>,

    /// Taken for compatibility, without effect: it is about OBuilder's Docker store. For Docker builds, see --build-memory.
    #[arg(long, value_name = "SIZE")]
    docker_memory: Option<String>,

    /// Taken for compatibility, without effect: it is about OBuilder's Docker store. For Docker builds, see --build-network.
    #[arg(long, value_name = "MODE")]
    docker_network: Option<String>,

    /// Taken for compatibility, without effect: it is about OBuilder's Docker store.
    #[arg(long, value_name = "TYPE")]
    docker_isolation: Option<String>,
}

impl DockerArgs {
    /// How builds are done, with the engine and the logins that the environment names.
    ///
    /// # Errors
    /// If the environment asks for an engine that cannot be used.
    pub(super) fn into_config(self) -> anyhow::Result<DockerConfig> {
        self.ignored.say_so();
        Ok(DockerConfig {
            pull: self.docker_pull,
            engine: EngineAddress::from_environment()?,
            logins: docker_config_file(),
            limits: BuildLimits {
                cpus: self.build_cpus,
                memory: self.build_memory,
                network: self.build_network,
            },
            ..DockerConfig::default()
        })
    }
}

impl IgnoredArgs {
    /// Tells the operator which flags do nothing.
    fn say_so(&self) {
        let flags = [
            ("--docker-cpus", &self.docker_cpus),
            ("--docker-memory", &self.docker_memory),
            ("--docker-network", &self.docker_network),
            ("--docker-isolation", &self.docker_isolation),
        ];
        for (flag, _) in flags.iter().filter(|(_, value)| value.is_some()) {
            tracing::info!(
                "{flag} has no effect: it is about OBuilder's Docker store, which this worker does not offer"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        docker: DockerArgs,
    }

    fn parse(flags: &[&str]) -> Result<DockerConfig, String> {
        let words = ["worker"].iter().chain(flags);
        let program = Program::try_parse_from(words).map_err(|error| error.to_string())?;
        program
            .docker
            .into_config()
            .map_err(|error| error.to_string())
    }

    #[test]
    fn limits_have_no_default() {
        assert_eq!(parse(&[]).unwrap().limits, BuildLimits::default());
        let limits = parse(&[
            "--build-cpus=2",
            "--build-memory=1G",
            "--build-network=none",
        ]);
        let expected = BuildLimits {
            cpus: Some("2".parse().unwrap()),
            memory: Some("1G".parse().unwrap()),
            network: Some("none".parse().unwrap()),
        };
        assert_eq!(limits.unwrap().limits, expected);
    }

    #[test]
    fn a_limit_that_is_none_is_a_mistake_in_the_command_line() {
        for (flag, hint) in [
            ("--build-cpus=-1", "use a decimal number from 0.01 to 10000"),
            ("--build-memory=lots", "such as 1048576, 64k, 20M or 1G"),
            ("--build-memory=1k", "use at least 6M"),
            ("--build-network=", "use none, host, default"),
        ] {
            let error = parse(&[flag]).unwrap_err();
            assert!(error.contains(hint), "{flag}: {error}");
        }
    }

    #[test]
    fn upstream_s_flags_are_taken_and_do_nothing() {
        let flags = [
            "--docker-cpus=2.0",
            "--docker-memory=4g",
            "--docker-network=host",
            "--docker-isolation=default",
        ];
        assert_eq!(parse(&flags).unwrap(), parse(&[]).unwrap());
    }
}
