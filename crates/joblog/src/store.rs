//! A directory of logs: making, finding, resuming and listing them.
//!
//! Only logs that are being written or read are known in memory; every other one is found on disk by its id.

use std::collections::HashMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::content::Content;
use crate::disk::Disk;
use crate::live::{CHUNK, Log};
use crate::pack::Packs;
use crate::resumption::Resumption;
use crate::{End, LogConfig, LogInfo, LogReader, LogWriter, OpenError, ReadError, WriteError};

/// A directory of logs. Clones are the same store. One process at a time may have a directory open: the caller sees to
/// that (the scheduler's state directory has a lock).
///
/// Its asynchronous functions need a tokio runtime: they use its pool of blocking threads.
#[derive(Debug, Clone)]
pub struct LogStore {
    pub(crate) shared: Arc<Shared>,
    guard: Arc<Guard>,
}

/// How long the next write takes: the speed of a simulated disk.
pub type Pace = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What the store, its logs and the disk's thread share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    pub(crate) config: LogConfig,
    pub(crate) disk: Disk,
    /// Small logs on disk.
    pub(crate) packs: Packs,
    /// Nothing is done on other threads.
    threadless: bool,
    /// Bytes of all logs which may still be appended before the disk has to catch up.
    pub(crate) budget: Semaphore,
    /// Disk reads which may still be started.
    pub(crate) reads: Semaphore,
    /// Logs in memory. A `Log` must never be dropped while this is locked: its drop locks it.
    table: Mutex<HashMap<u64, Weak<Log>>>,
}

impl Shared {
    /// Does something that may wait for the disk on a thread where that matters to nobody, unless there is only one.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, tokio::task::JoinError> {
        if self.threadless {
            return Ok(work());
        }
        tokio::task::spawn_blocking(work).await
    }

    pub(crate) fn table(&self) -> MutexGuard<'_, HashMap<u64, Weak<Log>>> {
        // Nothing panics while it holds the lock.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn in_memory(&self, id: u64) -> Option<Arc<Log>> {
        let table = self.table();
        let log = table.get(&id).and_then(Weak::upgrade);
        drop(table);
        log
    }
}

/// Stops the disk's thread, once it has written everything, when the last store and the last writer are gone.
#[derive(Debug)]
pub(crate) struct Guard {
    shared: Arc<Shared>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.disk.close();
    }
}

impl LogStore {
    /// Opens a directory of logs, made with mode 0700 if it is not there (its parent must be), and starts the thread that writes.
    /// Costs the same however many logs there are. Touches the disk briefly, so call it before the runtime is busy.
    ///
    /// # Errors
    /// When the directory cannot be made, or the thread cannot be started.
    pub fn open(dir: &Path, config: LogConfig) -> Result<Self, OpenError> {
        let store = Self::in_dir(dir, config, false)?;
        let shared = Arc::clone(&store.shared);
        std::thread::Builder::new()
            .name("joblog".to_owned())
            .spawn(move || shared.disk.run(shared.config.linger))
            .map_err(OpenError::Thread)?;
        Ok(store)
    }

    /// As [`open`](Self::open), without any thread: a task of the current runtime writes, as slowly as `pace` says, and everything else
    /// is done at once, on the caller's thread. For simulations, where one seed must give one history. When the runtime is dropped,
    /// what was not written yet is lost, as in a crash.
    ///
    /// # Errors
    /// When the directory cannot be made.
    pub fn open_threadless(dir: &Path, config: LogConfig, pace: Pace) -> Result<Self, OpenError> {
        let store = Self::in_dir(dir, config, true)?;
        let shared = Arc::clone(&store.shared);
        // Ends when the store is closed, or with the runtime.
        tokio::spawn(async move { shared.disk.run_as_task(shared.config.linger, pace).await });
        Ok(store)
    }

