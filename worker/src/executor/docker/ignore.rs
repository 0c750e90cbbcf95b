//! What a `.dockerignore` file keeps out of the build context, by the rules of `docker build`.
//!
//! The rules differ from git's: the last pattern that matches wins, `!` brings back, a directory's verdict holds for what is in it,
//! and the Dockerfile and `.dockerignore` are sent in any case, for the engine to read them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::pattern::Pattern;

/// The file's name, at the context's root.
pub(super) const NAME: &str = ".dockerignore";

/// The largest such file that is read, in bytes.
const MAX_SIZE: u64 = 1 << 20;
/// The most rules that are taken. Each takes memory for every directory on the way to an entry, and time for every entry.
const MAX_RULES: usize = 10_000;

/// The rules of a context.
#[derive(Debug, Default)]
pub(super) struct Rules {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    text: String,
    pattern: Pattern,
    /// Written with `!`: what matches is sent after all.
    exception: bool,
}

/// Which rules a directory has matched: they hold for everything in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Matched(Vec<bool>);

/// What becomes of a path.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is sent.
    Send,
    /// It is not sent, but something in it may be.
    Descend,
    /// Neither it nor anything in it is sent.
    Skip,
}

impl Rules {
    /// Reads the rules of the context at `root`, whose Dockerfile is at `dockerfile`.
    ///
    /// # Errors
    /// If the file cannot be read or is too large, or a pattern is malformed: a sentence for the user.
    pub(super) fn of_context(root: &Path, dockerfile: &str) -> Result<Self, String> {
        let mut rules = Self::of_file(root, NAME)?.unwrap_or_default();
        rules.let_through(dockerfile)?;
        Ok(rules)
    }

    /// Reads the rules as BuildKit does: those beside the Dockerfile, in `<dockerfile>.dockerignore`, come before the context's. The
    /// Dockerfile itself is read apart from the context, and may be kept out of it.
    ///
    /// # Errors
    /// As [`Rules::of_context`].
    pub(super) fn of_buildkit_context(root: &Path, dockerfile: &str) -> Result<Self, String> {
        if let Some(rules) = Self::of_file(root, &format!("{dockerfile}{NAME}"))? {
            return Ok(rules);
        }
        Ok(Self::of_file(root, NAME)?.unwrap_or_default())
    }

