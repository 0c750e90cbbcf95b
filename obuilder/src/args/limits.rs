//! What each step may use. The same limits as a worker's, under shorter names.

use std::time::Duration;

use clap::Args;
use ocluster_cli::{parse_duration, parse_size};
use ocluster_obuilder::sandbox::Limits;

/// What each step may use at most; where there is no default, what the machine has.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub(crate) struct LimitArgs {
    /// Give each step at most this much memory (bytes, or with k, M, G), and no swap on top.
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Give each step at most this much processor time: 1.5 is one processor and a half.
    #[arg(long, value_name = "N", value_parser = processors)]
    cpus: Option<f64>,
    /// Let each step have at most this many processes and threads at once; 0 for no limit.
    #[arg(long, value_name = "N", default_value_t = 32_768)]
    pids: u64,
    /// Stop a step that takes longer than this, as in "90m".
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    step_time: Option<Duration>,
    /// Stop a step that prints more than this (bytes, or with k, M, G); 0 for no limit.
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = parse_size)]
    step_output: u64,
}

impl LimitArgs {
    /// The limits as the engine has them.
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            memory: self.memory.filter(|bytes| *bytes > 0),
            cpus: self.cpus,
            pids: Some(self.pids).filter(|pids| *pids > 0),
            time: self.step_time.filter(|time| !time.is_zero()),
            output: Some(self.step_output).filter(|bytes| *bytes > 0),
        }
    }
}

fn processors(text: &str) -> Result<f64, &'static str> {
    match text.parse() {
        Ok(number) if (0.01..=65_536.0).contains(&number) => Ok(number),
        _ => Err("expected a number of processors, such as 2 or 1.5"),
    }
}
