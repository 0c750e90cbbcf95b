//! Making a new store from an export: whole, or not at all.
//!
//! The store is made beside its place and moved there when the last line was read, so that a bad line, a cut file or a
//! kill leaves nothing behind that could be taken for a store.

use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::sled::Beside;
use crate::{Change, JobId, SledOptions, SledStore, Store, StoreError};

use super::line::{AnyHeader, LONGEST, Line, VERSION, job};

/// Changes, and bytes of descriptions, written at a time.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// Ids left out after an import, because jobs submitted since the export may have had them: more than a scheduler hands
/// out in hours.
const GAP: u64 = 1 << 24;

/// What was imported.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Imported {
    /// Lines, without the first and the last.
    pub rows: u64,
    /// Jobs among them.
    pub jobs: u64,
    /// The id of the next job.
    pub next_job_id: JobId,
}

/// Why an import was refused. Nothing is then there that was not there before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// There is a store already.
    #[error(
        "there is a store in {dir} already, and an import makes a new one: give another state directory, or move it away first (mv {dir}/store {dir}/store.old; mv {dir}/store.json {dir}/store.json.old)"
    )]
    NotNew {
        /// The state directory.
        dir: PathBuf,
    },
    /// It is no export.
    #[error("this is no export of a scheduler's store: {why}")]
    NotAnExport {
        /// What it is instead.
        why: String,
    },
    /// A newer program wrote it.
    #[error(
        "this export was made by a newer version of this program (form {found}, and this one reads up to {known}); use that version"
    )]
    Newer {
        /// The form found.
        found: u32,
        /// The newest form this program reads.
        known: u32,
    },
    /// A line is wrong.
    #[error("line {line} of the export is wrong: {why}; nothing was imported")]
    Line {
        /// Its number, from 1.
        line: u64,
        /// What is wrong.
        why: String,
    },
    /// It ends too early.
    #[error(
        "the export is not whole: it ends after line {lines}, before its last line{}; nothing was imported: take another export",
        why.as_ref().map_or_else(String::new, |why| format!(" ({why})"))
    )]
    Cut {
        /// Whole lines before its end.
        lines: u64,
        /// What the reader said.
        why: Option<String>,
    },
    /// The store that is being made has failed.
    #[error("failed to make the store: {0}")]
    Store(#[from] StoreError),
}

/// Makes a store in the state directory `dir`, which must not hold one, from an export.
///
/// Ids of jobs go on well above those of the export, since later ones may have been handed out after it was made.
///
/// # Errors
/// Each says which line is wrong, or what else is; there is no store in `dir` afterwards.
pub fn import(from: impl Read, dir: &Path, options: SledOptions) -> Result<Imported, ImportError> {
    if SledStore::exists(dir) {
        return Err(ImportError::NotNew {
            dir: dir.to_owned(),
        });
    }
    let beside = Beside::import(dir)?;
    // Somebody may have made one before we had the lock.
    if SledStore::exists(dir) {
        return Err(ImportError::NotNew {
            dir: dir.to_owned(),
        });
    }
    let store = beside.open(options)?;
    let imported = import_into(from, &store)?;
    drop(store);
    // Opened again, it is verified.
    drop(beside.open(options)?);
    beside.settle()?;
    Ok(imported)
}

/// As [`import`], into a store that is there. After an error it holds a part of the export, so this is for stores that can
/// be thrown away.
///
/// # Errors
/// As [`import`].
#[doc(hidden)]
pub fn import_into(from: impl Read, store: &dyn Store) -> Result<Imported, ImportError> {
    let mut lines = Lines::new(from)?;
    let mut imported = Imported {
        next_job_id: lines.header()?,
        ..Imported::default()
    };
    let mut next_job_id = imported.next_job_id.get();
    let mut batch = Batch::default();
    while let Some(line) = lines.next()? {
        imported.rows += 1;
        let change = match line {
            Line::Job {
                record,
                description,
            } => {
                imported.jobs += 1;
                next_job_id = next_job_id.max(record.id.get().saturating_add(1));
                let description = description
                    .map(|text| BASE64.decode(text))
                    .transpose()
                    .map_err(|error| lines.wrong(format!("its description: {error}")))?;
                job(record, description)
            }
            other => change(other).ok_or_else(|| lines.wrong("it is out of place"))?,
        };
        batch.add(change, store)?;
    }
    imported.next_job_id = JobId::new(next_job_id.saturating_add(GAP));
    let next = imported.next_job_id.get();
    batch.add(Change::JobIdsReserved { next }, store)?;
    batch.write(store)?;
    Ok(imported)
}

