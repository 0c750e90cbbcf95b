//! `man`, which every program has: its manual page, and those of its subcommands, as `man -l` reads them.
//!
//! It is made from the same description of the command line that reads it and prints `--help`.

use clap::{Arg, ArgMatches, Command};
use clap_mangen::Man;

use crate::args::Ended;

/// The subcommand's name.
pub(crate) const NAME: &str = "man";

const PAGE: &str = "page";

/// The subcommand, to be added to a program that has `subcommands`.
pub(crate) fn command(subcommands: Vec<String>) -> Command {
    let man = Command::new(NAME).about("Print the manual page of this program, for \"man -l\"");
    if subcommands.is_empty() {
        return man;
    }
    let page = Arg::new(PAGE)
        .value_name("COMMAND")
        .help("Print the page of this command instead")
        .value_parser(move |text: &str| {
            if subcommands.iter().any(|name| name == text) {
                return Ok(text.to_owned());
            }
            let known = subcommands.join(", ");
            Err(format!("there is no command '{text}', only {known}"))
        });
    man.arg(page)
}

/// The page that `matches` asks for, of the program or of one of its subcommands.
pub(crate) fn answer(program: Command, matches: &ArgMatches) -> Ended {
    let asked = matches.try_get_one::<String>(PAGE).ok().flatten();
    page(program, asked.map(String::as_str))
}

/// The page of the program, or of one of its subcommands.
pub(crate) fn page(mut program: Command, subcommand: Option<&str>) -> Ended {
    // Gives the subcommands their full names and the options that are everybody's.
    program.build();
    let below = subcommand.and_then(|name| program.find_subcommand(name));
    let described = below.unwrap_or(&program).clone();
    let source = format!(
        "{} {}",
        program.get_name(),
        program.get_version().unwrap_or_default()
    );
    let mut roff = Vec::new();
    let rendered = Man::new(described)
        .source(source)
        .manual("OCluster")
        .render(&mut roff);
    match rendered {
        Ok(()) => Ended::Answered(String::from_utf8_lossy(&roff).into_owned()),
        Err(error) => Ended::Unable(format!("the manual page cannot be made: {error}")),
    }
}
