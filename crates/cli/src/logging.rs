//! Logging to standard error, in the format and with the options of OCluster's programs.
//!
//! One line an event. Which levels are shown is decided by the command line alone; no environment variable has a say in it, but
//! `NO_COLOR` has in the colour.

use std::io::IsTerminal as _;

use clap::{ArgAction, Args, ValueEnum};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::log_counts::LogCounts;
use crate::log_format::LogFormat;

/// Libraries which talk a lot: their events are shown one step later than ours.
const CHATTY: [&str; 8] = [
    "bollard",
    "capnp_rpc",
    "h2",
    "hyper",
    "hyper_util",
    "mio",
    "rustls",
    "sled",
];

/// The target of what a program tells whoever starts it, not a log: shown at every level, though not with `-q`, and without a level,
/// as OCluster's programs do.
pub const APPLICATION: &str = "application";

/// The logging options of every program.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogArgs {
    /// Log what happens; twice, also the details. The default is to log warnings and errors only.
    #[arg(short, long, global = true, action = ArgAction::Count)]
    verbose: u8,

    /// Log messages of this level and worse. Takes precedence over -v.
    #[arg(long, global = true, value_name = "LEVEL")]
    verbosity: Option<Verbosity>,

    /// Log nothing. Takes precedence over -v and --verbosity.
    #[arg(short, long, global = true)]
    quiet: bool,

    /// Colour the log [default: auto, which is never if NO_COLOR is set].
    #[arg(long, global = true, value_name = "WHEN")]
    color: Option<Color>,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verbosity {
    /// Nothing.
    Quiet,
    /// Errors.
    Error,
    /// What an operator should look at.
    Warning,
    /// What happens.
    Info,
    /// Details.
    Debug,
}

/// When the log is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal.
    Auto,
    /// Also in a file.
    Always,
    /// Not at all.
    Never,
}

impl LogArgs {
    /// The level up to which events are logged.
    #[must_use]
    pub fn level(&self) -> LevelFilter {
        if self.quiet {
            return LevelFilter::OFF;
        }
        match (self.verbosity, self.verbose) {
            (Some(Verbosity::Quiet), _) => LevelFilter::OFF,
            (Some(Verbosity::Error), _) => LevelFilter::ERROR,
            (Some(Verbosity::Warning), _) | (None, 0) => LevelFilter::WARN,
            (Some(Verbosity::Info), _) | (None, 1) => LevelFilter::INFO,
            (Some(Verbosity::Debug), _) | (None, _) => LevelFilter::DEBUG,
        }
    }

    fn colored(&self) -> bool {
        match self.color.unwrap_or(Color::Auto) {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty())
                    && std::io::stderr().is_terminal()
            }
        }
    }

    /// Starts logging. The handle counts the messages which are logged. Only the first call in a process has an effect.
    pub fn start(&self) -> LogCounts {
        let level = self.level();
        let chatty = if level >= LevelFilter::DEBUG {
            LevelFilter::INFO
        } else {
            level.min(LevelFilter::WARN)
        };
        let application = if level == LevelFilter::OFF {
            LevelFilter::OFF
        } else {
            LevelFilter::INFO
        };
        let shown = Targets::new()
            .with_default(level)
            .with_target(APPLICATION, application)
            .with_targets(CHATTY.map(|target| (target, chatty)));
        let counts = LogCounts::new();
        let lines = tracing_subscriber::fmt::layer()
            .event_format(LogFormat {
                color: self.colored(),
            })
            .with_writer(std::io::stderr);
        let subscriber = tracing_subscriber::registry()
            .with(shown)
            .with(counts.layer())
            .with(lines);
        // A second start, in a test which runs two programs, keeps the first one's output.
        drop(tracing::subscriber::set_global_default(subscriber));
        counts
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        log: LogArgs,
    }

    fn level(line: &str) -> LevelFilter {
        Cli::try_parse_from(line.split(' ')).unwrap().log.level()
    }

    #[test]
    fn options_set_the_level() {
        assert_eq!(level("prog"), LevelFilter::WARN);
        assert_eq!(level("prog -v"), LevelFilter::INFO);
        assert_eq!(level("prog -v --verbose"), LevelFilter::DEBUG);
        assert_eq!(level("prog --verbosity=error"), LevelFilter::ERROR);
        assert_eq!(level("prog --verbosity=info"), LevelFilter::INFO);
        assert_eq!(level("prog -v --verbosity=error"), LevelFilter::ERROR);
        assert_eq!(level("prog --verbosity=quiet"), LevelFilter::OFF);
    }

    #[test]
    fn d17_quiet_is_quiet() {
        // Upstream's daemons log at level info with -q.
        assert_eq!(level("prog -q"), LevelFilter::OFF);
        assert_eq!(level("prog -q -v"), LevelFilter::OFF);
    }
}
