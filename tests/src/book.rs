//! The tables of the book that name a test for each thing they say: their rows, read and checked against the code.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};

/// A row of such a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The number behind the letter in the first column.
    pub number: u32,
    /// The name of the test in the last one.
    pub test: String,
}

/// The rows of the tables in `book`, a file of the source tree, whose first column is this letter and a number. Their last column is
/// a file and a test in it, each in backquotes.
///
/// # Errors
///
/// When a row names no test, or one that its file does not have.
pub fn proofs(book: &str, letter: char) -> Result<Vec<Proof>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join(book))?;
    let rows = text.lines().filter_map(|line| {
        let (number, rest) = line.strip_prefix(&format!("| {letter}"))?.split_once(' ')?;
        Some((line, number.parse().ok()?, rest))
    });
    rows.map(|(row, number, rest)| {
        let column = rest.rsplit('|').nth(1).unwrap_or_default();
        let quoted: Vec<&str> = column.split('`').collect();
        let [_, file, _, test, _] = quoted.as_slice() else {
            bail!("a row without a file and a test: {row}")
        };
        let code = fs::read_to_string(root.join(file)).with_context(|| row.to_owned())?;
        ensure!(
            code.contains(&format!("fn {test}(")),
            "not in {file}: {test}"
        );
        Ok(Proof {
            number,
            test: (*test).to_owned(),
        })
    })
    .collect()
}
