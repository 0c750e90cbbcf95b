//! The whole command line of `ocluster-scheduler`: without a subcommand it runs the scheduler, as OCluster's does; with one it does a
//! chore while no scheduler runs.
//!
//! What each needs is asked of it alone: a chore does not need the daemon's required options, nor the other way round.

use clap::{ArgMatches, Command, CommandFactory, Error, FromArgMatches, Subcommand};
use ocluster_cli::{ExitCode, LogArgs};

use crate::args::Args;
use crate::migrate::{self, ExportArgs, ImportArgs};
use crate::store_chores::{self, StoreChore};

/// What this process is to do.
#[derive(Debug)]
pub enum CommandLine {
    /// Run the scheduler.
    Serve(Box<Args>),
    /// Do one thing, and end.
    Chore(LogArgs, Chore),
}

/// What can be done while no scheduler runs.
#[derive(Debug, Subcommand)]
pub enum Chore {
    /// Bring over what a scheduler of OCluster has remembered, so that this one can take its place.
    ///
    /// Clients keep their capability files, workers their pauses, clients their rates, and cache hints their workers. The database is
    /// only read. Neither scheduler may run meanwhile. Everything is brought over, or nothing.
    Import(ImportArgs),
    /// Write what this scheduler remembers as a database that OCluster's scheduler opens, so that it can take over again.
    ///
    /// No scheduler may run meanwhile. Records and logs of jobs stay: the database has no place for them.
    Export(ExportArgs),
    /// Check, export, import or compact this scheduler's own store.
    ///
    /// No scheduler may run meanwhile.
    #[command(subcommand)]
    Store(StoreChore),
}

impl Chore {
    /// Does the chore, prints what came of it, and gives the exit code: 0 if it was done, 1 if not.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        match self {
            Self::Import(args) => migrate::finish(migrate::import(args), args.output),
            Self::Export(args) => migrate::finish(migrate::export(args), args.output),
            Self::Store(chore) => store_chores::run(chore),
        }
    }
}

impl CommandFactory for CommandLine {
    fn command() -> Command {
        let daemon = Args::command();
        let about = daemon.get_about().cloned().unwrap_or_default();
        // The chores bring a description of themselves, which is not the program's.
        Chore::augment_subcommands(daemon)
            .about(about)
            .long_about(None)
            .subcommand_required(false)
    }

    fn command_for_update() -> Command {
        Self::command()
    }
}

impl FromArgMatches for CommandLine {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        match matches.subcommand() {
            None => Args::from_arg_matches(matches).map(|args| Self::Serve(Box::new(args))),
            // The logging options, which are everybody's, are known to the innermost command.
            Some((_, below)) => Ok(Self::Chore(
                LogArgs::from_arg_matches(below)?,
                Chore::from_arg_matches(matches)?,
            )),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use ocluster_cli::args::{Ended, parse_from};

    use super::*;

    const DAEMON: &str =
        "--capnp-secret-key-file=k --capnp-listen-address=tcp:127.0.0.1:0 --state-dir=s --pools=a";

    fn parse(line: &str) -> Result<CommandLine, Ended> {
        let line = format!("ocluster-scheduler {line}").replace("DAEMON", DAEMON);
        parse_from(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn without_a_subcommand_it_is_the_daemon_as_ever() {
        for line in [
            "DAEMON",
            "DAEMON -v",
            "--capnp-sec k --capnp-l=unix:/x --sta=s --pool import",
        ] {
            let parsed = parse(line);
            assert!(
                matches!(parsed, Ok(CommandLine::Serve(_))),
                "{line}: {parsed:?}"
            );
        }
        let Err(Ended::Mistake(text)) = parse("--pools=a") else {
            panic!()
        };
        assert!(text.contains("option '--capnp-secret-key-file'"), "{text}");
    }

    #[test]
    fn a_chore_needs_nothing_of_the_daemon() {
        let import = parse("import --from f --state-dir=s -v").unwrap();
        let CommandLine::Chore(log, Chore::Import(_)) = import else {
            panic!("{import:?}")
        };
        assert_eq!(log.level().to_string(), "info");
        let export = parse("exp --to=f --state=s");
        assert!(
            matches!(export, Ok(CommandLine::Chore(_, Chore::Export(_)))),
            "{export:?}"
        );
        for mistake in ["import --state-dir=s", "DAEMON import", "impart"] {
            assert!(
                matches!(parse(mistake), Err(Ended::Mistake(_))),
                "{mistake}"
            );
        }
    }

    #[test]
    fn nobody_becomes_a_windows_service_here() {
        let refusal = Ended::Unable(
            "ocluster-scheduler: Cannot install a service on non-Windows systems.".to_owned(),
        );
        assert_eq!(parse("install name").unwrap_err(), refusal);
    }
}