    fn of_file(root: &Path, name: &str) -> Result<Option<Self>, String> {
        match read_inside(root, name) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes)).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {name}: {error}")),
        }
    }

    #[cfg(test)]
    fn read(text: &str, dockerfile: &str) -> Result<Self, String> {
        let mut rules = Self::parse(text)?;
        rules.let_through(dockerfile)?;
        Ok(rules)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut rules = Self::default();
        for line in text.strip_prefix('\u{feff}').unwrap_or(text).lines() {
            if line.starts_with('#') || line.trim().is_empty() {
                continue;
            }
            let line = line.trim();
            let (exception, pattern) = match line.strip_prefix('!') {
                Some(rest) => (true, rest.trim()),
                None => (false, line),
            };
            if pattern.is_empty() {
                return Err(format!("{NAME}: illegal exclusion pattern: \"!\""));
            }
            if rules.rules.len() == MAX_RULES {
                return Err(format!(
                    "{NAME}: it has more than {MAX_RULES} patterns: say the same with fewer, such as a directory for what is in it"
                ));
            }
            let clean = clean(pattern);
            rules.add(
                clean
                    .strip_prefix('/')
                    .filter(|rest| !rest.is_empty())
                    .unwrap_or(&clean),
                exception,
            )?;
        }
        Ok(rules)
    }

    /// Sends what the classic builder needs, whatever the rules say.
    fn let_through(&mut self, dockerfile: &str) -> Result<(), String> {
        for needed in [NAME, dockerfile] {
            if self.ignores(needed) {
                self.add(needed, true)?;
            }
        }
        Ok(())
    }

    fn add(&mut self, text: &str, exception: bool) -> Result<(), String> {
        let pattern =
            Pattern::read(text).map_err(|_| format!("{NAME}: syntax error in pattern {text:?}"))?;
        self.rules.push(Rule {
            text: text.to_owned(),
            pattern,
            exception,
        });
        Ok(())
    }

    /// Whether a path, given as a whole, is kept out.
    fn ignores(&self, path: &str) -> bool {
        let mut matched = Matched::default();
        let mut ignored = false;
        for (slash, _) in path.match_indices('/').chain([(path.len(), "")]) {
            let reached = path.get(..slash).unwrap_or(path);
            (ignored, matched) = self.check(OsStr::new(reached), &matched);
        }
        ignored
    }

    /// Decides on `path`, relative to the root, in a directory that has matched `parent`.
    pub(super) fn decide(
        &self,
        path: &OsStr,
        is_directory: bool,
        parent: &Matched,
    ) -> (Verdict, Matched) {
        let (ignored, matched) = self.check(path, parent);
        let verdict = match (ignored, is_directory) {
            (false, _) => Verdict::Send,
            (true, true) if self.has_exception_below(path) => Verdict::Descend,
            (true, _) => Verdict::Skip,
        };
        (verdict, matched)
    }

    fn check(&self, path: &OsStr, parent: &Matched) -> (bool, Matched) {
        let characters = characters(path);
        let mut ignored = false;
        let mut matched = Vec::with_capacity(self.rules.len());
        for (index, rule) in self.rules.iter().enumerate() {
            let inherited = parent.0.get(index).copied().unwrap_or(false);
            // A rule that cannot change the verdict is not asked, and does not count as matched for what is below.
            let hit = inherited || (rule.exception == ignored && rule.pattern.matches(&characters));
            if hit {
                ignored = !rule.exception;
            }
            matched.push(hit);
        }
        (ignored, Matched(matched))
    }

    /// Whether an exception's text starts with this directory. Docker looks no further: an exception such as `!**/*.md` does not make
    /// it search directories that are kept out.
    fn has_exception_below(&self, directory: &OsStr) -> bool {
        let directory = [directory.as_bytes(), b"/"].concat();
        self.rules.iter().any(|rule| {
            rule.exception
                && [rule.text.as_bytes(), b"/"]
                    .concat()
                    .starts_with(&directory)
        })
    }
}

/// Reads the file. It may be a link, but only to a regular file of the same context: a stranger must not make us read anything else,
/// nor more than there are good reasons for.
fn read_inside(root: &Path, name: &str) -> io::Result<Vec<u8>> {
    let path = fs::canonicalize(root.join(name))?;
    if !path.starts_with(fs::canonicalize(root)?) || !fs::metadata(&path)?.is_file() {
        return Err(io::Error::other(
            "it is not a regular file of the build context",
        ));
    }
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_SIZE + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(io::Error::other(format!(
            "it has more than {MAX_SIZE} bytes, which is the most that this worker reads"
        )));
    }
    Ok(bytes)
}

/// The path's characters, an unknown one for each byte that is not UTF-8.
fn characters(path: &OsStr) -> Vec<char> {
    path.as_bytes()
        .utf8_chunks()
        .flat_map(|chunk| {
            chunk
                .valid()
                .chars()
                .chain(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER))
        })
        .collect()
}

