//! How often the worker looks whether its Docker engine does its work.

use std::time::Duration;

use clap::Args;

use crate::health::HEALTH_CHECK_PERIOD;

/// Long enough for anybody, and far from where clocks overflow.
const LONGEST: f64 = 1e9;

#[derive(Clone, Debug, Args)]
pub(super) struct HealthArgs {
    /// How often to look whether the Docker engine works, in seconds; 0 for never. While it does not, no jobs are taken.
    #[arg(long, value_name = "SECONDS", default_value_t = HEALTH_CHECK_PERIOD.as_secs_f64(), value_parser = seconds)]
    health_check: f64,
}

impl HealthArgs {
    /// The time between two looks at a healthy engine, if there are any.
    pub(super) fn period(&self) -> Option<Duration> {
        (self.health_check > 0.0).then(|| Duration::from_secs_f64(self.health_check))
    }
}

/// Reads a time between two health checks.
pub(super) fn seconds(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(seconds) if (0.0..=LONGEST).contains(&seconds) => Ok(seconds),
        _ => Err(
            "the time between two health checks must be a number of seconds that is not negative",
        ),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        health: HealthArgs,
    }

    fn period(flags: &[&str]) -> Result<Option<Duration>, String> {
        let words = ["program"].iter().chain(flags);
        Program::try_parse_from(words)
            .map(|program| program.health.period())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn health_is_checked_once_a_minute_unless_told_otherwise() {
        assert_eq!(period(&[]), Ok(Some(Duration::from_secs(60))));
        assert_eq!(
            period(&["--health-check=0.5"]),
            Ok(Some(Duration::from_millis(500)))
        );
        assert_eq!(period(&["--health-check=0"]), Ok(None));
        for wrong in ["-1", "NaN", "inf", "soon", "1e300"] {
            let error = period(&[&format!("--health-check={wrong}")]).unwrap_err();
            assert!(error.contains("must be a number of seconds"), "{error}");
        }
    }
}
