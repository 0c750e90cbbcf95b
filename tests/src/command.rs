//! Runs a program to its end and keeps what it said.
//!
//! Output goes through files, never through pipes: a grandchild that keeps a pipe open cannot delay or block a test.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};

use crate::deadline::wait_for;

/// The longest that any one command of a story may take.
const LIMIT: Duration = Duration::from_secs(180);

/// A program that has ended.
pub struct Finished {
    /// The command line, for messages.
    pub command: String,
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to stdout; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// What it wrote to stderr.
    pub stderr: String,
}

impl Finished {
    /// The exit code; 128 + n after signal n, as shells count.
    #[must_use]
    pub fn code(&self) -> i32 {
        self.status
            .code()
            .unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// Itself, if the exit code is 0.
    ///
    /// # Errors
    ///
    /// With everything the program said, when it failed.
    pub fn success(self) -> Result<Self> {
        self.exits_with(0)
    }

    /// Itself, if the exit code is `code`.
    ///
    /// # Errors
    ///
    /// With everything the program said, when it ended otherwise.
    pub fn exits_with(self, code: i32) -> Result<Self> {
        if self.code() == code {
            Ok(self)
        } else {
            bail!("expected exit code {code}: {self}")
        }
    }

    /// Itself, if the program failed in an orderly way: an exit code other than 0, no panic, and every one of `words` in what it
    /// said. Letter case does not matter.
    ///
    /// # Errors
    ///
    /// With everything the program said, when that is not so.
    pub fn fails_saying(self, words: &[&str]) -> Result<Self> {
        let said = format!("{}{}", self.stdout, self.stderr);
        if self.code() == 0 || self.status.signal().is_some() {
            bail!("expected an orderly failure: {self}");
        }
        if said.contains("panicked at") {
            bail!("it panicked: {self}");
        }
        let lower = said.to_lowercase();
        if let Some(missing) = words
            .iter()
            .find(|word| !lower.contains(&word.to_lowercase()))
        {
            bail!("it does not say {missing:?}: {self}");
        }
        Ok(self)
    }

    /// The last line of stdout that is not empty.
    #[must_use]
    pub fn last_line(&self) -> &str {
        self.stdout
            .lines()
            .rev()
            .map(str::trim)
            .find(|line| !line.is_empty())
            .unwrap_or("")
    }
}

impl fmt::Display for Finished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` ended with code {}\n--- stdout\n{}\n--- stderr\n{}",
            self.command,
            self.code(),
            self.stdout.trim_end(),
            self.stderr.trim_end()
        )
    }
}

/// Runs `command` with nothing on stdin, in a process group of its own.
///
/// # Errors
///
/// When it cannot be started, or takes longer than three minutes (it is killed then).
pub fn run(command: &mut Command) -> Result<Finished> {
    run_within(command, LIMIT)
}

/// Like [`run`], with a limit of the caller's.
///
/// # Errors
///
/// When it cannot be started, or takes longer than `limit`.
pub fn run_within(command: &mut Command, limit: Duration) -> Result<Finished> {
    let name = describe(command);
    let mut stdout = tempfile::tempfile()?;
    let mut stderr = tempfile::tempfile()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start `{name}`"))?;
    let status = match wait_for(&format!("`{name}` to end"), limit, || Ok(child.try_wait()?)) {
        Ok(status) => status,
        Err(error) => {
            // The child may have ended by itself in the meantime.
            let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
            child.wait()?;
            let said = format!("{}{}", read_all(&mut stdout)?, read_all(&mut stderr)?);
            return Err(error.context(format!("so far it said:\n{said}")));
        }
    };
    Ok(Finished {
        command: name,
        status,
        stdout: read_all(&mut stdout)?,
        stderr: read_all(&mut stderr)?,
    })
}

/// The command line as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

fn read_all(file: &mut File) -> Result<String> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn shell(script: &str) -> Finished {
        run(Command::new("sh").args(["-c", script])).unwrap()
    }

    #[test]
    fn what_a_program_says_and_how_it_ends_is_kept() {
        let finished = shell("echo to stdout; echo to stderr >&2; exit 3");
        assert_eq!((finished.code(), finished.last_line()), (3, "to stdout"));
        assert_eq!(finished.stderr, "to stderr\n");
    }

    #[test]
    fn an_orderly_failure_must_say_the_expected_words() {
        assert!(
            shell("echo No such pool >&2; exit 1")
                .fails_saying(&["no such POOL"])
                .is_ok()
        );
        assert!(
            shell("echo something else >&2; exit 1")
                .fails_saying(&["no such pool"])
                .is_err()
        );
        assert!(
            shell("echo no such pool")
                .fails_saying(&["no such pool"])
                .is_err()
        );
        assert!(
            shell("echo no such pool; kill -9 $$")
                .fails_saying(&["no such pool"])
                .is_err()
        );
    }

    #[test]
    fn a_program_that_takes_too_long_is_killed_with_its_children() {
        let error = run_within(
            Command::new("sh").args(["-c", "echo began; sleep 600"]),
            Duration::from_millis(200),
        );
        assert!(error.err().unwrap().to_string().contains("began"));
    }
}
