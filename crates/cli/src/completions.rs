//! `completions SHELL`, which every program has: what teaches a shell to complete the program's command lines.
//!
//! It is made from the same description of the command line that reads it, so the two cannot differ.

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::args::Ended;

/// The subcommand's name.
pub(crate) const NAME: &str = "completions";

const SHELL: &str = "shell";

/// The subcommand, to be added to a program's own.
pub(crate) fn command() -> Command {
    Command::new(NAME)
        .about("Print what teaches a shell to complete the command lines of this program")
        .arg(
            Arg::new(SHELL)
                .value_name("SHELL")
                .help("The shell")
                .required(true)
                .value_parser(value_parser!(Shell)),
        )
}

/// The script for the shell that `matches` asks for, which completes the command lines that `program` describes.
pub(crate) fn answer(mut program: Command, matches: &ArgMatches) -> Ended {
    // The parser has seen to it that there is one.
    let shell = matches.get_one(SHELL).copied().unwrap_or(Shell::Bash);
    let name = program.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut program, name, &mut script);
    Ended::Answered(String::from_utf8_lossy(&script).into_owned())
}
