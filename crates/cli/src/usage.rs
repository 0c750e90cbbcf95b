//! How mistakes on a command line are told: three lines, as users of OCluster know them.
//!
//! ```text
//! prog: what is wrong
//! Usage: prog COMMAND [OPTIONS] ...
//! Try 'prog COMMAND --help' for more information.
//! ```

use std::ffi::OsString;

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::first_word;

/// What a sturdy ref starts with.
const SCHEME: &str = "capnp://";

/// The three lines for `error`, which `command` gave when reading `args`.
pub(crate) fn describe(command: &mut Command, args: &[OsString], error: &clap::Error) -> String {
    let program = command.get_name().to_owned();
    let message = ambiguous_option(command, args, error).unwrap_or_else(|| message(command, error));
    let message = without_secrets(message, args);
    command.build();
    let (path, usage) = match subcommand(command, args) {
        Some(below) => (
            format!("{program} {}", below.get_name()),
            below.render_usage(),
        ),
        None => (program.clone(), command.render_usage()),
    };
    let usage = usage.to_string();
    let usage = usage
        .lines()
        .map(str::trim_end)
        .collect::<Vec<_>>()
        .join("\n");
    format!("{program}: {message}\n{usage}\nTry '{path} --help' for more information.")
}

/// Says of an abbreviation what it could stand for, if that is more than one option.
fn ambiguous_option(
    command: &mut Command,
    args: &[OsString],
    error: &clap::Error,
) -> Option<String> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let invalid = strings(error, ContextKind::InvalidArg);
    let word = invalid.first()?.split('=').next()?;
    let prefix = word.strip_prefix("--")?;
    // Options that every subcommand has are known to each only now.
    command.build();
    let command: &Command = match subcommand(command, args) {
        Some(below) => below,
        None => command,
    };
    let fitting: Vec<String> = command
        .get_arguments()
        .filter(|arg| !arg.is_hide_set())
        .filter_map(|arg| arg.get_long())
        .filter(|long| long.starts_with(prefix))
        .map(|long| format!("--{long}"))
        .collect();
    (fitting.len() > 1).then(|| {
        let fitting = quoted(fitting.iter().map(String::as_str));
        format!("option '{word}' ambiguous and could be either {fitting}.")
    })
}

/// Leaves sturdy refs out: a mistyped command must not put one into a log.
fn without_secrets(mut message: String, args: &[OsString]) -> String {
    for arg in args.iter().filter_map(|arg| arg.to_str()) {
        if let Some(secret) = arg.find(SCHEME).and_then(|start| arg.get(start..)) {
            message = message.replace(secret, &format!("{SCHEME}..."));
        }
    }
    message
}

/// The subcommand the user meant, if that can be told.
pub(crate) fn subcommand<'a>(
    command: &'a mut Command,
    args: &[OsString],
) -> Option<&'a mut Command> {
    let place = if command.is_subcommand_required_set() {
        first_word(args)?
    } else {
        1
    };
    let word = args.get(place)?.to_str()?;
    if command.get_positionals().next().is_some() {
        return command.find_subcommand_mut(word);
    }
    let fitting: Vec<&str> = command
        .get_subcommands()
        .map(Command::get_name)
        .filter(|name| name.starts_with(word))
        .collect();
    let name = if let [only] = fitting.as_slice() {
        (*only).to_owned()
    } else {
        word.to_owned()
    };
    command.find_subcommand_mut(name)
}

fn message(command: &Command, error: &clap::Error) -> String {
    let invalid = strings(error, ContextKind::InvalidArg);
    let argument = invalid.first().map(|arg| name_of(arg)).unwrap_or_default();
    let value = strings(error, ContextKind::InvalidValue)
        .into_iter()
        .next()
        .unwrap_or_default();
    match error.kind() {
        ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            format!(
                "required COMMAND name is missing, must be one of {}.",
                subcommands(command, "")
            )
        }
        ErrorKind::InvalidSubcommand => {
            let word = strings(error, ContextKind::InvalidSubcommand)
                .into_iter()
                .next()
                .unwrap_or_default();
            if command
                .get_subcommands()
                .any(|below| below.get_name().starts_with(&word))
            {
                format!(
                    "command '{word}' ambiguous and could be either {}.",
                    subcommands(command, &word)
                )
            } else {
                format!(
                    "unknown command '{word}', must be one of {}.",
                    subcommands(command, "")
                )
            }
        }
        ErrorKind::UnknownArgument => match invalid.first() {
            Some(arg) if arg.starts_with('-') => {
                let hint = strings(error, ContextKind::SuggestedArg).into_iter().next();
                let hint = hint
                    .map(|arg| format!(" Did you mean '{arg}'?"))
                    .unwrap_or_default();
                format!("unknown option '{arg}'.{hint}")
            }
            Some(arg) => format!("too many arguments, don't know what to do with '{arg}'."),
            None => first_line(error),
        },
        ErrorKind::MissingRequiredArgument => {
            let missing: Vec<String> = invalid.iter().map(|arg| name_of(arg)).collect();
            match missing.as_slice() {
                [one] => format!("required {one} is missing."),
                several => format!("required {} are missing.", several.join(", ")),
            }
        }
        ErrorKind::ArgumentConflict if invalid.is_empty() => {
            let command = strings(error, ContextKind::InvalidSubcommand).concat();
            format!("command '{command}' cannot be used together with other arguments.")
        }
        ErrorKind::ArgumentConflict => {
            let others = strings(error, ContextKind::PriorArg);
            match others.first().map(|other| name_of(other)) {
                Some(other) if other != argument => {
                    format!("{argument} cannot be used together with {other}.")
                }
                _ => format!("{argument} cannot be repeated."),
            }
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{argument} needs a value."),
        ErrorKind::InvalidValue => {
            let valid = strings(error, ContextKind::ValidValue);
            format!(
                "{argument}: invalid value '{value}', expected one of {}.",
                quoted(valid.iter().map(String::as_str))
            )
        }
        ErrorKind::ValueValidation => match std::error::Error::source(error) {
            Some(reason) => format!("{argument}: {reason}"),
            None => first_line(error),
        },
        ErrorKind::TooManyValues => format!("{argument} is a flag, it cannot have a value."),
        _ => first_line(error),
    }
}

/// Clap's own sentence, for what is not worth one of ours.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// `option '--pool'` or `argument POOL`, from clap's `--pool <ID>`, `<POOL>` or `[POOL]`.
fn name_of(arg: &str) -> String {
    let word = arg.split([' ', '=']).next().unwrap_or(arg);
    if word.starts_with('-') {
        format!("option '{word}'")
    } else {
        format!("argument {}", word.trim_matches(|c| "<>[].".contains(c)))
    }
}

fn strings(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(one)) => vec![one.clone()],
        Some(ContextValue::Strings(several)) => several.clone(),
        _ => Vec::new(),
    }
}

/// The subcommands whose names start with `prefix`, for a sentence.
fn subcommands(command: &Command, prefix: &str) -> String {
    quoted(
        command
            .get_subcommands()
            .map(Command::get_name)
            .filter(|name| name.starts_with(prefix)),
    )
}

fn quoted<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("'{name}'")).collect();
    match names.as_slice() {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}
