//! What the four programs share, so that they look and behave like one family: how arguments are read and mistakes in them are
//! reported, exit codes, logging, connecting to the cluster with progress, printing data, and the runtime with its signals.
//!
//! Nothing here decides what a program does, and nothing but [`jobs`], which shows records, knows jobs, pools or workers.

#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        reason = "a test fails by panicking"
    )
)]

pub mod args;
mod backoff;
mod cap;
mod completions;
mod connect;
mod duration;
mod exit;
mod failure;
mod help_format;
pub mod jobs;
mod log_counts;
mod log_format;
pub mod logging;
mod man;
pub mod metrics_page;
mod notify;
mod ocaml_string;
pub mod output;
mod passing_line;
mod progress;
mod runtime;
mod size;
mod table;
#[cfg(feature = "testing")]
pub mod testing;
mod usage;
mod windows_service;

pub use backoff::Backoff;
pub use cap::{CapArgs, CapSource, CapSourceError, existing_file};
pub use connect::{connect, hang_up};
pub use duration::{DurationError, parse_duration, show_duration};
pub use exit::ExitCode;
pub use failure::Failure;
pub use log_counts::{LogCount, LogCounts};
pub use logging::LogArgs;
pub use metrics_page::MetricsPage;
pub use notify::{SERVICE_VARIABLES, Service};
pub use ocaml_string::ocaml_string;
pub use output::OutputMode;
pub use passing_line::PassingLine;
pub use runtime::{Interrupt, Signal, Signals, raise_file_limit, run};
pub use size::{SizeError, parse_size};
pub use table::Table;