/// The shortest path that says the same, judged by its text alone.
fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut kept: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." => match kept.last() {
                Some(last) if *last != ".." => {
                    kept.pop();
                }
                None if absolute => {}
                _ => kept.push(".."),
            },
            other => kept.push(other),
        }
    }
    match (absolute, kept.is_empty()) {
        (true, _) => format!("/{}", kept.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => kept.join("/"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Which of `paths` are kept out.
    fn ignored<'a>(rules: &str, paths: &[&'a str]) -> Vec<&'a str> {
        let rules = Rules::read(rules, "Dockerfile").unwrap();
        paths
            .iter()
            .copied()
            .filter(|path| rules.ignores(path))
            .collect()
    }

    #[test]
    fn the_last_rule_that_matches_wins() {
        let paths = ["a.md", "README.md", "docs/b.md", "keep/README.md"];
        assert_eq!(ignored("*.md\n!README.md\n", &paths), ["a.md"]);
        assert_eq!(ignored("!README.md\n*.md\n", &paths), ["a.md", "README.md"]);
        assert_eq!(
            ignored("**/*.md\n!**/README.md\n", &paths),
            ["a.md", "docs/b.md"]
        );
    }

    #[test]
    fn a_directory_takes_what_is_in_it_along() {
        let paths = ["target", "target/debug/x", "sub/target/x"];
        assert_eq!(ignored("/target/\n", &paths), ["target", "target/debug/x"]);
        assert_eq!(ignored("**/target\n", &paths), paths);
        assert_eq!(ignored("target\n!target/debug/x\n", &paths), ["target"]);
    }

    #[test]
    fn comments_spaces_and_odd_spellings_are_understood() {
        let paths = ["a", "b", "#c", "d"];
        assert_eq!(
            ignored("\u{feff}# a\n\n  ./b  \n #c\n! d\nx/../a\n", &paths),
            ["a", "b", "#c"]
        );
        assert_eq!(ignored("a\r\nb\r\n", &paths), ["a", "b"]);
    }

    #[test]
    fn the_files_that_the_engine_needs_are_always_sent() {
        let paths = ["Dockerfile", ".dockerignore", "x"];
        assert_eq!(ignored("*\n", &paths), ["x"]);
        let rules = Rules::read("docker\n", "docker/Dockerfile").unwrap();
        let (verdict, matched) = rules.decide(OsStr::new("docker"), true, &Matched::default());
        assert_eq!(verdict, Verdict::Descend);
        assert_eq!(
            rules
                .decide(OsStr::new("docker/Dockerfile"), false, &matched)
                .0,
            Verdict::Send
        );
        assert_eq!(
            rules.decide(OsStr::new("docker/other"), false, &matched).0,
            Verdict::Skip
        );
    }

    #[test]
    fn only_an_exception_that_names_a_directory_opens_it() {
        let verdict = |text| {
            Rules::read(text, "Dockerfile")
                .unwrap()
                .decide(OsStr::new("a"), true, &Matched::default())
                .0
        };
        assert_eq!(verdict("a\n"), Verdict::Skip);
        assert_eq!(verdict("a\n!a/b\n"), Verdict::Descend);
        assert_eq!(verdict("a\n!**/b\n"), Verdict::Skip);
        assert_eq!(verdict("b\n"), Verdict::Send);
    }

    #[test]
    fn broken_files_are_explained() {
        assert_eq!(
            Rules::read("[\n", "D").unwrap_err(),
            ".dockerignore: syntax error in pattern \"[\""
        );
        assert_eq!(
            Rules::read("!\n", "D").unwrap_err(),
            ".dockerignore: illegal exclusion pattern: \"!\""
        );
    }

    #[test]
    fn a_file_that_is_too_large_is_refused_whichever_it_is() {
        let context = tempfile::TempDir::new().unwrap();
        let of = [Rules::of_context, Rules::of_buildkit_context];
        let write = |name: &str, size: u64| {
            let file = File::create(context.path().join(name)).unwrap();
            file.set_len(size).unwrap();
        };
        for (name, of) in [(NAME, of[0]), (NAME, of[1]), ("D.dockerignore", of[1])] {
            let excess = |size| {
                write(name, size);
                of(context.path(), "D").err()
            };
            assert_eq!(excess(MAX_SIZE), None);
            assert_eq!(
                excess(MAX_SIZE + 1).unwrap(),
                format!(
                    "cannot read {name}: it has more than 1048576 bytes, which is the most that this worker reads"
                )
            );
            // Far more than a test could write, and than a worker could read.
            assert!(excess(1 << 40).is_some());
            fs::remove_file(context.path().join(name)).unwrap();
        }
    }

    #[test]
    fn too_many_rules_are_refused_and_comments_do_not_count() {
        let many = "# why\n\na\n".repeat(MAX_RULES);
        assert_eq!(Rules::parse(&many).unwrap().rules.len(), MAX_RULES);
        let error = Rules::parse(&(many + "b\n")).unwrap_err();
        assert_eq!(
            error,
            ".dockerignore: it has more than 10000 patterns: say the same with fewer, such as a directory for what is in it"
        );
    }

    #[test]
    fn names_that_are_not_utf8_can_be_matched() {
        let rules = Rules::read("bad?\n", "Dockerfile").unwrap();
        assert!(
            rules
                .check(OsStr::from_bytes(b"bad\xff"), &Matched::default())
                .0
        );
        assert!(
            !rules
                .check(OsStr::from_bytes(b"bad\xff\xfe"), &Matched::default())
                .0
        );
    }
}
