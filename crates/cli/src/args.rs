//! Reading a command line: clap's parser with the habits of OCluster's own programs.
//!
//! - Long options and subcommands may be abbreviated as long as they stay unambiguous.
//! - `-c CAP` may come before the subcommand; CAP may also be the first positional argument.
//! - An option with one value may be given once.
//! - `--help=FMT` says how the help should look; `completions SHELL` and `man` answer questions about the program itself, in every program.
//! - A mistake is reported on standard error in three lines, with exit code 124.

use std::ffi::{OsStr, OsString};

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, FromArgMatches};

use crate::exit::ExitCode;
use crate::{completions, help_format, man, output, usage, windows_service};

/// The id of the positional CAP argument of [`crate::CapArgs`].
pub(crate) const CAP: &str = "cap";
/// The id, and the name, of the option which says the same.
const CONNECT: &str = "connect";
/// A short option which nobody can type: what becomes of the positional CAP when the option is used instead.
const UNTYPEABLE: char = '\u{1}';
/// As wide as the help gets, in columns, however wide the terminal.
const WIDEST_HELP: usize = 100;

/// A command line which does not lead to running the program: a mistake, or a question about the program itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `--help`, `--version`, `completions` or `man`, to be answered on standard output.
    Answered(String),
    /// A mistake, to be reported on standard error.
    Mistake(String),
    /// Something that makes sense and cannot be done, to be reported on standard error.
    Unable(String),
}

impl Ended {
    /// Prints what there is to say, and gives the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Answered(text) => {
                // Whoever asked for help and stopped reading has had enough of it.
                drop(output::line(text.trim_end()));
                ExitCode::Success
            }
            Self::Mistake(text) => {
                output::complain(text.trim_end());
                ExitCode::Usage
            }
            Self::Unable(text) => {
                output::complain(text.trim_end());
                ExitCode::Internal
            }
        }
    }
}

/// Reads the command line of this process.
///
/// # Errors
/// When there is nothing to run, see [`Ended`].
pub fn parse<P: CommandFactory + FromArgMatches>() -> Result<P, Ended> {
    parse_from(std::env::args_os())
}

/// Reads a command line whose first word is the program's name.
///
/// # Errors
/// When there is nothing to run, see [`Ended`].
pub fn parse_from<P, I>(args: I) -> Result<P, Ended>
where
    P: CommandFactory + FromArgMatches,
    I: IntoIterator,
    I::Item: Into<OsString>,
{
    let mut args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    let manual = help_format::take(&mut args);
    let command = P::command();
    if let Some(refusal) = windows_service::refusal(&command, &args) {
        return Err(refusal);
    }
    if command.is_subcommand_required_set() {
        args = connect_behind_subcommand(args);
    }
    let mut command = prepare(command, names_connect(&args));
    // Described as it is to whoever has not yet chosen between CAP and `--connect`.
    let described = || prepare(P::command(), false);
    let matches = match command.try_get_matches_from_mut(&args) {
        Ok(matches) => matches,
        Err(error) if manual && error.kind() == ErrorKind::DisplayHelp => {
            command.build();
            let page = usage::subcommand(&mut command, &args).map(|below| below.get_name());
            return Err(man::page(described(), page));
        }
        Err(error) => return Err(ended(&mut command, &args, &error)),
    };
    match matches.subcommand() {
        Some((completions::NAME, asked)) => return Err(completions::answer(described(), asked)),
        Some((man::NAME, asked)) => return Err(man::answer(described(), asked)),
        _ => {}
    }
    P::from_arg_matches(&matches).map_err(|error| ended(&mut command, &args, &error))
}

fn ended(command: &mut Command, args: &[OsString], error: &clap::Error) -> Ended {
    match error.kind() {
        ErrorKind::DisplayHelp => Ended::Answered(error.to_string()),
        ErrorKind::DisplayVersion => {
            Ended::Answered(command.get_version().unwrap_or("n/a").to_owned())
        }
        _ => Ended::Mistake(usage::describe(command, args, error)),
    }
}

