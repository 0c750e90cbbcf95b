//! From text to s-expressions. It keeps its own stack, and has limits: no text makes it recurse, panic or grow without bound.

use super::lexer::{Lexer, Token};
use super::value::{Position, Sexp, Value};
use crate::error::SpecError;

/// The longest text that is read, in bytes: 1 MiB.
pub const MAX_TEXT: usize = 1 << 20;

/// How deep lists may be nested.
pub const MAX_DEPTH: usize = 1000;

/// A list whose end was not met yet, or the text itself.
struct Open {
    start: Position,
    items: Vec<Sexp>,
    /// How many of the next items are commented out by `#;`.
    discard: usize,
}

impl Open {
    const fn at(start: Position) -> Self {
        Self {
            start,
            items: Vec::new(),
            discard: 0,
        }
    }

    fn add(&mut self, item: Sexp) {
        if self.discard > 0 {
            self.discard -= 1;
        } else {
            self.items.push(item);
        }
    }
}

impl Sexp {
    /// Reads the one s-expression that the text must hold.
    ///
    /// # Errors
    /// If there is none, or more than one, or the syntax is wrong, or the text is longer than [`MAX_TEXT`] or nested deeper than
    /// [`MAX_DEPTH`].
    pub fn parse(text: &[u8]) -> Result<Self, SpecError> {
        if text.len() > MAX_TEXT {
            return Err(SpecError::new(
                None,
                format!("the text is too long: {} bytes", text.len()),
            )
            .hint(format!("at most {MAX_TEXT} bytes are read")));
        }
        Reader::new(text).read()
    }
}

struct Reader<'a> {
    lexer: Lexer<'a>,
    top: Open,
    lists: Vec<Open>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a [u8]) -> Self {
        let lexer = Lexer::new(text);
        Self {
            top: Open::at(lexer.position()),
            lexer,
            lists: Vec::new(),
        }
    }

    fn read(mut self) -> Result<Sexp, SpecError> {
        while let Some((position, token)) = self.lexer.token()? {
            if self.is_complete() && !matches!(token, Token::Close | Token::Discard) {
                return Err(after_the_end(position));
            }
            match token {
                Token::Open => self.open(position)?,
                Token::Close => self.close(position)?,
                Token::Discard => self.innermost().discard += 1,
                Token::Atom(bytes) => {
                    let atom = Sexp::at(Some(position), Value::Atom(bytes));
                    self.innermost().add(atom);
                }
            }
        }
        self.end()
    }

    /// Whether nothing but comments may follow.
    fn is_complete(&self) -> bool {
        !self.top.items.is_empty() && self.top.discard == 0 && self.lists.is_empty()
    }

    fn innermost(&mut self) -> &mut Open {
        self.lists.last_mut().unwrap_or(&mut self.top)
    }

    fn open(&mut self, position: Position) -> Result<(), SpecError> {
        if self.lists.len() >= MAX_DEPTH {
            return Err(SpecError::new(Some(position), "nested too deep")
                .hint(format!("at most {MAX_DEPTH} levels are read")));
        }
        self.lists.push(Open::at(position));
        Ok(())
    }

    fn close(&mut self, position: Position) -> Result<(), SpecError> {
        let Some(list) = self.lists.pop() else {
            let expected = if self.top.items.is_empty() {
                "an atom or '('"
            } else {
                "the end of the text"
            };
            return Err(
                SpecError::new(Some(position), "unexpected character: ')'").hint(format!(
                    "there is no '(' which this would close; expected {expected}"
                )),
            );
        };
        if list.discard > 0 {
            return Err(unterminated_discard(position));
        }
        let value = Value::List(list.items);
        self.innermost().add(Sexp::at(Some(list.start), value));
        Ok(())
    }

    fn end(mut self) -> Result<Sexp, SpecError> {
        let position = self.lexer.position();
        let incomplete = |hint: String| {
            Err(SpecError::new(Some(position), "incomplete S-expression").hint(hint))
        };
        if let Some(list) = self.lists.last() {
            return incomplete(format!(
                "the text ends within the list that starts at {}; expected ')'",
                list.start
            ));
        }
        if self.top.discard > 0 {
            return Err(unterminated_discard(position));
        }
        match self.top.items.pop() {
            Some(sexp) => Ok(sexp),
            None => incomplete("the text is empty; expected '('".to_owned()),
        }
    }
}

fn unterminated_discard(position: Position) -> SpecError {
    SpecError::new(Some(position), "unterminated sexp comment")
        .hint("expected an s-expression for '#;' to leave out")
}

fn after_the_end(position: Position) -> SpecError {
    SpecError::new(Some(position), "S-expression followed by data").hint(
        "got multiple S-expressions where only one was expected; expected the end of the text",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mach(text: &str) -> String {
        Sexp::parse(text.as_bytes()).unwrap().to_string()
    }

    fn error(text: &[u8]) -> String {
        Sexp::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn discards_may_be_chained() {
        assert_eq!(mach("(#;#;a b c)"), "(c)");
        assert_eq!(mach("(#; #|x|# (a #;b) c)"), "(c)");
        assert_eq!(mach("#;#;(a)b c"), "c");
        assert_eq!(mach("(a) #;(b c) #;d"), "(a)");
    }

    #[test]
    fn positions_are_those_of_the_start() {
        let sexp = Sexp::parse(b"\n (a\n\"b\n\" c)").unwrap();
        let place = |sexp: &Sexp| sexp.position().unwrap().to_string();
        assert_eq!(place(&sexp), "line 2, column 2");
        let places: Vec<_> = sexp.as_list().unwrap().iter().map(place).collect();
        assert_eq!(
            places,
            ["line 2, column 3", "line 3, column 1", "line 4, column 3"]
        );
    }

    #[test]
    fn errors_say_where_and_what_was_expected() {
        insta::assert_snapshot!(
            [
                "",
                "(a",
                "((a)\n (b \"c",
                "a)",
                ")",
                "(a) b",
                "#;",
                "(#;)",
                "(a #| \" |# \" b",
                "(a\n|# b)",
                "(a#|b)",
                r#"("\256")"#,
                r#"("\25x")"#,
                r#"("\xg0")"#,
                r#"("\"#,
                r#"("\x"#,
                r#"("\1"#,
            ]
            .map(|text| format!("{text:?}: {}", error(text.as_bytes())))
            .join("\n")
        );
    }

    #[test]
    fn a_discard_does_not_let_lists_nest_deeper() {
        let text = b"#;(".repeat(MAX_DEPTH + 1);
        assert!(error(&text).contains("nested too deep"));
    }
}
