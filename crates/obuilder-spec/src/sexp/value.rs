//! The s-expression itself, and where it was read.
//!
//! One may be nested deeper than the stack is: whatever walks it here keeps a stack of its own.

use std::fmt;
use std::mem;
use std::slice;

use bstr::{BStr, BString, ByteSlice as _};

use super::atom;
use super::mach::Mach;
use crate::error::MAX_QUOTE;

/// A place in a text. It displays as `line 1, column 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// From 1.
    pub line: usize,
    /// In bytes, from 1.
    pub column: usize,
}

/// An atom or a list, in OBuilder's syntax.
///
/// Two of them are equal if they hold the same, wherever they were read. It displays in its shortest form.
pub struct Sexp {
    value: Value,
    position: Option<Position>,
}

/// What an s-expression holds.
#[derive(PartialEq, Eq)]
pub enum Value {
    /// Any bytes, also none.
    Atom(BString),
    /// S-expressions, in order.
    List(Vec<Sexp>),
}

impl Sexp {
    /// An atom that stands in no text.
    #[must_use]
    pub fn atom(bytes: impl Into<BString>) -> Self {
        Self::at(None, Value::Atom(bytes.into()))
    }

    /// A list that stands in no text.
    #[must_use]
    pub const fn list(items: Vec<Self>) -> Self {
        Self::at(None, Value::List(items))
    }

    pub(crate) const fn at(position: Option<Position>, value: Value) -> Self {
        Self { value, position }
    }

    /// What it holds.
    #[must_use]
    pub const fn value(&self) -> &Value {
        &self.value
    }

    /// Where it starts, if it was read from a text.
    #[must_use]
    pub const fn position(&self) -> Option<Position> {
        self.position
    }

    /// Its bytes, if it is an atom.
    #[must_use]
    pub fn as_atom(&self) -> Option<&BStr> {
        match &self.value {
            Value::Atom(bytes) => Some(bytes.as_bstr()),
            Value::List(_) => None,
        }
    }

    /// Its items, if it is a list.
    #[must_use]
    pub fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::Atom(_) => None,
            Value::List(items) => Some(items),
        }
    }

    /// The shortest form: OBuilder's, byte for byte.
    #[must_use]
    pub fn to_mach(&self) -> BString {
        let mut text = Mach::new(BString::default());
        walk(slice::from_ref(self), |visit| {
            match visit {
                Visit::Atom(bytes) => text.atom(bytes),
                Visit::Open => text.open(),
                Visit::Close => text.close(),
            };
            true
        });
        text.finish()
    }

    /// For people: on one line, with spaces between items, and cut short at some 200 bytes.
    pub(crate) fn quote(&self) -> String {
        let mut text = BString::default();
        quote_into(&mut text, slice::from_ref(self));
        shorten(&text)
    }

    /// Like [`Sexp::quote`], for a list of these items.
    pub(crate) fn quote_list(items: &[Self]) -> String {
        let mut text = BString::from("(");
        quote_into(&mut text, items);
        text.push(b')');
        shorten(&text)
    }

    /// Whether the condition holds for some atom in it.
    pub(crate) fn any_atom(&self, mut condition: impl FnMut(&[u8]) -> bool) -> bool {
        let mut found = false;
        walk(slice::from_ref(self), |visit| {
            found = matches!(visit, Visit::Atom(bytes) if condition(bytes));
            !found
        });
        found
    }
}

fn quote_into(text: &mut BString, items: &[Sexp]) {
    walk(items, |visit| {
        let space = !matches!(text.last(), None | Some(b'('));
        match visit {
            Visit::Atom(bytes) => {
                if space {
                    text.push(b' ');
                }
                let shown = bytes.get(..MAX_QUOTE).unwrap_or(bytes);
                text.extend_from_slice(&atom::one_line(shown));
            }
            Visit::Open => text.extend_from_slice(if space { b" (" } else { b"(" }),
            Visit::Close => text.push(b')'),
        }
        text.len() <= MAX_QUOTE
    });
}

fn shorten(text: &BString) -> String {
    match text.get(..MAX_QUOTE) {
        Some(start) if text.len() > MAX_QUOTE => format!("{}\u{2026}", start.as_bstr()),
        _ => text.to_string(),
    }
}

/// Calls the function with each piece of the text in order, until it returns false.
pub(crate) fn walk<'a>(items: &'a [Sexp], mut visit: impl FnMut(Visit<'a>) -> bool) {
    let mut lists = vec![items.iter()];
    while let Some(items) = lists.last_mut() {
        let more = match items.next().map(Sexp::value) {
            Some(Value::Atom(bytes)) => visit(Visit::Atom(bytes)),
            Some(Value::List(items)) => {
                lists.push(items.iter());
                visit(Visit::Open)
            }
            None => {
                lists.pop();
                lists.is_empty() || visit(Visit::Close)
            }
        };
        if !more {
            return;
        }
    }
}

/// A piece of a text.
pub(crate) enum Visit<'a> {
    Atom(&'a [u8]),
    /// A list starts.
    Open,
    /// The list that started last ends.
    Close,
}

/// By what is held alone.
impl PartialEq for Sexp {
    fn eq(&self, other: &Self) -> bool {
        let mut pairs = vec![(self, other)];
        while let Some((one, other)) = pairs.pop() {
            match (&one.value, &other.value) {
                (Value::Atom(one), Value::Atom(other)) if one == other => {}
                (Value::List(one), Value::List(other)) if one.len() == other.len() => {
                    pairs.extend(one.iter().zip(other));
                }
                _ => return false,
            }
        }
        true
    }
}

impl Eq for Sexp {}

impl Drop for Sexp {
    fn drop(&mut self) {
        let mut lists = Vec::new();
        let take = |sexp: &mut Self, lists: &mut Vec<Vec<Self>>| {
            if let Value::List(items) = &mut sexp.value
                && !items.is_empty()
            {
                lists.push(mem::take(items));
            }
        };
        take(self, &mut lists);
        while let Some(mut items) = lists.pop() {
            for item in &mut items {
                take(item, &mut lists);
            }
        }
    }
}

impl fmt::Display for Sexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // This form is ASCII: all other bytes are escaped.
        fmt::Display::fmt(self.to_mach().as_bstr(), f)
    }
}

impl fmt::Debug for Sexp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deep() -> Sexp {
        let mut sexp = Sexp::atom("a");
        for _ in 0..1_000_000 {
            sexp = Sexp::list(vec![sexp]);
        }
        sexp
    }

    #[test]
    fn a_million_levels_can_be_printed_compared_and_dropped() {
        let sexp = deep();
        assert_eq!(sexp.to_mach().len(), 2_000_001);
        assert!(sexp.quote().len() < 300);
        assert!(sexp == deep());
    }

    #[test]
    fn a_quote_is_one_short_line() {
        let quote = |sexp: Sexp| sexp.quote();
        assert_eq!(
            quote(Sexp::list(vec![
                Sexp::atom("run"),
                Sexp::list(vec![]),
                Sexp::list(vec![Sexp::atom("shell"), Sexp::atom("a\nb")]),
            ])),
            r#"(run () (shell "a\nb"))"#
        );
        assert!(quote(Sexp::atom(vec![0; 1_000_000])).len() < 300);
        let many = (0..100_000).map(|_| Sexp::atom("a")).collect();
        assert!(quote(Sexp::list(many)).len() < 300);
    }
}