/// Sets what the programs have in common.
fn prepare(command: Command, connect_named: bool) -> Command {
    let own: Vec<String> = command
        .get_subcommands()
        .map(|below| below.get_name().to_owned())
        .collect();
    // A subcommand is only taken for a file name, and the other way round, if it is written out.
    let takes_words = command.get_positionals().next().is_some();
    let daemon = !command.is_subcommand_required_set();
    let command = choose_cap(command, connect_named)
        .subcommand(completions::command())
        .subcommand(man::command(own))
        .infer_long_args(true)
        .infer_subcommands(!takes_words)
        .disable_help_subcommand(true)
        .propagate_version(true)
        .max_term_width(WIDEST_HELP);
    if daemon {
        // What it takes to run is not asked of who only has a question.
        command
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true)
    } else {
        command
    }
}

/// Makes either CAP or `--connect` a required argument, in this command and those below it, and takes CAP out of the way of the
/// other positional arguments if it is not the one.
fn choose_cap(mut command: Command, connect_named: bool) -> Command {
    if command.get_arguments().any(|arg| arg.get_id() == CAP) {
        // `mut_args`, unlike `mut_arg`, keeps the order, from which positional arguments get their places.
        command = command.mut_args(|arg| match arg.get_id().as_str() {
            CAP if connect_named => arg.short(UNTYPEABLE).hide(true),
            CAP => arg.required(true),
            CONNECT if connect_named => arg.required(true),
            _ => arg,
        });
    }
    command.mut_subcommands(|below| choose_cap(below, connect_named))
}

/// Whether the option `--connect` is used, in any of its spellings, before a `--`.
fn names_connect(args: &[OsString]) -> bool {
    args.iter()
        .skip(1)
        .take_while(|arg| *arg != "--")
        .any(|arg| is_connect(arg))
}

fn is_connect(arg: &OsStr) -> bool {
    let Some(arg) = arg.to_str() else {
        return false;
    };
    if let Some(long) = arg.strip_prefix("--") {
        let name = long.split_once('=').map_or(long, |(name, _)| name);
        return !name.is_empty() && CONNECT.starts_with(name);
    }
    // `-c`, or the last of a cluster such as `-vc`.
    arg.strip_prefix('-')
        .is_some_and(|cluster| cluster.trim_start_matches(['v', 'q']).starts_with('c'))
}

/// The place of the first argument that is not an option: the subcommand, in a program that does nothing without one.
pub(crate) fn first_word(args: &[OsString]) -> Option<usize> {
    let is_option = |arg: &OsString| arg.to_str().is_some_and(|arg| arg.starts_with('-'));
    (1..args.len()).find(|&place| args.get(place).is_some_and(|arg| !is_option(arg)))
}

