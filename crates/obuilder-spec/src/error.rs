//! What is wrong with a spec, where, and what would be right. Texts are bounded, however large the spec is.

use std::fmt;

use crate::sexp::{Position, Sexp};

/// The most bytes of a spec that an error quotes.
pub(crate) const MAX_QUOTE: usize = 200;

/// Why a text is not a spec, or a spec cannot be built.
///
/// It displays as `line 1, column 10: duplicate fields: shell, in (run (shell a) (shell b)); ...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    position: Option<Position>,
    message: String,
    culprit: Option<String>,
    hint: Option<String>,
}

impl SpecError {
    pub(crate) fn new(position: Option<Position>, message: impl Into<String>) -> Self {
        Self {
            position,
            message: message.into(),
            culprit: None,
            hint: None,
        }
    }

    /// With the s-expression which is to blame, shortened.
    #[must_use]
    pub(crate) fn blaming(mut self, culprit: &Sexp) -> Self {
        self.culprit = Some(culprit.quote());
        self
    }

    /// With what was expected instead.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Line and column, both counted from 1 (columns in bytes); none for a spec that was not read from a text.
    #[must_use]
    pub fn position(&self) -> Option<(usize, usize)> {
        self.position
            .map(|position| (position.line, position.column))
    }

    /// What is wrong, in the words of OBuilder where it has any: its users know these from their logs.
    ///
    /// It quotes at most some 200 bytes of the spec.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What was expected instead, where that is known.
    #[must_use]
    pub fn expected(&self) -> Option<&str> {
        self.hint.as_deref()
    }
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(position) = &self.position {
            write!(f, "{position}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(culprit) = &self.culprit {
            write!(f, ", in {culprit}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecError {}
