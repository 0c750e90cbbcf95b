//! Why a worker gets no work: a set of reasons, active when it is empty, and what a worker says of its own pause.

use std::fmt;
use std::sync::Arc;

/// One reason for which a worker is inactive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The worker itself asked for a pause, or has registered and not yet declared itself active.
    WorkerPause,
    /// An administrator paused it. Remembered across reconnects and restarts.
    AdminPause,
    /// It is about to restart, for an update.
    ShuttingDown,
}

impl Reason {
    /// Every reason, in the order in which they are shown.
    pub const ALL: [Reason; 3] = [
        Reason::WorkerPause,
        Reason::AdminPause,
        Reason::ShuttingDown,
    ];

    const fn bit(self) -> u8 {
        match self {
            Reason::WorkerPause => 1,
            Reason::AdminPause => 2,
            Reason::ShuttingDown => 4,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::WorkerPause => "worker pause",
            Reason::AdminPause => "admin pause",
            Reason::ShuttingDown => "shutting down",
        })
    }
}

/// A set of reasons; the empty one means active. Displayed as `worker pause, admin pause, shutting down`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Reasons(u8);

impl Reasons {
    /// No reason: active.
    pub const NONE: Reasons = Reasons(0);

    /// Whether there is no reason, so that the worker may get work.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `reason` is among them.
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// These and `reason`.
    #[must_use]
    pub fn with(self, reason: Reason) -> Self {
        Self(self.0 | reason.bit())
    }

    /// These without `reason`.
    #[must_use]
    pub fn without(self, reason: Reason) -> Self {
        Self(self.0 & !reason.bit())
    }

    /// The reasons in the order in which they are shown.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL
            .into_iter()
            .filter(move |reason| self.contains(*reason))
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reason) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            reason.fmt(f)?;
        }
        Ok(())
    }
}

/// What is known of an administrator's pause besides that it is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminPause {
    /// Who asked for it, in their own words.
    pub by: Option<PauseNote>,
    /// Why.
    pub why: Option<PauseNote>,
    /// When, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// What a worker says of its own pause, fit to be shown: one line of at most [`PauseNote::LONGEST`] characters, without control
/// characters, neither empty nor surrounded by space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PauseNote(Arc<str>);

impl PauseNote {
    /// The longest note, in characters. What is longer is cut, and ends with an ellipsis.
    pub const LONGEST: usize = 200;

    /// What is worth showing of `text`, which comes from outside and may be anything; `None` if that is nothing.
    pub fn new(text: &str) -> Option<Self> {
        let mut note = String::new();
        let mut length = 0;
        let words = text.split(|c: char| c.is_whitespace() || c.is_control());
        'cut: for word in words.filter(|word| !word.is_empty()) {
            let space = if length == 0 { "" } else { " " };
            for c in space.chars().chain(word.chars()) {
                if length == Self::LONGEST {
                    note.pop();
                    note.push('…');
                    break 'cut;
                }
                note.push(c);
                length += 1;
            }
        }
        (!note.is_empty()).then(|| Self(note.into()))
    }

    /// The note.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PauseNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str) -> Option<String> {
        PauseNote::new(text).map(|note| note.to_string())
    }

    #[test]
    fn a_note_is_one_line_without_what_moves_cursors() {
        assert_eq!(
            note("  the disk\r\n is\t full\u{1b}[31m \0").as_deref(),
            Some("the disk is full [31m")
        );
        assert_eq!(note(" \n\u{85}"), None);
        assert_eq!(note(""), None);
    }

    #[test]
    fn a_note_is_cut_where_a_line_gets_too_long() {
        let fits = "é".repeat(PauseNote::LONGEST);
        assert_eq!(note(&fits), Some(fits.clone()));
        assert_eq!(note(&format!("{fits} \n ")), Some(fits.clone()));
        let long = "a b".repeat(1_000_000);
        let cut = note(&long).unwrap_or_default();
        assert_eq!(cut.chars().count(), PauseNote::LONGEST);
        assert!(cut.ends_with('…'), "{cut}");
    }
}
