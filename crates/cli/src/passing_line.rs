//! A line on a terminal that says what a program waits for, and is gone when it does not wait any more.

use std::io::{IsTerminal as _, Write as _};

/// As much of a line as is shown: a longer one would wrap on a usual terminal, and could then not be erased.
const WIDTH: usize = 76;
/// To the first column, and erase to the end of the line.
const ERASE: &str = "\r\u{1b}[K";

/// A passing line on standard error, if that is a terminal on which no log appears. Dropping it erases it.
#[derive(Debug)]
pub struct PassingLine {
    on_terminal: bool,
    shown: bool,
}

impl Default for PassingLine {
    fn default() -> Self {
        Self::new()
    }
}

impl PassingLine {
    /// One that is not shown yet.
    #[must_use]
    pub fn new() -> Self {
        let logging = tracing::enabled!(tracing::Level::INFO);
        Self {
            on_terminal: !logging && std::io::stderr().is_terminal(),
            shown: false,
        }
    }

    /// Whether there is anybody to show it to.
    #[must_use]
    pub fn has_reader(&self) -> bool {
        self.on_terminal
    }

    /// Shows this text in place of the one before. What would move the cursor is shown as an escape.
    pub fn show(&mut self, text: &str) {
        if self.on_terminal {
            self.shown = true;
            print(&format!(
                "{ERASE}[ {} ]",
                shortened(&crate::jobs::printable(text))
            ));
        }
    }

    /// Erases it.
    pub fn clear(&mut self) {
        if std::mem::take(&mut self.shown) {
            print(ERASE);
        }
    }
}

impl Drop for PassingLine {
    fn drop(&mut self) {
        self.clear();
    }
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(WIDTH - 1).collect();
    short.push('…');
    short
}

fn print(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // If standard error is gone there is nobody to tell.
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
    fn what_would_wrap_is_cut() {
        assert_eq!(shortened("12 jobs ahead"), "12 jobs ahead");
        let long = shortened(&"é".repeat(200));
        assert_eq!(long.chars().count(), WIDTH);
        assert!(long.ends_with('…'));
    }
}
