//! How it is said that a step failed. OBuilder's texts where it has them.

use std::fmt::Write as _;

use bstr::{BString, ByteSlice};
use ocluster_obuilder_spec::quoted;

use crate::sandbox::{Ended, Limits};
use crate::size::Size;

/// The names of signals 1 to 31.
const SIGNALS: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGIO",
    "SIGPWR",
    "SIGSYS",
];

/// That the command `argv` did not succeed. Arguments are in quotes and otherwise as they are, as OBuilder has them.
pub(super) fn failed(argv: &[BString], ended: Ended, limits: &Limits) -> String {
    let mut text = String::new();
    for (n, word) in argv.iter().enumerate() {
        let gap = if n == 0 { "" } else { " " };
        let _ = write!(text, "{gap}\"{}\"", word.to_str_lossy());
    }
    let _ = match ended {
        Ended::Exited(code) => write!(text, " failed with exit status {code}"),
        Ended::Signalled(number) => match name(number) {
            Some(name) => write!(text, " failed with signal {name}"),
            None => write!(text, " failed with signal {number}"),
        },
        Ended::OutOfMemory => {
            let _ = write!(text, " failed: out of memory");
            match limits.memory {
                Some(bytes) => write!(text, " (a step may use {})", Size(bytes)),
                None => Ok(()),
            }
        }
        Ended::TimedOut => {
            let _ = write!(text, " failed: it took too long");
            match limits.time {
                Some(time) => write!(text, " (a step may take {time:?})"),
                None => Ok(()),
            }
        }
        Ended::TooMuchOutput => {
            let _ = write!(text, " failed: it printed too much");
            match limits.output {
                Some(bytes) => write!(text, " (a step may print {})", Size(bytes)),
                None => Ok(()),
            }
        }
        Ended::Cancelled => write!(text, " was cancelled"),
    };
    text
}

/// That there is no such network. Names are written as OCaml writes a list of strings.
pub(super) fn unsupported_network(names: &[BString]) -> String {
    let names = bstr::join("; ", names.iter().map(|name| quoted(name)));
    format!("Unsupported network configuration [{}]", names.as_bstr())
}

fn name(signal: i32) -> Option<&'static str> {
    let index = usize::try_from(signal).ok()?.checked_sub(1)?;
    SIGNALS.get(index).copied()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn said(ended: Ended, limits: Limits) -> String {
        failed(
            &["/bin/sh".into(), "-c".into(), "a \"b\"\nc".into()],
            ended,
            &limits,
        )
    }

    #[test]
    fn failures_are_told_in_the_words_of_obuilder() {
        let limits = Limits::default();
        assert_eq!(
            said(Ended::Exited(3), limits),
            "\"/bin/sh\" \"-c\" \"a \"b\"\nc\" failed with exit status 3"
        );
        assert!(said(Ended::Signalled(9), limits).ends_with(" failed with signal SIGKILL"));
        assert!(said(Ended::Signalled(15), limits).ends_with(" failed with signal SIGTERM"));
        assert!(said(Ended::Signalled(31), limits).ends_with(" failed with signal SIGSYS"));
        assert!(said(Ended::Signalled(40), limits).ends_with(" failed with signal 40"));
    }

    #[test]
    fn limits_are_named_when_they_strike() {
        let limits = Limits {
            memory: Some(512 << 20),
            time: Some(Duration::from_secs(90)),
            output: Some(1_000_000),
            ..Limits::default()
        };
        for (ended, end) in [
            (
                Ended::OutOfMemory,
                ": out of memory (a step may use 512 MiB)",
            ),
            (Ended::TimedOut, ": it took too long (a step may take 90s)"),
            (
                Ended::TooMuchOutput,
                ": it printed too much (a step may print 976.5 KiB)",
            ),
        ] {
            let text = said(ended, limits);
            assert!(text.ends_with(end), "{text}");
        }
        assert!(said(Ended::OutOfMemory, Limits::default()).ends_with(": out of memory"));
    }

    #[test]
    fn unknown_networks_are_listed_as_ocaml_does() {
        assert_eq!(
            unsupported_network(&["x".into()]),
            "Unsupported network configuration [\"x\"]"
        );
        assert_eq!(
            unsupported_network(&["host".into(), "a\"\n\u{e9}".into()]),
            "Unsupported network configuration [\"host\"; \"a\\\"\\n\\195\\169\"]"
        );
    }
}
