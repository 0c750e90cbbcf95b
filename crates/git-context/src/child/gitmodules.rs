//! Reading `.gitmodules`: the configuration syntax of git, and of it only what a submodule needs.
//!
//! Must not follow `include`, as libgit2's own reader does: the file comes from a stranger. Bytes, since paths are.

/// One `[submodule "name"]` section.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Section {
    pub(super) name: Vec<u8>,
    pub(super) path: Option<Vec<u8>>,
    pub(super) url: Option<Vec<u8>>,
    /// `none` says that the submodule is not to be checked out.
    pub(super) update: Option<Vec<u8>>,
}

/// The submodule sections of a file, in order, each name once. The last value of a key counts.
///
/// # Errors
/// The number of the first line that cannot be understood, from 1.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Section>, usize> {
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
    };
    let mut sections: Vec<Section> = Vec::new();
    let mut current: Option<usize> = None;
    loop {
        reader.skip_blank_lines();
        let line = reader.line;
        match reader.peek() {
            None => return Ok(sections),
            Some(b'[') => {
                let header = reader.header().ok_or(line)?;
                current = header.map(|name| {
                    sections
                        .iter()
                        .position(|section| section.name == name)
                        .unwrap_or_else(|| {
                            sections.push(Section {
                                name,
                                ..Section::default()
                            });
                            sections.len() - 1
                        })
                });
            }
            Some(_) => {
                let (key, value) = reader.entry().ok_or(line)?;
                let Some(section) = current.and_then(|at| sections.get_mut(at)) else {
                    continue;
                };
                match key.as_slice() {
                    b"path" => section.path = value,
                    b"url" => section.url = value,
                    b"update" => section.update = value,
                    _ => {}
                }
            }
        }
    }
}

struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    line: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek()?;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
        }
        Some(byte)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r')) {
            self.next();
        }
    }

    fn skip_line(&mut self) {
        while !matches!(self.next(), None | Some(b'\n')) {}
    }

    fn skip_blank_lines(&mut self) {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\r' | b'\n') => {
                    self.next();
                }
                Some(b'#' | b';') => self.skip_line(),
                _ => return,
            }
        }
    }

    /// A section header. The inner `None` is a section of another kind, the outer one an error.
    fn header(&mut self) -> Option<Option<Vec<u8>>> {
        self.next();
        let mut kind = Vec::new();
        while let Some(byte) = self.peek() {
            if !(byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
                break;
            }
            kind.push(byte.to_ascii_lowercase());
            self.next();
        }
        self.skip_blanks();
        let mut name = None;
        if self.peek() == Some(b'"') {
            self.next();
            let mut quoted = Vec::new();
            loop {
                match self.next()? {
                    b'"' => break,
                    b'\n' => return None,
                    b'\\' => quoted.push(self.next().filter(|byte| *byte != b'\n')?),
                    byte => quoted.push(byte),
                }
            }
            name = Some(quoted);
        }
        if self.next()? != b']' {
            return None;
        }
        // The old form `[submodule.name]` is not written by anything that knows submodules.
        Some(name.filter(|_| kind == b"submodule"))
    }

    /// A key and its value; a key alone has none.
    fn entry(&mut self) -> Option<(Vec<u8>, Option<Vec<u8>>)> {
        let mut key = Vec::new();
        while let Some(byte) = self.peek() {
            if !(byte.is_ascii_alphanumeric() || byte == b'-') {
                break;
            }
            key.push(byte.to_ascii_lowercase());
            self.next();
        }
        if key.is_empty() {
            return None;
        }
        self.skip_blanks();
        match self.peek() {
            None | Some(b'\n' | b'#' | b';') => {
                self.skip_line();
                Some((key, None))
            }
            Some(b'=') => {
                self.next();
                self.skip_blanks();
                Some((key, Some(self.value()?)))
            }
            Some(_) => None,
        }
    }

    fn value(&mut self) -> Option<Vec<u8>> {
        let mut value = Vec::new();
        // Blanks outside of quotes count only if something follows.
        let mut solid = 0;
        let mut quoted = false;
        loop {
            match self.next() {
                None | Some(b'\n') if quoted => return None,
                None | Some(b'\n') => break,
                Some(b'"') => {
                    quoted = !quoted;
                    solid = value.len();
                }
                Some(b'#' | b';') if !quoted => {
                    self.skip_line();
                    break;
                }
                Some(b'\\') => {
                    match self.next()? {
                        b'\n' => continue,
                        b'\r' if self.peek() == Some(b'\n') => {
                            self.next();
                            continue;
                        }
                        b'n' => value.push(b'\n'),
                        b't' => value.push(b'\t'),
                        b'b' => value.push(8),
                        byte @ (b'"' | b'\\') => value.push(byte),
                        _ => return None,
                    }
                    solid = value.len();
                }
                Some(byte @ (b' ' | b'\t' | b'\r')) if !quoted => value.push(byte),
                Some(byte) => {
                    value.push(byte);
                    solid = value.len();
                }
            }
        }
        value.truncate(solid);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_git_submodule_add_writes_is_understood() {
        let text = b"[submodule \"lib\"]\n\tpath = vendor/lib\n\turl = ../lib.git\n[submodule \"b\"]\n\tpath = b\n\turl = https://h/b\n\tupdate = none\n";
        let sections = parse(text).unwrap();
        assert_eq!(sections.len(), 2);
        assert_eq!(sections[0].name, b"lib");
        assert_eq!(sections[0].path.as_deref(), Some(&b"vendor/lib"[..]));
        assert_eq!(sections[0].url.as_deref(), Some(&b"../lib.git"[..]));
        assert_eq!(sections[1].update.as_deref(), Some(&b"none"[..]));
    }

    #[test]
    fn quotes_escapes_comments_and_continuations_follow_git() {
        let text = b"; note\n[SubModule \"a \\\"b\\\"\"] path = \"x #1\" tail  # why\r\n url = ab\\\n  cd\\t \n[core]\n path = other\n";
        let sections = parse(text).unwrap();
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].name, b"a \"b\"");
        assert_eq!(sections[0].path.as_deref(), Some(&b"x #1 tail"[..]));
        assert_eq!(sections[0].url.as_deref(), Some(&b"ab  cd\t"[..]));
    }

    #[test]
    fn a_section_given_twice_is_one_and_its_last_value_counts() {
        let text = b"[submodule \"a\"]\npath=1\n[submodule \"a\"]\npath=2\nurl=u\n";
        let sections = parse(text).unwrap();
        assert_eq!(sections.len(), 1);
        assert_eq!(sections[0].path.as_deref(), Some(&b"2"[..]));
    }

    #[test]
    fn an_include_is_just_another_section() {
        let text = b"[include]\n\tpath = /etc/passwd\n[includeIf \"x\"]\npath = y\n";
        assert_eq!(parse(text).unwrap(), []);
    }

    #[test]
    fn nonsense_is_refused_with_its_line() {
        assert_eq!(parse(b"[submodule \"a\"]\npath = ok\n= x\n"), Err(3));
        assert_eq!(parse(b"[submodule \"a\n\"]\n"), Err(1));
        assert_eq!(parse(b"\n[submodule \"a\"]\nurl = \"open\n"), Err(3));
        assert_eq!(parse(b"[submodule \"a\"]\nurl = \\q\n"), Err(2));
        assert_eq!(parse(b"[submodule"), Err(1));
    }
}
