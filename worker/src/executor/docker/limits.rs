//! What a build step may take of the machine, as an operator sets it.
//!
//! OCluster has no such limits. A limit which the builder in use cannot enforce is refused, or said in the job's log; it is never
//! passed over in silence.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The time slice in which a step gets its share of the processors, in microseconds: Docker's own default.
const CPU_PERIOD: u32 = 100_000;
/// The kernel takes no smaller share of a time slice, in microseconds.
const MIN_CPU_QUOTA: u32 = 1_000;
/// No machine has more processors.
const MAX_CPUS: f64 = 10_000.0;
/// Below this no step starts, and engines refuse it: 6 MiB.
const MIN_MEMORY: u64 = 6 << 20;

/// Limits of one build. None by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BuildLimits {
    /// How much processor time each step may use.
    pub cpus: Option<BuildCpus>,
    /// How much memory each step may use.
    pub memory: Option<BuildMemory>,
    /// Which network steps are in.
    pub network: Option<BuildNetwork>,
}

impl BuildLimits {
    /// The parameters of a request to the classic builder, each with a leading `&`.
    pub(super) fn classic_parameters(&self) -> String {
        let mut parameters = String::new();
        if let Some(cpus) = &self.cpus {
            parameters += &format!("&cpuperiod={CPU_PERIOD}&cpuquota={}", cpus.quota);
        }
        if let Some(BuildMemory(bytes)) = self.memory {
            // The second one is memory and swap together: no swap on top.
            parameters += &format!("&memory={bytes}&memswap={bytes}");
        }
        parameters + &self.network_parameter()
    }

    /// The parameter that names the network, for either builder.
    pub(super) fn network_parameter(&self) -> String {
        self.network.as_ref().map_or_else(String::new, |network| {
            format!("&networkmode={}", super::build_args::encode(&network.0))
        })
    }

    /// What to say about limits that the engine's BuildKit has no means to enforce.
    pub(super) fn not_enforced_by_buildkit(&self) -> Option<String> {
        let what = match (&self.cpus, &self.memory) {
            (None, None) => return None,
            (Some(_), None) => "--build-cpus is",
            (None, Some(_)) => "--build-memory is",
            (Some(_), Some(_)) => "--build-cpus and --build-memory are",
        };
        Some(format!(
            "Note: this worker's {what} not enforced, as Docker's BuildKit cannot; the classic builder can"
        ))
    }
}

/// How much processor time a step may use: 1.5 is as much as one processor and a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildCpus {
    /// Microseconds in each [`CPU_PERIOD`].
    quota: u32,
}

/// `--build-cpus` is no usable number.
#[derive(Debug, Error)]
#[error("`{0}` is no number of processors: use a decimal number from 0.01 to 10000, such as 1.5")]
pub struct BuildCpusError(String);

impl FromStr for BuildCpus {
    type Err = BuildCpusError;

    fn from_str(text: &str) -> Result<Self, BuildCpusError> {
        let wrong = || BuildCpusError(text.to_owned());
        let cpus: f64 = text.parse().map_err(|_| wrong())?;
        let quota = cpus * f64::from(CPU_PERIOD);
        if !(f64::from(MIN_CPU_QUOTA)..=MAX_CPUS * f64::from(CPU_PERIOD)).contains(&quota) {
            return Err(wrong());
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked, and a microsecond does not matter"
        )]
        let quota = quota.round() as u32;
        Ok(Self { quota })
    }
}

/// How much memory a step may use, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BuildMemory(u64);

/// `--build-memory` is no usable size.
#[derive(Debug, Error)]
pub enum BuildMemoryError {
    /// It is no size at all.
    #[error(transparent)]
    Size(#[from] ocluster_cli::SizeError),
    /// It is less than any step needs.
    #[error("`{0}` is too little memory for a build step: use at least 6M")]
    TooLittle(String),
    /// It is more than Docker can be told.
    #[error("`{0}` is more memory than any machine has")]
    TooMuch(String),
}

impl FromStr for BuildMemory {
    type Err = BuildMemoryError;

    fn from_str(text: &str) -> Result<Self, BuildMemoryError> {
        match ocluster_cli::parse_size(text)? {
            bytes if bytes < MIN_MEMORY => Err(BuildMemoryError::TooLittle(text.to_owned())),
            bytes if bytes > i64::MAX.unsigned_abs() => {
                Err(BuildMemoryError::TooMuch(text.to_owned()))
            }
            bytes => Ok(Self(bytes)),
        }
    }
}

/// The network that steps are in, as `docker build --network` takes it: `none`, `host`, `default`, or a network's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildNetwork(String);

/// `--build-network` cannot be a network.
#[derive(Debug, Error)]
#[error("`{0}` is no network: use none, host, default or the name of one of the engine's networks")]
pub struct BuildNetworkError(String);

impl BuildNetwork {
    /// Whether BuildKit can run steps in it: it knows no networks by name.
    pub(super) fn is_known_to_buildkit(&self) -> bool {
        matches!(self.0.as_str(), "none" | "host" | "default")
    }
}

impl FromStr for BuildNetwork {
    type Err = BuildNetworkError;

    fn from_str(text: &str) -> Result<Self, BuildNetworkError> {
        let odd = |c: char| c.is_whitespace() || c.is_control();
        if text.is_empty() || text.contains(odd) {
            return Err(BuildNetworkError(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for BuildNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_become_the_engine_s_parameters() {
        let limits = BuildLimits {
            cpus: Some("1.5".parse().unwrap()),
            memory: Some("4G".parse().unwrap()),
            network: Some("ci&net".parse().unwrap()),
        };
        assert_eq!(
            limits.classic_parameters(),
            "&cpuperiod=100000&cpuquota=150000&memory=4294967296&memswap=4294967296&networkmode=ci%26net"
        );
        assert_eq!(BuildLimits::default().classic_parameters(), "");
    }

    #[test]
    fn what_is_no_limit_is_refused_with_what_would_be_one() {
        for wrong in ["", "0", "-1", "0.001", "1e9", "nan", "two", "1,5"] {
            let error = wrong.parse::<BuildCpus>().unwrap_err().to_string();
            assert!(error.contains("such as 1.5"), "{error}");
        }
        assert_eq!(
            "1M".parse::<BuildMemory>().unwrap_err().to_string(),
            "`1M` is too little memory for a build step: use at least 6M"
        );
        let error = "9999999T".parse::<BuildMemory>().unwrap_err().to_string();
        assert!(
            error.contains("more memory than any machine has"),
            "{error}"
        );
        let error = "much".parse::<BuildMemory>().unwrap_err().to_string();
        assert!(error.contains("such as 1048576, 64k, 20M or 1G"), "{error}");
        for wrong in ["", "my net", "a\nb"] {
            assert!(wrong.parse::<BuildNetwork>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn only_limits_that_are_set_are_said_not_to_hold() {
        let mut limits = BuildLimits::default();
        assert_eq!(limits.not_enforced_by_buildkit(), None);
        limits.network = Some("none".parse().unwrap());
        assert_eq!(limits.not_enforced_by_buildkit(), None);
        limits.memory = Some("1G".parse().unwrap());
        let note = limits.not_enforced_by_buildkit().unwrap();
        assert!(note.contains("--build-memory is not enforced"), "{note}");
    }
}
