//! Doing a chore on behalf of a person: what was done goes to standard output, why not to standard error, and how far it is to a
//! passing line on a terminal.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use ocluster_cli::{ExitCode, Failure, OutputMode, PassingLine, output};
use ocluster_store::chores::{self, Exported, ImportError, Imported};
use ocluster_store::{SledOptions, StoreError};
use tempfile::NamedTempFile;

use super::args::{CheckArgs, CompactArgs, ExportArgs, ImportArgs, StoreChore};
use super::report;
use crate::export::settle;
use crate::space::require_room_for_store;

/// After so many bytes the passing line is brought up to date.
const STEP: u64 = 1 << 20;

/// Why a chore was not done. Nothing was changed.
#[derive(Debug, thiserror::Error)]
enum ChoreError {
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{} exists already: move it away, or give another name", path.display())]
    Exists { path: PathBuf },
    #[error("cannot import {}: {source}", path.display())]
    Import { path: PathBuf, source: ImportError },
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ChoreError {
    fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Does the chore, prints what came of it, and gives the exit code: 0 if it was done and all is well, 1 if not.
#[must_use]
pub fn run(chore: &StoreChore) -> ExitCode {
    match chore {
        StoreChore::Check(args) => match check(args) {
            Ok(report) => {
                let sound = report.is_sound();
                told(report.print(args.output), sound)
            }
            Err(error) => refused(&error, args.output),
        },
        StoreChore::Export(args) => match export(args) {
            Ok(exported) => {
                let whole = exported.damaged.is_empty();
                told(report::exported(&exported, &args.to), whole)
            }
            Err(error) => refused(&error, OutputMode::Human),
        },
        StoreChore::Import(args) => match import(args) {
            Ok(imported) => told(report::imported(&imported, &args.state_dir), true),
            Err(error) => refused(&error, OutputMode::Human),
        },
        StoreChore::Compact(args) => match compact(args) {
            Ok(compacted) => told(report::compacted(compacted, &args.state_dir), true),
            Err(error) => refused(&error, OutputMode::Human),
        },
    }
}

fn told(printed: io::Result<()>, well: bool) -> ExitCode {
    match printed {
        Ok(()) if well => ExitCode::Success,
        Ok(()) => ExitCode::Failed,
        Err(error) => Failure::from(error).report(),
    }
}

/// Says why nothing was done, for programs as well if one reads.
fn refused(error: &ChoreError, mode: OutputMode) -> ExitCode {
    output::complain(format!("ocluster-scheduler: {error}"));
    if mode == OutputMode::Json
        && let ChoreError::Store(error) = error
        && let Err(error) = report::unopened(error)
    {
        return Failure::from(error).report();
    }
    ExitCode::Failed
}

fn check(args: &CheckArgs) -> Result<report::Check, ChoreError> {
    require_room_for_store(&args.state_dir)?;
    let mut line = PassingLine::new();
    line.show(&format!(
        "Checking the store in {}",
        args.state_dir.display()
    ));
    let found = chores::check(&args.state_dir, SledOptions::default())?;
    Ok(report::Check::new(found))
}

fn export(args: &ExportArgs) -> Result<Exported, ChoreError> {
    let to = &args.to;
    if to.symlink_metadata().is_ok() {
        return Err(ChoreError::Exists { path: to.clone() });
    }
    require_room_for_store(&args.state_dir)?;
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let cannot = format!("write {}", to.display());
    if !parent.is_dir() {
        let why = format!("there is no directory {}", parent.display());
        let source = io::Error::new(io::ErrorKind::NotFound, why);
        return Err(ChoreError::io(&cannot)(source));
    }
    let file = NamedTempFile::new_in(parent).map_err(ChoreError::io(&cannot))?;
    let counted = Counted::new(
        file.as_file(),
        format!("Exported to {}", to.display()),
        None,
    );
    let exported = chores::export_dir(&args.state_dir, SledOptions::default(), counted)?;
    settle(file, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => ChoreError::Exists { path: to.clone() },
        _ => ChoreError::io(&cannot)(error),
    })?;
    Ok(exported)
}

fn import(args: &ImportArgs) -> Result<Imported, ChoreError> {
    let from = &args.from;
    let cannot = format!("read {}", from.display());
    let file = File::open(from).map_err(ChoreError::io(&cannot))?;
    let about = file.metadata().map_err(ChoreError::io(&cannot))?;
    if about.is_dir() {
        let source = io::Error::from(io::ErrorKind::IsADirectory);
        return Err(ChoreError::io(&cannot)(source));
    }
    let parent = args
        .state_dir
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty());
    let place = if args.state_dir.is_dir() {
        &args.state_dir
    } else {
        parent.unwrap_or(Path::new("."))
    };
    require_room_for_store(place)?;
    let counted = Counted::new(
        file,
        format!("Imported from {}", from.display()),
        Some(about.len()),
    );
    chores::import(counted, &args.state_dir, SledOptions::default()).map_err(|source| {
        ChoreError::Import {
            path: from.clone(),
            source,
        }
    })
}

fn compact(args: &CompactArgs) -> Result<chores::Compacted, ChoreError> {
    require_room_for_store(&args.state_dir)?;
    let mut line = PassingLine::new();
    line.show(&format!(
        "Compacting the store in {}",
        args.state_dir.display()
    ));
    Ok(chores::compact(&args.state_dir, SledOptions::default())?)
}

/// A file whose bytes are counted on a passing line as they go by.
struct Counted<F> {
    file: F,
    what: String,
    /// How many there will be, if that is known.
    all: Option<u64>,
    bytes: u64,
    line: PassingLine,
}

impl<F> Counted<F> {
    fn new(file: F, what: String, all: Option<u64>) -> Self {
        Self {
            file,
            what,
            all,
            bytes: 0,
            line: PassingLine::new(),
        }
    }

    fn count(&mut self, bytes: usize) {
        let before = self.bytes;
        self.bytes += bytes as u64;
        if before / STEP == self.bytes / STEP {
            return;
        }
        let far = match self.all.filter(|all| *all > 0) {
            Some(all) => format!("{}%", self.bytes.saturating_mul(100) / all),
            None => format!("{} MiB", self.bytes / STEP),
        };
        self.line.show(&format!("{}: {far}", self.what));
    }
}

impl<F: Read> Read for Counted<F> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(into)?;
        self.count(bytes);
        Ok(bytes)
    }
}

impl<F: Write> Write for Counted<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.count(written);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
