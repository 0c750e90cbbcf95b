//! What pulling from registries depends on: mirrors, trust, logins, limits, directories.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use reqwest::Url;

use super::Platform;
use crate::image::reference::{DOCKER_HUB, OLD_DOCKER_HUB, is_host};

/// How images are pulled. Programs fill it in; nothing in it is a secret.
#[derive(Clone, Debug)]
pub struct RegistryConfig {
    /// The directory of layers being downloaded, used by nobody else. It is created on demand.
    pub blobs: PathBuf,
    /// Who is asked before a registry. Several entries for one registry add up.
    pub mirrors: Vec<Mirrors>,
    /// Registries that are spoken to without TLS, as `HOST` (any port) or `HOST:PORT`. Those on a loopback address need not be named:
    /// they are tried with TLS and then without.
    pub plain_http: Vec<String>,
    /// Docker's configuration file, where logins are looked up, anew for each pull. See [`docker_config_file`].
    pub docker_config: Option<PathBuf>,
    /// Which of an image's variants is pulled.
    pub platform: Platform,
    /// Files of certificates (PEM) that are trusted besides the system's.
    pub ca_certificates: Vec<PathBuf>,
    /// What is too long, too large, too often.
    pub limits: RegistryLimits,
}

/// What is too long, too large, too often.
#[derive(Clone, Copy, Debug)]
pub struct RegistryLimits {
    /// How long a connection may take to be made, TLS included.
    pub connect: Duration,
    /// How long an answer may take to begin.
    pub answer: Duration,
    /// How long an answer may stand still once it began. Less than 16 KiB in this time is standing still, too.
    pub stall: Duration,
    /// The wait before the second attempt; it doubles up to 16 times that.
    pub retry_delay: Duration,
    /// How many attempts in a row may fail without having brought anything. A mirror has two.
    pub attempts: u32,
    /// The longest wait that a registry may ask for between two attempts. One that asks for more has failed.
    pub longest_wait: Duration,
    /// The least average rate of an answer, in bytes a second. One that stays below it for `rate_time` has failed; a download that does
    /// so again and again has, too.
    pub least_rate: u64,
    /// Over how long that average is taken.
    pub rate_time: Duration,
    /// How many layers are downloaded at once from one registry.
    pub downloads: usize,
    /// How many bytes of layers that were not downloaded to their end are kept for another attempt, all together. They never take more
    /// than a tenth of the disk.
    pub partials: u64,
    /// The largest layer, in bytes as it is downloaded.
    pub largest_layer: u64,
}

/// Mirrors of one registry, written `REGISTRY=URL[,URL...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirrors {
    /// Whose, as in names of images: `docker.io`, `ghcr.io`, `localhost:5000`.
    pub registry: String,
    /// They, in the order in which they are tried.
    pub urls: Vec<MirrorUrl>,
}

/// Where a mirror is, written `http[s]://HOST[:PORT][/PREFIX]`; `https://` may be left out. The prefix comes before the names of
/// repositories. Writing `http://` allows that mirror to be spoken to without TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MirrorUrl {
    pub(super) plain: bool,
    pub(super) host: String,
    pub(super) prefix: String,
}

/// What is wrong with a mirror as written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MirrorError {
    /// There is no `=`.
    #[error(
        "{0:?} is not written REGISTRY=URL[,URL...], as in docker.io=https://mirror.example:5000"
    )]
    Shape(String),
    /// The part before it is not a registry.
    #[error("{0:?} is not a registry: it is written HOST or HOST:PORT")]
    Registry(String),
    /// An address is none.
    #[error("{0:?} is not the address of a mirror: it is written http[s]://HOST[:PORT][/PREFIX]")]
    Url(String),
}

impl RegistryConfig {
    /// Docker's usual ways, with layers under way in `blobs` and no logins.
    #[must_use]
    pub fn new(blobs: PathBuf) -> Self {
        Self {
            blobs,
            mirrors: Vec::new(),
            plain_http: Vec::new(),
            docker_config: None,
            platform: Platform::here(),
            ca_certificates: Vec::new(),
            limits: RegistryLimits::default(),
        }
    }
}