/// The change that makes what a line tells of. `None`: the line is not about one thing that is kept.
pub(super) fn change(line: Line) -> Option<Change> {
    Some(match line {
        Line::Worker {
            pool,
            name,
            paused,
            pause,
        } => Change::WorkerKnown {
            pool,
            name,
            paused,
            pause,
        },
        Line::Hint {
            pool,
            hint,
            worker,
            day,
        } => Change::HintCached {
            pool,
            hint,
            worker,
            day,
        },
        Line::Rate { pool, client, rate } => Change::RateSet { pool, client, rate },
        Line::Debt {
            pool,
            client,
            next_fair_start,
        } => Change::DebtSet {
            pool,
            client,
            next_fair_start,
        },
        Line::Client {
            client,
            hash,
            created_day,
        } => Change::ClientAdded {
            hash,
            client,
            created_day,
        },
        Line::OclusterStoreExport(_) | Line::Job { .. } | Line::End(_) => return None,
    })
}

/// Changes that are written together.
#[derive(Default)]
pub(super) struct Batch {
    changes: Vec<Change>,
    bytes: usize,
}

impl Batch {
    pub(super) fn add(&mut self, change: Change, store: &dyn Store) -> Result<(), StoreError> {
        self.bytes += change.weight();
        self.changes.push(change);
        if self.changes.len() >= BATCH || self.bytes >= BATCH_BYTES {
            self.write(store)?;
        }
        Ok(())
    }

    pub(super) fn write(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        store.apply(&self.changes)?;
        self.changes.clear();
        self.bytes = 0;
        Ok(())
    }
}

/// Reads lines, and holds count and digest against what the last one says.
struct Lines<R: Read> {
    from: BufReader<zstd::stream::read::Decoder<'static, BufReader<R>>>,
    lines: u64,
    digest: Sha256,
    buffer: Vec<u8>,
}

impl<R: Read> Lines<R> {
    fn new(from: R) -> Result<Self, ImportError> {
        let from =
            zstd::stream::read::Decoder::new(from).map_err(|error| ImportError::NotAnExport {
                why: error.to_string(),
            })?;
        Ok(Self {
            from: BufReader::with_capacity(1 << 20, from),
            lines: 0,
            digest: Sha256::new(),
            buffer: Vec::new(),
        })
    }

    fn wrong(&self, why: impl Into<String>) -> ImportError {
        ImportError::Line {
            line: self.lines,
            why: why.into(),
        }
    }

    fn cut(&self, why: Option<&io::Error>) -> ImportError {
        ImportError::Cut {
            lines: self.lines,
            why: why.map(ToString::to_string),
        }
    }

    /// Reads the next line into the buffer, without its end.
    fn read(&mut self) -> Result<(), ImportError> {
        self.buffer.clear();
        let mut from = (&mut self.from).take(LONGEST);
        if let Err(error) = from.read_until(b'\n', &mut self.buffer) {
            return Err(match self.lines {
                0 => ImportError::NotAnExport {
                    why: error.to_string(),
                },
                _ => self.cut(Some(&error)),
            });
        }
        if self.buffer.pop_if(|last| *last == b'\n').is_none() {
            if self.buffer.len() as u64 == LONGEST {
                self.lines += 1;
                return Err(self.wrong("it is too long"));
            }
            return Err(self.cut(None));
        }
        self.lines += 1;
        Ok(())
    }

    fn take_note(&mut self) {
        self.digest.update(&self.buffer);
        self.digest.update(b"\n");
    }

    /// The first line: the next job's id.
    fn header(&mut self) -> Result<JobId, ImportError> {
        self.read()?;
        let any: AnyHeader =
            serde_json::from_slice(&self.buffer).map_err(|_| ImportError::NotAnExport {
                why: "its first line is another one".to_owned(),
            })?;
        let found = any.ocluster_store_export.version;
        if found > VERSION {
            return Err(ImportError::Newer {
                found,
                known: VERSION,
            });
        }
        self.take_note();
        match serde_json::from_slice(&self.buffer) {
            Ok(Line::OclusterStoreExport(header)) => Ok(JobId::new(header.next_job_id)),
            Ok(_) => Err(self.wrong("it is not the first line of an export")),
            Err(error) => Err(self.wrong(error.to_string())),
        }
    }

    /// The next line about one thing. `None`: all were read, and are whole.
    fn next(&mut self) -> Result<Option<Line>, ImportError> {
        self.read()?;
        let line: Line =
            serde_json::from_slice(&self.buffer).map_err(|error| self.wrong(error.to_string()))?;
        let Line::End(end) = line else {
            self.take_note();
            return Ok(Some(line));
        };
        let before = self.lines - 1;
        if end.lines != before {
            let expected = end.lines;
            return Err(self.wrong(format!(
                "it says that {expected} lines come before it, and there are {before}"
            )));
        }
        if end.sha256 != <[u8; 32]>::from(self.digest.clone().finalize()) {
            return Err(self.wrong("the lines before it are not those that were exported"));
        }
        let more = self.from.fill_buf().map(<[u8]>::len);
        match more {
            Ok(0) => Ok(None),
            Ok(_) => {
                self.lines += 1;
                Err(self.wrong("something follows the last line"))
            }
            Err(error) => Err(self.cut(Some(&error))),
        }
    }
}
