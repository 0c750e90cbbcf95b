//! From bytes to tokens: atoms, parentheses and `#;`, without spaces and comments. The rules are sexplib's, which OBuilder uses.

use bstr::{BString, ByteSlice as _};

use super::value::Position;
use crate::error::SpecError;

/// What s-expressions are made of.
pub(super) enum Token {
    Open,
    Close,
    /// `#;`: the next s-expression is left out.
    Discard,
    Atom(BString),
}

/// Reads tokens from a text.
pub(super) struct Lexer<'a> {
    rest: &'a [u8],
    position: Position,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self {
            rest: text,
            position: Position { line: 1, column: 1 },
        }
    }

    /// Where it is: at the byte that is read next.
    pub(super) const fn position(&self) -> Position {
        self.position
    }

    /// The next token and where it starts; none at the end of the text.
    pub(super) fn token(&mut self) -> Result<Option<(Position, Token)>, SpecError> {
        loop {
            let start = self.position;
            let token = match self.rest {
                [] => return Ok(None),
                [b' ' | b'\t' | b'\n' | b'\x0c' | b'\r', ..] => {
                    self.skip(1);
                    continue;
                }
                [b';', ..] => {
                    self.skip(self.rest.find_byte(b'\n').unwrap_or(self.rest.len()));
                    continue;
                }
                [b'#', b'|', ..] => {
                    self.block_comment()?;
                    continue;
                }
                [b'|', b'#', ..] => {
                    return Err(self
                        .error("illegal end of comment")
                        .hint("there is no '#|' which this would close"));
                }
                [b'(', ..] => {
                    self.skip(1);
                    Token::Open
                }
                [b')', ..] => {
                    self.skip(1);
                    Token::Close
                }
                [b'#', b';', ..] => {
                    self.skip(2);
                    Token::Discard
                }
                [b'"', ..] => Token::Atom(self.quoted()?),
                _ => Token::Atom(self.bare()?),
            };
            return Ok(Some((start, token)));
        }
    }

    fn skip(&mut self, count: usize) {
        let (skipped, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        match skipped.rfind_byte(b'\n') {
            Some(last) => {
                self.position.line += skipped.find_iter(b"\n").count();
                self.position.column = skipped.len() - last;
            }
            None => self.position.column += skipped.len(),
        }
    }

    fn error(&self, message: &str) -> SpecError {
        SpecError::new(Some(self.position), message)
    }

    /// An error at the byte which comes this many bytes later.
    fn error_after(&mut self, count: usize, message: &str) -> SpecError {
        self.skip(count);
        self.error(message)
    }

    fn bare(&mut self) -> Result<BString, SpecError> {
        let mut length = 0;
        loop {
            match self.rest.get(length..).unwrap_or_default() {
                [b'#', b'|', ..] | [b'|', b'#', ..] => {
                    return Err(self
                        .error_after(length + 1, "comment tokens in unquoted atom")
                        .hint("expected quotes around an atom with '#|' or '|#' in it"));
                }
                []
                | [
                    b' ' | b'\t' | b'\n' | b'\x0c' | b'\r' | b'(' | b')' | b'"' | b';',
                    ..,
                ] => break,
                [_, ..] => length += 1,
            }
        }
        let atom = self.rest.get(..length).unwrap_or_default().into();
        self.skip(length);
        Ok(atom)
    }

    /// Comments nest, and a string within one may hold what else would end it.
    fn block_comment(&mut self) -> Result<(), SpecError> {
        let start = self.position;
        let mut depth = 0_usize;
        loop {
            match self.rest {
                [] => {
                    return Err(self.error("incomplete S-expression").hint(format!(
                        "the text ends within the comment that starts at {start}; expected '|#'"
                    )));
                }
                [b'#', b'|', ..] => {
                    depth += 1;
                    self.skip(2);
                }
                [b'|', b'#', ..] => {
                    depth -= 1;
                    self.skip(2);
                    if depth == 0 {
                        return Ok(());
                    }
                }
                [b'"', ..] => {
                    self.quoted()?;
                }
                _ => self.skip(1),
            }
        }
    }

    fn quoted(&mut self) -> Result<BString, SpecError> {
        let start = self.position;
        self.skip(1);
        let mut atom = BString::default();
        loop {
            let plain = self.rest.find_byteset(b"\"\\").unwrap_or(self.rest.len());
            atom.extend_from_slice(self.rest.get(..plain).unwrap_or_default());
            self.skip(plain);
            match self.rest {
                [b'"', ..] => {
                    self.skip(1);
                    return Ok(atom);
                }
                [_, _, ..] => self.escape(&mut atom, start)?,
                _ => return Err(self.unterminated(start)),
            }
        }
    }

    /// What follows a backslash. An escape that is none is kept as it is.
    fn escape(&mut self, atom: &mut BString, start: Position) -> Result<(), SpecError> {
        match *self.rest {
            [_, b'x', ref digits @ ..] => {
                let mut value = 0;
                for index in 0..2 {
                    let Some(byte) = digits.get(index) else {
                        return Err(self.unterminated(start));
                    };
                    let Some(digit) = char::from(*byte).to_digit(16) else {
                        return Err(self
                            .error_after(2 + index, "unterminated hexadecimal escape sequence")
                            .hint(r"expected two digits of 0-9, a-f or A-F after '\x'"));
                    };
                    value = value * 16 + digit;
                }
                atom.push(value.to_le_bytes()[0]);
                self.skip(4);
            }
            [_, b'0'..=b'9', ..] => self.decimal(atom, start)?,
            [_, b'\n', ..] => self.continued_line(2),
            [_, b'\r', b'\n', ..] => self.continued_line(3),
            [backslash, byte, ..] => {
                match byte {
                    b'n' => atom.push(b'\n'),
                    b't' => atom.push(b'\t'),
                    b'b' => atom.push(0x08),
                    b'r' => atom.push(b'\r'),
                    b'\\' | b'"' | b'\'' => atom.push(byte),
                    _ => atom.extend_from_slice(&[backslash, byte]),
                }
                self.skip(2);
            }
            _ => return Err(self.unterminated(start)),
        }
        Ok(())
    }

    fn decimal(&mut self, atom: &mut BString, start: Position) -> Result<(), SpecError> {
        const EXPECTED: &str = r"expected three digits from '\000' to '\255'";
        let mut value = 0;
        for index in 1..=3 {
            let Some(byte) = self.rest.get(index) else {
                return Err(self.unterminated(start));
            };
            let Some(digit) = char::from(*byte).to_digit(10) else {
                return Err(self
                    .error_after(index, "unterminated decimal escape sequence")
                    .hint(EXPECTED));
            };
            value = value * 10 + digit;
        }
        let Ok(byte) = u8::try_from(value) else {
            return Err(self
                .error_after(3, "escape sequence in quoted string out of range")
                .hint(EXPECTED));
        };
        atom.push(byte);
        self.skip(4);
        Ok(())
    }

    /// Drops a backslash with its line break, of this many bytes, and the spaces at the start of the next line.
    fn continued_line(&mut self, length: usize) {
        self.skip(length);
        let rest = self.rest.trim_start_with(|c| c == ' ' || c == '\t');
        self.skip(self.rest.len() - rest.len());
    }

    fn unterminated(&mut self, start: Position) -> SpecError {
        self.error_after(self.rest.len(), "incomplete S-expression")
            .hint(format!(
                "the text ends within the string that starts at {start}; expected '\"'"
            ))
    }
}
