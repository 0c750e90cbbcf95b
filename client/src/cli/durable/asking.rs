//! Asking what is to become of a job.

use std::io::{IsTerminal as _, Write as _};

use ocluster_cli::Signals;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines, Stdin};

/// What to do with the job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Cancel it.
    Cancel,
    /// Leave it alone, and go.
    Leave,
    /// Go on following it.
    Resume,
}

/// Where the user can be asked: standard input and standard error are both terminals.
pub(super) struct Asking {
    lines: Option<Lines<BufReader<Stdin>>>,
}

/// Whether there is a person to be asked.
pub(super) fn can_ask() -> bool {
    std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

impl Asking {
    pub(super) fn new() -> Self {
        Self { lines: None }
    }

    /// Asks until the answer is one. Another signal is an answer, too: leave it.
    pub(super) async fn ask(&mut self, signals: &mut Signals) -> Answer {
        let lines = self
            .lines
            .get_or_insert_with(|| BufReader::new(tokio::io::stdin()).lines());
        loop {
            // The line may hold something that passes, and the terminal shows control-C as it likes.
            prompt("\r\u{1b}[KCancel the job, or leave it running? [c]ancel/[l]eave/[r]esume ");
            let line = tokio::select! {
                line = lines.next_line() => line,
                _ = signals.next() => {
                    prompt("\n");
                    return Answer::Leave;
                }
            };
            // A terminal that is gone will not answer.
            let Ok(Some(line)) = line else {
                return Answer::Leave;
            };
            if let Some(answer) = read(&line) {
                return answer;
            }
        }
    }
}

fn read(line: &str) -> Option<Answer> {
    match line.trim().to_ascii_lowercase().as_str() {
        "c" | "cancel" => Some(Answer::Cancel),
        "l" | "leave" => Some(Answer::Leave),
        "r" | "resume" => Some(Answer::Resume),
        _ => None,
    }
}

fn prompt(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // If standard error is gone, so will be standard input.
    drop(
        stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.flush()),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_words_or_their_first_letters() {
        assert_eq!(read("c"), Some(Answer::Cancel));
        assert_eq!(read(" Leave \n"), Some(Answer::Leave));
        assert_eq!(read("R"), Some(Answer::Resume));
        for none in ["", "y", "cc", "no"] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
