//! Printing data to standard output: for people, or as JSON for scripts.
//!
//! Data goes to standard output and everything else to standard error, so that a pipe only ever carries data. Each line is flushed
//! as it is written: what a reader sees is never behind what happened.

use std::io;

use clap::ValueEnum;
use serde::Serialize;

/// Who reads the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum OutputMode {
    /// People.
    #[default]
    Human,
    /// Programs: one JSON object on one line, whose "version" changes only if the meaning of a field does.
    Json,
}

/// The number in every JSON object's `version`.
pub const JSON_VERSION: u32 = 1;

#[derive(Serialize)]
struct Versioned<T> {
    version: u32,
    #[serde(flatten)]
    data: T,
}

/// `data`, a structure with named fields, as a JSON object on one line, with `version` as its first field.
///
/// # Errors
/// When `data` cannot be a JSON object.
pub fn to_json<T: Serialize>(data: T) -> io::Result<String> {
    Ok(serde_json::to_string(&Versioned {
        version: JSON_VERSION,
        data,
    })?)
}

/// Prints `data` as [`to_json`] makes it.
///
/// # Errors
/// When standard output is gone, or `data` cannot be a JSON object.
pub fn json<T: Serialize>(data: T) -> io::Result<()> {
    line(to_json(data)?)
}

/// Prints one line on standard output.
///
/// # Errors
/// When standard output is gone; [`io::ErrorKind::BrokenPipe`] means that the reader has seen enough.
pub fn line(text: impl AsRef<str>) -> io::Result<()> {
    write_line(io::stdout().lock(), text.as_ref())
}

/// Prints one line on standard error. If that is gone, there is nobody left to tell.
pub fn complain(text: impl AsRef<str>) {
    drop(write_line(io::stderr().lock(), text.as_ref()));
}

fn write_line(mut to: impl io::Write, text: &str) -> io::Result<()> {
    // In one piece, so that lines of processes which share the stream do not mix.
    to.write_all(format!("{text}\n").as_bytes())?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_versioned_and_on_one_line() {
        #[derive(Serialize)]
        struct Clients {
            clients: Vec<&'static str>,
        }
        let text = to_json(Clients {
            clients: vec!["alice", "b\nob"],
        })
        .unwrap();
        assert_eq!(text, r#"{"version":1,"clients":["alice","b\nob"]}"#);
    }
}