impl RegistryLimits {
    /// The least that has to come within this time, in bytes.
    pub(super) fn least_within(&self, time: Duration) -> u64 {
        self.least_rate.saturating_mul(time.as_secs())
    }
}

impl Default for RegistryLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            answer: Duration::from_secs(60),
            stall: Duration::from_secs(30),
            retry_delay: Duration::from_millis(500),
            attempts: 5,
            longest_wait: Duration::from_secs(60),
            least_rate: 16 << 10,
            rate_time: Duration::from_secs(120),
            downloads: 3,
            partials: 8 << 30,
            largest_layer: 32 << 30,
        }
    }
}

/// The file that Docker's command would read: `config.json` in `DOCKER_CONFIG`, or else in `.docker` in the user's home.
#[must_use]
pub fn docker_config_file() -> Option<PathBuf> {
    let directory = match std::env::var_os("DOCKER_CONFIG") {
        Some(directory) if !directory.is_empty() => PathBuf::from(directory),
        _ => std::env::home_dir()?.join(".docker"),
    };
    Some(directory.join("config.json"))
}

impl FromStr for Mirrors {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        let shape = || MirrorError::Shape(text.to_owned());
        let (registry, urls) = text.split_once('=').ok_or_else(shape)?;
        if !is_host(registry) {
            return Err(MirrorError::Registry(registry.to_owned()));
        }
        Ok(Self {
            registry: match registry {
                OLD_DOCKER_HUB => DOCKER_HUB.to_owned(),
                other => other.to_owned(),
            },
            urls: urls.split(',').map(str::parse).collect::<Result<_, _>>()?,
        })
    }
}

impl FromStr for MirrorUrl {
    type Err = MirrorError;

    fn from_str(text: &str) -> Result<Self, MirrorError> {
        // What is wrong may be a password in it, which is not to be repeated.
        let wrong = || MirrorError::Url(text.rsplit('@').next().unwrap_or_default().to_owned());
        let whole = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let url: Url = whole.parse().map_err(|_| wrong())?;
        let host = url.host_str().ok_or_else(wrong)?;
        let extras = !url.username().is_empty()
            || url.password().is_some()
            || url.query().is_some()
            || url.fragment().is_some();
        if !matches!(url.scheme(), "http" | "https") || host.is_empty() || extras {
            return Err(wrong());
        }
        let prefix = url.path().trim_matches('/');
        Ok(Self {
            plain: url.scheme() == "http",
            host: match url.port() {
                Some(port) => format!("{host}:{port}"),
                None => host.to_owned(),
            },
            prefix: if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            },
        })
    }
}

impl fmt::Display for MirrorUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain { "http" } else { "https" };
        write!(f, "{scheme}://{}", self.host)?;
        match self.prefix.trim_end_matches('/') {
            "" => Ok(()),
            prefix => write!(f, "/{prefix}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{MirrorUrl, Mirrors};

    #[test]
    fn mirrors_are_read_in_their_order() {
        let mirrors: Mirrors = "docker.io=https://a.example:5000,http://b.example/proxy/,c.example"
            .parse()
            .expect("mirrors");
        assert_eq!(mirrors.registry, "docker.io");
        let urls: Vec<_> = mirrors.urls.iter().map(ToString::to_string).collect();
        assert_eq!(
            urls,
            [
                "https://a.example:5000",
                "http://b.example/proxy",
                "https://c.example"
            ]
        );
    }

    #[test]
    fn what_is_no_mirror_is_refused_without_repeating_passwords() {
        for wrong in [
            "docker.io",
            "=https://a",
            "docker.io=",
            "docker.io=ftp://a",
            "docker.io=https://a?b",
        ] {
            assert!(wrong.parse::<Mirrors>().is_err(), "{wrong}");
        }
        let error = "https://me:secret@a"
            .parse::<MirrorUrl>()
            .expect_err("login");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
