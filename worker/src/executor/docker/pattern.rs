//! One pattern of a `.dockerignore` file, and whether a path matches it.
//!
//! The language is Docker's, not git's: `*`, `?` and `[...]` stay within a component, `**` does not, and a pattern always starts at
//! the context's root. Names are compared by character, and a byte that is not UTF-8 counts as one unknown character.

/// A pattern, ready to be matched.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    /// This character.
    Literal(char),
    /// `?`: a character, but no slash.
    One,
    /// `*`: any number of characters, but no slash.
    Many,
    /// `**` or `**/` before something: nothing, or anything that ends with a slash.
    Directories,
    /// `**` at the end, or at the start of a pattern without other wildcards: anything.
    Anything,
    /// `[a-z]`, `[^a-z]`.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

/// A pattern with a `[` that is not closed, an empty range or a final backslash.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadPattern;

impl Pattern {
    /// Reads a pattern, cleaned of `.`, `..` and doubled slashes.
    pub(super) fn read(text: &str) -> Result<Self, BadPattern> {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(first) = rest.next() {
            tokens.push(match first {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    let slash = rest.next_if_eq(&'/').is_some();
                    match (rest.peek().is_none(), slash) {
                        (true, _) => Token::Anything,
                        (false, _) => Token::Directories,
                    }
                }
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => Token::Literal(rest.next().ok_or(BadPattern)?),
                '[' => read_class(&mut rest)?,
                other => Token::Literal(other),
            });
        }
        // Docker compares a pattern whose only wildcard is a leading `**` with the end of the path: `**.log` is any name with that
        // ending, at any depth.
        if let Some((head @ Token::Directories, literals)) = tokens.split_first_mut() {
            let glued = !text.starts_with("**/");
            if glued
                && literals
                    .iter()
                    .all(|token| matches!(token, Token::Literal(_)))
                && !text.contains('\\')
            {
                *head = Token::Anything;
            }
        }
        Ok(Self { tokens })
    }

    /// Whether the whole of `path` matches.
    pub(super) fn matches(&self, path: &[char]) -> bool {
        // Where in the path a match of the tokens so far may end.
        let mut ends = vec![false; path.len() + 1];
        if let Some(start) = ends.first_mut() {
            *start = true;
        }
        for token in &self.tokens {
            ends = token.advance(&ends, path);
            if !ends.contains(&true) {
                return false;
            }
        }
        ends.last().copied().unwrap_or(false)
    }
}

impl Token {
    /// Where matches end with this token, given where they end without it.
    fn advance(&self, ends: &[bool], path: &[char]) -> Vec<bool> {
        let mut next = Vec::with_capacity(ends.len());
        // Whether an earlier end reaches up to here through characters that the token may repeat.
        let mut reaches = false;
        let mut previous: Option<(bool, char)> = None;
        for (&end, character) in ends
            .iter()
            .zip(path.iter().copied().map(Some).chain([None]))
        {
            let (before, step) =
                previous.map_or((false, None), |(before, step)| (before, Some(step)));
            next.push(match self {
                Self::Literal(_) | Self::One | Self::Class { .. } => {
                    before && step.is_some_and(|c| self.accepts(c))
                }
                Self::Many => {
                    reaches = end || (reaches && step != Some('/'));
                    reaches
                }
                Self::Anything => {
                    reaches = end || reaches;
                    reaches
                }
                Self::Directories => {
                    let passed = reaches && step == Some('/');
                    reaches = end || reaches;
                    end || passed
                }
            });
            previous = character.map(|c| (end, c));
        }
        next
    }

    fn accepts(&self, character: char) -> bool {
        match self {
            Self::Literal(literal) => *literal == character,
            Self::One => character != '/',
            Self::Class { negated, ranges } => {
                ranges
                    .iter()
                    .any(|(low, high)| (*low..=*high).contains(&character))
                    != *negated
            }
            Self::Many | Self::Directories | Self::Anything => false,
        }
    }
}

fn read_class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, BadPattern> {
    let negated = rest.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        match rest.next().ok_or(BadPattern)? {
            ']' if !ranges.is_empty() => return Ok(Token::Class { negated, ranges }),
            first => {
                let low = class_member(first, rest)?;
                let high = if rest.next_if_eq(&'-').is_some() {
                    let last = rest.next().ok_or(BadPattern)?;
                    class_member(last, rest)?
                } else {
                    low
                };
                ranges.push((low, high));
            }
        }
    }
}

fn class_member(
    first: char,
    rest: &mut std::iter::Peekable<std::str::Chars<'_>>,
) -> Result<char, BadPattern> {
    match first {
        '-' | ']' => Err(BadPattern),
        '\\' => rest.next().ok_or(BadPattern),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Pattern::read(pattern)
            .unwrap()
            .matches(&path.chars().collect::<Vec<_>>())
    }

    #[test]
    fn wildcards_stay_within_a_component_and_double_stars_do_not() {
        let yes = [
            ("a/b", "a/b"),
            ("*", "anything"),
            ("*.log", "x.log"),
            ("a*c/d", "abbbc/d"),
            ("?", "é"),
            ("a/**", "a/b/c"),
            ("**", "a/b/c"),
            ("**/x", "x"),
            ("**/x", "a/b/x"),
            ("a/**/x", "a/x"),
            ("a/**/x", "a/b/c/x"),
            ("**/*.log", "a/b/x.log"),
            ("**.log", "a/b/x.log"),
            ("**x", "a/bx"),
            ("[a-cx]z", "bz"),
            ("[a-cx]z", "xz"),
            ("[^a-c]z", "dz"),
            ("\\*", "*"),
            ("[\\]]", "]"),
            ("a.b", "a.b"),
            ("(+|$)", "(+|$)"),
        ];
        for (pattern, path) in yes {
            assert!(matches(pattern, path), "{pattern} should match {path}");
        }
        let no = [
            ("a/b", "a/b/c"),
            ("b", "a/b"),
            ("*", "a/b"),
            ("*.log", "a/x.log"),
            ("?", "/"),
            ("?", "ab"),
            ("a/**", "b"),
            ("**/x", "a/bx"),
            ("a/**/x", "ax"),
            ("a/**/x", "a/b/cx"),
            ("[a-c]", "d"),
            ("[^a-c]", "b"),
            ("a.b", "axb"),
            ("\\*", "x"),
        ];
        for (pattern, path) in no {
            assert!(!matches(pattern, path), "{pattern} should not match {path}");
        }
    }

    #[test]
    fn broken_patterns_are_noticed() {
        for text in ["[", "[a", "[]a]", "[-]", "[a-]", "a\\", "[^]"] {
            assert_eq!(Pattern::read(text).unwrap_err(), BadPattern, "{text}");
        }
    }
}
