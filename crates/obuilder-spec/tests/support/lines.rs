//! The lines of the golden file, read as entries of one or several.

use bstr::{BString, ByteSlice as _};
use ocluster_obuilder_spec::Sexp;

/// A cursor.
pub(crate) struct Lines<'a> {
    rest: std::iter::Peekable<bstr::Lines<'a>>,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self {
            rest: text.lines().peekable(),
        }
    }

    pub(crate) fn next(&mut self) -> Option<&'a [u8]> {
        self.rest.next()
    }

    pub(crate) fn peek(&mut self) -> Option<&'a [u8]> {
        self.rest.peek().copied()
    }

    /// All lines before this one.
    pub(crate) fn until(&mut self, end: impl Fn(&[u8]) -> bool) -> BString {
        let first = self.next().unwrap();
        self.with_more(first, end)
    }

    /// This line, and all that follow it before that one.
    pub(crate) fn with_more(&mut self, first: &[u8], end: impl Fn(&[u8]) -> bool) -> BString {
        let mut text = BString::from(first);
        while self.peek().is_some_and(|line| !end(line)) {
            self.add_next(&mut text);
        }
        text
    }

    /// This line, and as many more as an s-expression needs.
    pub(crate) fn rest_of_sexp(&mut self, first: &[u8]) -> BString {
        let mut text = BString::from(first);
        while Sexp::parse(&text).is_err() {
            self.add_next(&mut text);
        }
        text
    }

    /// This line, and as many more as the s-expression after its colon needs.
    pub(crate) fn rest_of_heading(&mut self, first: &[u8]) -> BString {
        let start = first.find_byte(b':').unwrap() + 1;
        let mut text = BString::from(first);
        while Sexp::parse(&text[start..]).is_err() {
            self.add_next(&mut text);
        }
        text
    }

    fn add_next(&mut self, text: &mut BString) {
        text.push(b'\n');
        text.extend_from_slice(self.next().expect("the entry has an end"));
    }
}

/// What was written in the file with OCaml's escapes.
pub(crate) fn unescape(text: &[u8]) -> BString {
    let mut out = BString::default();
    let mut rest = text;
    loop {
        rest = match rest {
            [] => return out,
            [b'\\', a @ b'0'..=b'9', b, c, rest @ ..] => {
                let digits = [*a, *b, *c];
                out.push(digits.to_str().unwrap().parse().unwrap());
                rest
            }
            [b'\\', escaped, rest @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b't' => b'\t',
                    b'r' => b'\r',
                    b'b' => 0x08,
                    escaped => *escaped,
                });
                rest
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        }
    }
}
