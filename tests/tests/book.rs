//! What the book says is proven by a test, is: the tests that its tables name exist.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use ocluster_tests::{Proof, proofs};

/// Checks that the numbers are all those from 1 to `last`.
fn complete(proofs: &[Proof], last: u32) -> Result<()> {
    let found: BTreeSet<u32> = proofs.iter().map(|proof| proof.number).collect();
    ensure!(
        found == (1..=last).collect(),
        "the table has tests for {found:?}"
    );
    Ok(())
}

#[test]
fn every_test_that_the_table_of_defects_names_exists() -> Result<()> {
    let known = proofs("docs/testing.md", 'D')?;
    for Proof { number, test } in &known {
        ensure!(
            test.starts_with(&format!("d{number}_")),
            "not named after D{number}: {test}"
        );
    }
    complete(&known, 22)?;
    // Those of OBuilder have numbers in the book only.
    complete(&proofs("docs/testing.md", 'O')?, 20)
}

#[test]
fn every_promise_has_a_test_that_exists() -> Result<()> {
    complete(&proofs("docs/promises.md", 'P')?, 20)
}