    fn in_dir(dir: &Path, config: LogConfig, threadless: bool) -> Result<Self, OpenError> {
        let dir_error = |source| OpenError::Dir {
            dir: dir.to_owned(),
            source,
        };
        // What jobs print is for their clients, and for nobody else on this machine.
        match std::fs::DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(dir_error(error));
            }
            _ => {}
        }
        std::fs::read_dir(dir).map_err(dir_error)?;
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            budget: Semaphore::new(config.max_waiting.clamp(CHUNK, Semaphore::MAX_PERMITS)),
            reads: Semaphore::new(config.max_reads.clamp(1, Semaphore::MAX_PERMITS)),
            config,
            disk: Disk::new(),
            packs: Packs::new(dir.to_owned()),
            threadless,
            table: Mutex::default(),
        });
        let guard = Arc::new(Guard {
            shared: Arc::clone(&shared),
        });
        Ok(Self { shared, guard })
    }

    /// The limit of a log with one of its own, if that is less than everybody's.
    fn limit(&self, own: Option<u64>) -> u64 {
        match (self.shared.config.max_log_bytes, own) {
            (0, own) => own.unwrap_or(0),
            (all, own) => own.map_or(all, |own| own.min(all)),
        }
    }

    /// Starts a new log. It reaches the disk with its first bytes or with its end, whichever comes first.
    ///
    /// # Errors
    /// [`WriteError::Exists`] when a log with this id is being written or read. A log with this id on disk shows as
    /// the same error at the first append after it was noticed.
    pub fn create(&self, id: u64) -> Result<LogWriter, WriteError> {
        self.create_within(id, None)
    }

    /// As [`create`](Self::create), for a log that may grow to `limit` bytes and not as long as others, if that is less.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_within(&self, id: u64, limit: Option<u64>) -> Result<LogWriter, WriteError> {
        let info = LogInfo {
            id,
            length: 0,
            dropped: 0,
            end: None,
            live: true,
            digest: None,
        };
        let log = Log::for_writing(Arc::clone(&self.shared), &info, self.limit(limit));
        let mut table = self.shared.table();
        let taken = table.get(&id).is_some_and(|log| log.strong_count() > 0);
        if !taken {
            table.insert(id, Arc::downgrade(&log));
        }
        drop(table);
        if taken {
            return Err(WriteError::Exists { id });
        }
        Ok(LogWriter::new(log, Arc::clone(&self.guard)))
    }

    /// Goes on with an unfinished log at byte `at`; what was stored past it is cut off.
    ///
    /// Reads what is stored once, on a pool thread, because the digest of the whole log will be asked for.
    ///
    /// # Errors
    /// [`WriteError::NotFound`]; [`WriteError::Resume`] when the log is shorter, has ended or is being written;
    /// [`WriteError::Io`].
    pub async fn resume(&self, id: u64, at: u64) -> Result<LogWriter, WriteError> {
        self.resume_within(id, at, None).await
    }

    /// As [`resume`](Self::resume), for a log of [`create_within`](Self::create_within).
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub async fn resume_within(
        &self,
        id: u64,
        at: u64,
        limit: Option<u64>,
    ) -> Result<LogWriter, WriteError> {
        self.go_on(id, at, limit, false).await
    }

    /// As [`resume_within`](Self::resume_within), for a log that may have ended as well: whoever ended it was cut off before
    /// that was of any consequence. It has no end any more.
    ///
    /// # Errors
    /// As [`resume`](Self::resume).
    pub async fn reopen_within(
        &self,
        id: u64,
        at: u64,
        limit: Option<u64>,
    ) -> Result<LogWriter, WriteError> {
        self.go_on(id, at, limit, true).await
    }

    async fn go_on(
        &self,
        id: u64,
        at: u64,
        limit: Option<u64>,
        though_ended: bool,
    ) -> Result<LogWriter, WriteError> {
        let resumption = Resumption {
            id,
            at,
            limit: self.limit(limit),
            though_ended,
        };
        if self
            .shared
            .in_memory(id)
            .is_some_and(|log| log.state().live)
        {
            return Err(resumption.refuse("it is being written"));
        }
        let shared = Arc::clone(&self.shared);
        let prepared = self.shared.blocking(move || resumption.prepare(&shared));
        let resumed = prepared.await.map_err(|error| WriteError::Io {
            id,
            why: error.to_string(),
        })??;
        let log = Log::for_resuming(Arc::clone(&self.shared), resumption.limit, resumed);
        // Those who read what was there before keep what they have.
        self.shared.table().insert(id, Arc::downgrade(&log));
        Ok(LogWriter::new(log, Arc::clone(&self.guard)))
    }

    /// A reader of a log that is in memory, without a look at the disk.
    #[must_use]
    pub fn live_reader(&self, id: u64) -> Option<LogReader> {
        self.shared.in_memory(id).map(LogReader::new)
    }

    /// A reader of a log, in memory or on disk. A log which nobody finished before a crash can be read, and breaks at
    /// its end.
    ///
    /// # Errors
    /// [`ReadError::NotFound`]; [`ReadError::Io`].
    pub async fn reader(&self, id: u64) -> Result<LogReader, ReadError> {
        if let Some(reader) = self.live_reader(id) {
            return Ok(reader);
        }
        let (content, info) = self.look(id).await?;
        let opened = Log::for_reading(Arc::clone(&self.shared), &info, content);
        let mut table = self.shared.table();
        // Somebody may have opened it meanwhile; one log in memory serves all.
        let log = match table.get(&id).and_then(Weak::upgrade) {
            Some(log) => log,
            None => {
                table.insert(id, Arc::downgrade(&opened));
                Arc::clone(&opened)
            }
        };
        drop(table);
        Ok(LogReader::new(log))
    }

    /// What is known of a log.
    ///
    /// # Errors
    /// As [`reader`](Self::reader).
    pub async fn info(&self, id: u64) -> Result<LogInfo, ReadError> {
        match self.shared.in_memory(id) {
            Some(log) if log.state().live => Ok(log.info()),
            _ => Ok(self.look(id).await?.1),
        }
    }

    async fn look(&self, id: u64) -> Result<(Content, LogInfo), ReadError> {
        let shared = Arc::clone(&self.shared);
        self.shared
            .blocking(move || shared.find(id, false))
            .await
            .map_err(|error| ReadError::Io {
                id,
                why: error.to_string(),
            })?
    }

    /// Every log on disk, in the order of ids. Reads one header each: some ten microseconds of a pool thread for one with a file of its
    /// own. Files that are no logs are left out.
    pub async fn list(&self) -> Vec<LogInfo> {
        let shared = Arc::clone(&self.shared);
        let listing = self.shared.blocking(move || shared.list());
        // The task fails only when the runtime is shutting down, and then nobody needs the answer.
        listing.await.unwrap_or_default()
    }

    /// After a restart: ends every log that nobody finished and nobody writes, for `reason`. Gives what it ended.
    pub async fn break_unfinished(&self, reason: &str) -> Vec<LogInfo> {
        let mut broken = Vec::new();
        for info in self.list().await {
            if info.end.is_some() || info.live {
                continue;
            }
            let Ok(writer) = self.resume(info.id, info.length).await else {
                continue;
            };
            let end = End::Broken {
                reason: reason.to_owned(),
            };
            match writer.finish(end).await {
                Ok(info) => broken.push(info),
                Err(error) => tracing::warn!(log = info.id, %error, "an unfinished log stays so"),
            }
        }
        broken
    }

    /// Writes everything that waits and stops the thread. Writers that remain get [`WriteError::Closed`]; readers can
    /// still read.
    pub async fn close(self) {
        let mut stopped = self.shared.disk.stopped.subscribe();
        self.shared.disk.close();
        // The sender lives in `shared`, which we hold.
        let _stopped = stopped.wait_for(|stopped| *stopped).await;
        self.shared.packs.close();
    }
}
