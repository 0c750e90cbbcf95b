//! `cargo xtask fuzz`: random bytes for what must hold for any, each target for a bounded time.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;

use crate::codegen::workspace;
use crate::test::timed;

/// A crate of targets. Seeds are in `seeds/TARGET`, or in `seeds` if all targets share them.
struct Place {
    /// Where it is, from the workspace.
    directory: &'static str,
    /// The words of the formats, in the crate's directory.
    dictionary: &'static str,
}

const PLACES: [Place; 2] = [
    Place {
        directory: "fuzz",
        dictionary: "decoders.dict",
    },
    Place {
        directory: "crates/obuilder-spec/fuzz",
        dictionary: "spec.dict",
    },
];

/// The longest input, in bytes.
const MAX_LENGTH: u32 = 4096;
/// The most that one allocation may take, in MiB: a few bytes cannot be worth more.
const MAX_ALLOCATION: u32 = 192;

#[derive(Args)]
pub(crate) struct Options {
    /// How long all targets run together, in seconds, building them not counted.
    #[arg(long, default_value_t = 280, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Run only these targets.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
}

/// One thing to feed random bytes to.
struct Target {
    directory: PathBuf,
    name: String,
    dictionary: PathBuf,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    check_needs()?;
    let targets = wanted(all(&workspace()?)?, &options.targets)?;
    let count = u32::try_from(targets.len()).context("too many targets")?;
    let seconds = (options.seconds / count).max(1);
    for target in &targets {
        target.run(seconds)?;
    }
    Ok(())
}

/// Fails with all that is missing at once.
fn check_needs() -> Result<()> {
    let needs: [(&[&str], &str); 2] = [
        (
            &["+nightly", "--version"],
            "a nightly toolchain (rustup toolchain install nightly --profile minimal)",
        ),
        (
            &["fuzz", "--version"],
            "cargo-fuzz (cargo install cargo-fuzz --locked)",
        ),
    ];
    let mut missing = Vec::new();
    for (arguments, what) in needs {
        let status = Command::new("cargo")
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("failed to run cargo")?;
        if !status.success() {
            missing.push(what);
        }
    }
    if !missing.is_empty() {
        bail!("fuzzing needs {}", missing.join(", and "));
    }
    Ok(())
}

/// Every target there is, in the order of names in each crate.
fn all(workspace: &Path) -> Result<Vec<Target>> {
    let mut targets = Vec::new();
    for place in &PLACES {
        let directory = workspace.join(place.directory);
        let sources = directory.join("fuzz_targets");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&sources)
            .with_context(|| format!("failed to list {}", sources.display()))?
        {
            let path = entry?.path();
            if path.extension().is_some_and(|kind| kind == "rs")
                && let Some(name) = path.file_stem().and_then(|name| name.to_str())
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        targets.extend(names.into_iter().map(|name| Target {
            name,
            dictionary: directory.join(place.dictionary),
            directory: directory.clone(),
        }));
    }
    Ok(targets)
}

/// Those of the targets that were asked for: all, if none was.
fn wanted(mut targets: Vec<Target>, names: &[String]) -> Result<Vec<Target>> {
    for name in names {
        ensure!(
            targets.iter().any(|target| target.name == *name),
            "there is no target {name:?}; there are {}",
            targets
                .iter()
                .map(|target| target.name.as_str())
                .collect::<Vec<_>>()
                .join(", ")
        );
    }
    if !names.is_empty() {
        targets.retain(|target| names.contains(&target.name));
    }
    Ok(targets)
}

impl Target {
    fn run(&self, seconds: u32) -> Result<()> {
        let name = &self.name;
        let corpus = self.directory.join("corpus").join(name);
        std::fs::create_dir_all(&corpus)
            .with_context(|| format!("failed to create {}", corpus.display()))?;
        let mut seeds = self.directory.join("seeds").join(name);
        if !seeds.exists() {
            seeds.pop();
        }
        // A target that is killed leaves its files behind.
        let temporary = tempfile::tempdir().context("failed to make a temporary directory")?;
        let mut fuzz = Command::new("cargo");
        fuzz.env("TMPDIR", temporary.path());
        fuzz.args(["+nightly", "fuzz", "run", "--fuzz-dir"]);
        fuzz.arg(&self.directory).arg(name);
        fuzz.arg(corpus).arg(seeds).arg("--");
        fuzz.arg(format!("-max_total_time={seconds}"));
        fuzz.arg(format!("-dict={}", self.dictionary.display()));
        fuzz.arg(format!("-max_len={MAX_LENGTH}"));
        fuzz.arg(format!("-malloc_limit_mb={MAX_ALLOCATION}"));
        fuzz.args(["-timeout=10", "-print_final_stats=1"]);
        timed(&format!("fuzzing {name} for {seconds} s"), fuzz)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn every_target_has_seeds_and_is_declared_and_every_dictionary_is_there() {
        for target in all(&workspace().unwrap()).unwrap() {
            let manifest = std::fs::read_to_string(target.directory.join("Cargo.toml")).unwrap();
            let name = &target.name;
            assert!(manifest.contains(&format!("name = \"{name}\"")), "{name}");
            assert!(target.dictionary.is_file(), "{name}");
            let shared = target.directory.join("seeds");
            let own = shared.join(name);
            let seeds = if own.exists() { own } else { shared };
            let files = std::fs::read_dir(seeds).unwrap();
            let count = files.filter(|file| file.as_ref().unwrap().path().is_file());
            assert!(count.count() >= 2, "{name}");
        }
    }

    #[test]
    fn targets_are_chosen_by_name() {
        let found = || all(&workspace().unwrap()).unwrap();
        let names = |names: &[&str]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(wanted(found(), &[]).unwrap().len(), found().len());
        let chosen = wanted(found(), &names(&["parse", "message"])).unwrap();
        let chosen: Vec<&str> = chosen.iter().map(|target| target.name.as_str()).collect();
        assert_eq!(chosen, ["message", "parse"]);
        let error = wanted(found(), &names(&["nothing"])).err().unwrap();
        assert!(error.to_string().contains("message, "), "{error}");
    }
}
