//! Writing everything a store keeps as lines of text, from a store at rest or under a running scheduler.
//!
//! A running scheduler's store is asked in short questions, so that nobody waits for the export. Each job is then written
//! as it is when its turn comes, exactly once; those submitted after the beginning are left out. Descriptions stay sealed.

use std::io::{self, Write};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha2::{Digest as _, Sha256};

use crate::{
    Change, Client, Debt, Hint, JobId, JobMatch, JobRecord, KnownWorker, Rate, SledOptions,
    SledStore, Snapshot, Store, StoreError, StoreHandle,
};

use super::line::{End, Header, Line, VERSION};

/// Records in one question.
const PAGE: usize = 500;
/// Bytes of descriptions in one question; one description may go past it.
const PAGE_BYTES: usize = 4 << 20;
/// Well below what keeps a scheduler's processor busy, and a third of the size.
const LEVEL: i32 = 3;

/// What is exported.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A store that nobody else uses.
    Store(&'a SledStore),
    /// A running scheduler's store.
    Live(&'a StoreHandle),
}

/// What an export holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Exported {
    /// Lines, without the first and the last.
    pub rows: u64,
    /// Jobs among them.
    pub jobs: u64,
    /// Jobs whose description is damaged, and which are exported without one; the first hundred.
    pub damaged: Vec<JobId>,
}

/// Jobs with their descriptions, newest first.
#[derive(Default)]
pub(super) struct Page {
    pub(super) jobs: Vec<(JobRecord, Option<Vec<u8>>)>,
    pub(super) next: Option<JobId>,
    pub(super) damaged: Vec<JobId>,
}

/// The next jobs below `before`.
pub(super) fn page(store: &dyn Store, before: Option<JobId>) -> Result<Page, StoreError> {
    let found = store.jobs_matching(&JobMatch::default(), before, PAGE, PAGE)?;
    let mut page = Page {
        next: found.next,
        ..Page::default()
    };
    let mut bytes = 0;
    let mut records = found.records.into_iter().peekable();
    while let Some(record) = records.next() {
        let id = record.id;
        let description = if record.durable && !record.state.is_ended() {
            match store.description(id) {
                Err(StoreError::Damaged { .. }) => {
                    page.damaged.push(id);
                    None
                }
                found => found?,
            }
        } else {
            None
        };
        bytes += description.as_ref().map_or(0, Vec::len);
        page.jobs.push((record, description));
        if bytes >= PAGE_BYTES && records.peek().is_some() {
            page.next = Some(id);
            break;
        }
    }
    Ok(page)
}

impl Source<'_> {
    fn ask<T, F>(self, question: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    {
        match self {
            Self::Store(store) => question(store),
            Self::Live(handle) => handle.peek_blocking(question)?,
        }
    }
}

/// Writes an export of what `source` keeps to `to`, and flushes it. An export that ends early, for whatever reason, has
/// no last line, and is not taken for a whole one.
///
/// # Errors
/// What goes wrong with the store, and [`StoreError::Io`] when `to` takes no more.
pub fn export(source: Source<'_>, to: impl Write) -> Result<Exported, StoreError> {
    let mut lines = Lines::new(to).map_err(|error| writing(&error))?;
    let mut exported = Exported::default();
    let first = source.ask(|store| store.load_without_jobs(0))?;
    lines
        .put(&Line::OclusterStoreExport(Header {
            version: VERSION,
            next_job_id: first.next_job_id.get(),
        }))
        .map_err(|error| writing(&error))?;
    for line in lines_of(first) {
        lines.put(&line).map_err(|error| writing(&error))?;
        exported.rows += 1;
    }
    let mut before = None;
    loop {
        let page = source.ask(move |store| page(store, before))?;
        for (record, description) in page.jobs {
            let line = Line::Job {
                record: Box::new(record),
                description: description.map(|sealed| BASE64.encode(sealed)),
            };
            lines.put(&line).map_err(|error| writing(&error))?;
            exported.rows += 1;
            exported.jobs += 1;
        }
        let room = 100usize.saturating_sub(exported.damaged.len());
        exported.damaged.extend(page.damaged.iter().take(room));
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    lines.finish().map_err(|error| writing(&error))?;
    Ok(exported)
}

/// As [`export`], of the store in the state directory `dir`, which no scheduler may use meanwhile.
///
/// # Errors
/// As [`export`] and [`SledStore::open`].
pub fn export_dir(
    dir: &Path,
    options: SledOptions,
    to: impl Write,
) -> Result<Exported, StoreError> {
    if !SledStore::exists(dir) {
        return Err(StoreError::none(dir));
    }
    export(Source::Store(&SledStore::open(dir, options)?), to)
}

fn writing(error: &io::Error) -> StoreError {
    StoreError::io("write the export", error)
}

/// Everything but jobs, as lines.
fn lines_of(found: Snapshot) -> impl Iterator<Item = Line> {
    let workers = found.workers.into_iter().map(
        |KnownWorker {
             pool,
             name,
             paused,
             pause,
         }| Line::Worker {
            pool,
            name,
            paused,
            pause,
        },
    );
    let hints = found.hints.into_iter().map(
        |Hint {
             pool,
             hint,
             worker,
             day,
         }| Line::Hint {
            pool,
            hint,
            worker,
            day,
        },
    );
    let rates = found
        .rates
        .into_iter()
        .map(|Rate { pool, client, rate }| Line::Rate { pool, client, rate });
    let debts = found.debts.into_iter().map(
        |Debt {
             pool,
             client,
             next_fair_start,
         }| Line::Debt {
            pool,
            client,
            next_fair_start,
        },
    );
    let clients = found.clients.into_iter().map(
        |Client {
             client,
             hash,
             created_day,
         }| Line::Client {
            client,
            hash,
            created_day,
        },
    );
    workers
        .chain(hints)
        .chain(rates)
        .chain(debts)
        .chain(clients)
}

/// Everything but jobs, as changes.
pub(super) fn changes_of(found: Snapshot) -> impl Iterator<Item = Change> {
    lines_of(found).filter_map(super::import::change)
}

/// Writes lines, compressed, and carries count and digest along.
struct Lines<W: Write> {
    to: zstd::stream::write::Encoder<'static, W>,
    lines: u64,
    digest: Sha256,
}

impl<W: Write> Lines<W> {
    fn new(to: W) -> io::Result<Self> {
        let mut to = zstd::stream::write::Encoder::new(to, LEVEL)?;
        to.include_checksum(true)?;
        Ok(Self {
            to,
            lines: 0,
            digest: Sha256::new(),
        })
    }

    fn put(&mut self, line: &Line) -> io::Result<()> {
        let mut bytes = serde_json::to_vec(line)?;
        bytes.push(b'\n');
        self.digest.update(&bytes);
        self.lines += 1;
        self.to.write_all(&bytes)
    }

    fn finish(mut self) -> io::Result<()> {
        let end = Line::End(End {
            lines: self.lines,
            sha256: self.digest.clone().finalize().into(),
        });
        self.put(&end)?;
        self.to.finish()?.flush()
    }
}
