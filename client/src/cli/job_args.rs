//! The options of the commands about jobs that were submitted before.

use std::time::SystemTime;

use clap::Args;
use jiff::Timestamp;
use ocluster_cli::jobs::JobState;
use ocluster_cli::{CapArgs, OutputMode, parse_duration};
use thiserror::Error;

#[derive(Debug, Args)]
pub(crate) struct Jobs {
    #[command(flatten)]
    pub(crate) cap: CapArgs,

    /// Only jobs in these states: queued, running, passed, failed, cancelled, timed-out or lost.
    #[arg(
        long = "state",
        value_enum,
        value_name = "STATE,...",
        value_delimiter = ',',
        hide_possible_values = true
    )]
    pub(crate) states: Vec<JobState>,

    /// Only jobs of this pool.
    #[arg(long, value_name = "ID")]
    pub(crate) pool: Option<String>,

    /// List at most so many.
    #[arg(long, value_name = "N", default_value_t = 50)]
    pub(crate) limit: u32,

    /// List all of them, however many.
    #[arg(long, conflicts_with = "limit")]
    pub(crate) all: bool,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OneJob {
    #[command(flatten)]
    pub(crate) cap: CapArgs,

    /// The job's id, or an unambiguous beginning of it.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    #[command(flatten)]
    pub(crate) cap: CapArgs,

    /// The job's id, or an unambiguous beginning of it.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,

    /// Go on until the job has ended.
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Begin with the last N lines that there are by now.
    #[arg(long, value_name = "N")]
    pub(crate) tail: Option<u64>,

    /// Leave out the attempts that ended before this: a time, such as 2024-05-01T12:00:00Z, or how long ago, such as 10m. The lines of
    /// a log carry no times, so an attempt is printed whole or not at all.
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub(crate) since: Option<Timestamp>,

    /// Print for a human, or json: then the log goes to standard error and what is known of the job, as a line of JSON, to
    /// standard output.
    #[arg(
        long,
        value_enum,
        value_name = "MODE",
        default_value = "human",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) output: OutputMode,
}

#[derive(Debug, Args)]
pub(crate) struct Cancel {
    #[command(flatten)]
    pub(crate) cap: CapArgs,

    /// The job's id, or an unambiguous beginning of it.
    #[arg(value_name = "JOB")]
    pub(crate) job: String,

    /// Why, for the job's record.
    #[arg(
        long,
        value_name = "TEXT",
        default_value = "no reason given",
        hide_default_value = true
    )]
    pub(crate) reason: String,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct Wait {
    #[command(flatten)]
    pub(crate) cap: CapArgs,

    /// The jobs' ids, or unambiguous beginnings of them.
    #[arg(value_name = "JOB", required = true)]
    pub(crate) jobs: Vec<String>,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

#[derive(Debug, Args)]
pub(crate) struct OutputArgs {
    /// Print for a human, or json for programs.
    #[arg(
        long = "output",
        value_enum,
        value_name = "MODE",
        default_value = "human",
        hide_default_value = true,
        hide_possible_values = true
    )]
    pub(crate) mode: OutputMode,
}

/// Why a text names no time.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "{0:?} is no time: write how long ago, such as 10m, or a time with its zone, such as 2024-05-01T12:00:00Z"
)]
pub(crate) struct SinceError(String);

fn since(text: &str) -> Result<Timestamp, SinceError> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let error = || SinceError(text.to_owned());
    let ago = parse_duration(text).map_err(|_| error())?;
    let then = SystemTime::now().checked_sub(ago).ok_or_else(error)?;
    Timestamp::try_from(then).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_time_or_how_long_ago() {
        assert_eq!(
            since("2024-05-01T12:00:00Z").unwrap().as_second(),
            1_714_564_800
        );
        assert_eq!(
            since("2024-05-01T14:00:00+02:00").unwrap().as_second(),
            1_714_564_800
        );
        let ago = Timestamp::now().as_second() - since("10m").unwrap().as_second();
        assert!((600..700).contains(&ago), "{ago}");
        for wrong in ["", "yesterday", "10", "99999999999999y"] {
            assert!(since(wrong).is_err(), "{wrong}");
        }
    }
}
