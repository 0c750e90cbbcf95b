//! What an operator decides about Docker builds: which engine, when base images are pulled, and what a build may take.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::images::WorkerMark;
use super::limits::BuildLimits;
use super::push::PushConfig;

/// How Docker builds are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerConfig {
    /// When base images are pulled.
    pub pull: Pull,
    /// The engine to use.
    pub engine: EngineAddress,
    /// How long the engine may take to answer a ping before it counts as away. At least a second.
    pub answer_timeout: Duration,
    /// What a build may take of the machine.
    pub limits: BuildLimits,
    /// Docker's configuration file, with logins for base images and never for pushes. Each build reads it anew; it need not exist.
    pub logins: Option<PathBuf>,
    /// Where jobs may push to, and with how much patience.
    pub push: PushConfig,
    /// Marks the names of images that are in use. Without it, names that are left over are never removed.
    pub worker: Option<WorkerMark>,
}

impl Default for DockerConfig {
    fn default() -> Self {
        Self {
            pull: Pull::default(),
            engine: EngineAddress::default(),
            answer_timeout: Duration::from_secs(10),
            limits: BuildLimits::default(),
            logins: None,
            push: PushConfig::default(),
            worker: None,
        }
    }
}

/// When a build pulls its base images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pull {
    /// Ask the registry each time, as OCluster does: a moved tag is noticed.
    #[default]
    Always,
    /// Only images which the engine does not have: for sites whose registry is away.
    Missing,
}

/// `--docker-pull` takes neither `always` nor `missing`.
#[derive(Debug, Error)]
#[error("`{0}` does not say when to pull base images: use `always` or `missing`")]
pub struct PullError(String);

impl FromStr for Pull {
    type Err = PullError;

    fn from_str(text: &str) -> Result<Self, PullError> {
        match text {
            "always" => Ok(Self::Always),
            "missing" => Ok(Self::Missing),
            other => Err(PullError(other.to_owned())),
        }
    }
}

impl fmt::Display for Pull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Missing => "missing",
        })
    }
}

/// Where the engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EngineAddress {
    /// A socket in the file system: `unix:///var/run/docker.sock`.
    Unix(PathBuf),
    /// Plain HTTP, for engines on a trusted network: `tcp://host:2375`.
    Http(String),
}

/// An engine's address that cannot be used.
#[derive(Debug, Error)]
pub enum EngineAddressError {
    /// Neither `unix://` nor `tcp://`.
    #[error(
        "cannot reach a Docker engine at `{0}`: use unix:///path/to/docker.sock or tcp://host:port"
    )]
    Scheme(String),
    /// Nothing behind the scheme.
    #[error(
        "the Docker engine's address `{0}` names no engine: use unix:///path/to/docker.sock or tcp://host:port"
    )]
    Empty(String),
    /// `DOCKER_HOST` is not text.
    #[error("the environment's DOCKER_HOST is not UTF-8")]
    NotUtf8,
    /// TLS is asked for, which is not offered.
    #[error(
        "the environment's DOCKER_TLS_VERIFY asks for TLS, which is not supported: use the engine's unix socket"
    )]
    Tls,
}

impl EngineAddress {
    /// The address that the Docker command line would use: `DOCKER_HOST`, or else the usual socket.
    ///
    /// # Errors
    /// If the environment asks for something that is not supported: ssh, TLS.
    pub fn from_environment() -> Result<Self, EngineAddressError> {
        let address = match std::env::var("DOCKER_HOST") {
            Ok(host) if !host.is_empty() => host.parse()?,
            Ok(_) | Err(std::env::VarError::NotPresent) => Self::default(),
            Err(std::env::VarError::NotUnicode(_)) => return Err(EngineAddressError::NotUtf8),
        };
        let tls = std::env::var_os("DOCKER_TLS_VERIFY").is_some_and(|value| !value.is_empty());
        if tls && matches!(address, Self::Http(_)) {
            Err(EngineAddressError::Tls)
        } else {
            Ok(address)
        }
    }
}

impl Default for EngineAddress {
    fn default() -> Self {
        Self::Unix("/var/run/docker.sock".into())
    }
}

impl FromStr for EngineAddress {
    type Err = EngineAddressError;

    fn from_str(text: &str) -> Result<Self, EngineAddressError> {
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| EngineAddressError::Scheme(text.to_owned()))?;
        match scheme {
            _ if rest.is_empty() => Err(EngineAddressError::Empty(text.to_owned())),
            "unix" => Ok(Self::Unix(rest.into())),
            "tcp" | "http" => Ok(Self::Http(rest.to_owned())),
            _ => Err(EngineAddressError::Scheme(text.to_owned())),
        }
    }
}

impl fmt::Display for EngineAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Http(address) => write!(f, "tcp://{address}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_docker_writes_them() {
        let address = |text: &str| text.parse::<EngineAddress>();
        assert_eq!(
            address("unix:///run/d.sock").unwrap(),
            EngineAddress::Unix("/run/d.sock".into())
        );
        assert_eq!(
            address("tcp://builder:2375").unwrap(),
            EngineAddress::Http("builder:2375".into())
        );
        assert_eq!(
            address("tcp://builder:2375").unwrap().to_string(),
            "tcp://builder:2375"
        );
        for wrong in ["", "/run/d.sock", "ssh://builder", "unix://"] {
            let error = address(wrong).unwrap_err().to_string();
            assert!(
                error.contains("use unix:///path/to/docker.sock or tcp://host:port"),
                "{wrong}: {error}"
            );
        }
    }

    #[test]
    fn the_two_ways_to_pull_have_names() {
        for pull in [Pull::Always, Pull::Missing] {
            assert_eq!(pull.to_string().parse::<Pull>().unwrap(), pull);
        }
        assert_eq!(
            "never".parse::<Pull>().unwrap_err().to_string(),
            "`never` does not say when to pull base images: use `always` or `missing`"
        );
    }
}
