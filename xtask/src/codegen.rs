//! `cargo xtask codegen [--check]`: the compiled schema is made from the schema's text, or shown to be fresh.
//!
//! Two versions of the `capnp` program may write the same schema in different bytes, so that what is compared is not the compiled
//! schema itself but the Rust code that it gives.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest as _, Sha256};

use crate::needs;

/// The schema's files, in the order in which `crates/api/build.rs` takes their digest.
const FILES: [&str; 3] = ["cluster.capnp", "extensions.capnp", "persistent.capnp"];

/// Writes the compiled schema and its digest, or with `check` compares them with the text.
pub(crate) fn run(check: bool) -> Result<()> {
    needs::provide(&needs::for_codegen(), &[])?;
    let schema = workspace()?.join("schema");
    let compiled = compile(&schema)?;
    let digest = format!("{}\n", digest(&schema)?);
    if !check {
        fs::write(schema.join("schema.cgr"), compiled)?;
        fs::write(schema.join("schema.sha256"), digest)?;
        println!("wrote schema/schema.cgr and schema/schema.sha256");
        return Ok(());
    }
    let stale = "run `cargo xtask codegen` and commit the result";
    ensure!(
        fs::read_to_string(schema.join("schema.sha256"))?.trim() == digest.trim(),
        "schema/schema.sha256 is not the digest of schema/*.capnp: {stale}"
    );
    let committed = fs::read(schema.join("schema.cgr"))?;
    let (fresh, committed) = (generate(&compiled)?, generate(&committed)?);
    ensure!(!fresh.is_empty(), "the schema gives no code at all");
    for (file, code) in &fresh {
        ensure!(
            committed.get(file) == Some(code),
            "schema/schema.cgr is stale: it gives another {file}: {stale}"
        );
    }
    ensure!(
        committed.len() == fresh.len(),
        "schema/schema.cgr gives files that the schema does not: {stale}"
    );
    println!(
        "schema/schema.cgr is fresh: {} generated files agree",
        fresh.len()
    );
    Ok(())
}

fn compile(schema: &Path) -> Result<Vec<u8>> {
    let output = Command::new("capnp")
        .args(["compile", "-o-"])
        .args(FILES)
        .current_dir(schema)
        .output()?;
    if !output.status.success() {
        bail!(
            "capnp refuses the schema:\n{}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
    }
    Ok(output.stdout)
}

fn digest(schema: &Path) -> Result<String> {
    let mut digest = Sha256::new();
    for file in FILES {
        digest.update(fs::read(schema.join(file))?);
    }
    Ok(format!("{:x}", digest.finalize()))
}

/// The Rust files, by name, that a compiled schema gives.
fn generate(compiled: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let directory = tempfile::tempdir()?;
    capnpc::codegen::CodeGenerationCommand::new()
        .output_directory(directory.path())
        .run(compiled)?;
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory.path())? {
        let entry = entry?;
        files.insert(
            entry.file_name().to_string_lossy().into_owned(),
            fs::read(entry.path())?,
        );
    }
    Ok(files)
}

/// The workspace's directory.
pub(crate) fn workspace() -> Result<PathBuf> {
    // The program is run where it was built: `cargo xtask` makes sure of that.
    Ok(Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .context("xtask has no parent directory")?
        .to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn the_recorded_digest_is_that_of_the_schema() {
        let schema = workspace().unwrap().join("schema");
        assert_eq!(
            fs::read_to_string(schema.join("schema.sha256"))
                .unwrap()
                .trim(),
            digest(&schema).unwrap()
        );
    }

    #[test]
    fn what_is_committed_gives_code_for_every_file() {
        let committed = fs::read(workspace().unwrap().join("schema/schema.cgr")).unwrap();
        let names: Vec<String> = generate(&committed).unwrap().into_keys().collect();
        assert_eq!(
            names,
            [
                "cluster_capnp.rs",
                "extensions_capnp.rs",
                "persistent_capnp.rs"
            ]
        );
    }

    #[test]
    fn a_damaged_compiled_schema_is_an_error() {
        assert!(generate(b"not a schema").is_err());
    }
}