/// Moves a leading `-c CAP`, `--connect CAP` or `--connect=CAP` behind the subcommand, where the option is defined. Without a
/// subcommand it counts for nothing.
fn connect_behind_subcommand(mut args: Vec<OsString>) -> Vec<OsString> {
    let words = match args.get(1).and_then(|arg| arg.to_str()) {
        Some("-c" | "--connect") => 2,
        Some(arg) if arg.starts_with("--connect=") => 1,
        _ => return args,
    };
    let end = args.len().min(1 + words);
    let moved: Vec<OsString> = args.drain(1..end).collect();
    if let Some(subcommand) = first_word(&args) {
        args.splice(subcommand + 1..subcommand + 1, moved);
    }
    args
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::CapArgs;

    const URI: &str = "capnp://insecure@127.0.0.1:9000/c2VjcmV0";

    #[derive(Debug, Parser)]
    #[command(name = "prog", version = "1.2.3")]
    struct Cli {
        #[command(subcommand)]
        command: Sub,
        #[arg(long, global = true)]
        loud: bool,
    }

    /// A program without subcommands, as the worker is.
    #[derive(Debug, Parser)]
    #[command(name = "worker", version = "1.2.3")]
    struct WorkerCli {
        #[command(flatten)]
        cap: CapArgs,
        #[arg(long)]
        name: String,
    }

    #[derive(Debug, clap::Subcommand)]
    enum Sub {
        /// Shows.
        Show {
            #[command(flatten)]
            cap: CapArgs,
            pool: Option<String>,
            #[arg(long)]
            terse: bool,
            #[arg(long)]
            long: bool,
        },
        /// Sets.
        SetRate {
            #[command(flatten)]
            cap: CapArgs,
            #[arg(allow_negative_numbers = true)]
            rate: f64,
            #[arg(long, value_name = "ID")]
            pool: String,
        },
        /// Runs.
        Exec {
            #[command(flatten)]
            cap: CapArgs,
            #[arg(last = true, required = true)]
            words: Vec<String>,
        },
    }

    fn parse(line: &str) -> Result<Cli, Ended> {
        let line = line.replace("URI", URI);
        parse_from(line.split(' ').map(str::to_owned))
    }

    fn shown_pool(line: &str) -> Option<String> {
        match parse(line) {
            Ok(Cli {
                command: Sub::Show { cap, pool, .. },
                ..
            }) => {
                assert_eq!(cap.load().unwrap().to_uri(), URI, "{line}");
                pool
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    fn mistake(line: &str) -> String {
        match parse(line) {
            Err(Ended::Mistake(text)) => text,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_cap_is_the_first_positional_unless_given_as_an_option() {
        for line in [
            "prog show URI linux",
            "prog show -c URI linux",
            "prog show linux -c URI",
            "prog show linux --connect URI",
            "prog show linux --connect=URI",
            "prog show linux --con URI",
            "prog -c URI show linux",
            "prog --connect URI show linux",
            "prog --connect=URI show linux",
            "prog --connect URI --loud show linux",
        ] {
            assert_eq!(shown_pool(line).as_deref(), Some("linux"), "{line}");
        }
        assert_eq!(shown_pool("prog show URI"), None);
        assert_eq!(shown_pool("prog show -c URI"), None);
    }

    #[test]
    fn programs_without_subcommands_take_the_cap_in_the_same_ways() {
        let parse = |line: &str| {
            parse_from::<WorkerCli, _>(line.replace("URI", URI).split(' ').map(str::to_owned))
        };
        for line in [
            "worker URI --name w1",
            "worker --name=w1 URI",
            "worker -c URI --name w1",
            "worker --connect URI --name=w1",
            "worker --name w1 --connect=URI",
        ] {
            let cli = parse(line).unwrap_or_else(|ended| panic!("{line}: {ended:?}"));
            assert_eq!(
                (cli.name.as_str(), cli.cap.load().unwrap().to_uri().as_str()),
                ("w1", URI),
                "{line}"
            );
        }
        let Err(Ended::Mistake(text)) = parse("worker --name=w1") else {
            panic!()
        };
        assert_eq!(
            text,
            "worker: required argument CAP is missing.\nUsage: worker [OPTIONS] --name <NAME> <CAP>\n       \
             worker <COMMAND>\nTry 'worker --help' for more information."
        );
    }

    #[test]
    fn what_follows_two_dashes_is_nobodys_option() {
        let Ok(Cli {
            command: Sub::Exec { cap, words },
            ..
        }) = parse("prog exec URI -- ssh -c aes {}")
        else {
            panic!()
        };
        assert!(cap.load().is_ok());
        assert_eq!(words, ["ssh", "-c", "aes", "{}"]);
    }

    #[test]
    fn subcommands_and_long_options_may_be_abbreviated() {
        assert_eq!(
            shown_pool("prog sho URI linux --te").as_deref(),
            Some("linux")
        );
    }

    #[test]
    fn version_is_the_number_alone() {
        assert_eq!(
            parse("prog --version").unwrap_err(),
            Ended::Answered("1.2.3".to_owned())
        );
        assert_eq!(
            parse("prog show --version").unwrap_err(),
            Ended::Answered("1.2.3".to_owned())
        );
    }

    #[test]
    fn mistakes_are_told_in_three_lines() {
        let lines = [
            "prog",
            "prog -c URI",
            "prog dance",
            "prog URI show",
            "prog show URI linux URI",
            "prog show URI --terse=URI",
            "prog s URI",
            "prog show",
            "prog show URI linux and more",
            "prog show -c URI -c URI",
            "prog show URI --terse --terse",
            "prog show URI --bogus",
            "prog show URI --tersee",
            "prog show URI --l",
            "prog show URI --lo=yes",
            "prog show URI --terse=yes",
            "prog show no-such.cap",
            "prog show -c no-such.cap",
            "prog show -c",
            "prog set-rate URI 5",
            "prog set-rate URI fast --pool linux",
            "prog set-rate URI --pool",
            "prog set-rate URI 1 --pool=a --pool=b",
            "prog exec URI",
        ];
        let report: Vec<String> = lines
            .iter()
            .map(|line| format!("$ {line}\n{}\n", mistake(line)))
            .collect();
        insta::assert_snapshot!(report.join("\n"));
    }
}
