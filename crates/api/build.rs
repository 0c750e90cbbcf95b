//! Turns the committed, compiled schema into Rust code.
//!
//! The `capnp` program is not needed for this: `schema/schema.cgr` is what it printed when the schema last changed. A digest
//! of the schema's text lies beside it, so that a change of the text alone does not go unnoticed.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The schema's files, in the order in which their digest is taken.
const SCHEMA_FILES: [&str; 3] = ["cluster.capnp", "extensions.capnp", "persistent.capnp"];

fn main() -> Result<(), Box<dyn Error>> {
    let schema = Path::new("../../schema");
    println!("cargo::rerun-if-changed={}", schema.display());
    let mut digest = Sha256::new();
    for file in SCHEMA_FILES {
        digest.update(fs::read(schema.join(file))?);
    }
    let actual = format!("{:x}", digest.finalize());
    let recorded = fs::read_to_string(schema.join("schema.sha256"))?;
    if recorded.trim() != actual {
        return Err(
            "schema/*.capnp changed since schema/schema.cgr was made: run `cargo xtask codegen`"
                .into(),
        );
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    capnpc::codegen::CodeGenerationCommand::new()
        .output_directory(&out)
        .run(File::open(schema.join("schema.cgr"))?)?;
    Ok(())
}
