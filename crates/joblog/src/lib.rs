//! Append-only job logs on disk, with live followers.
//!
//! A [`LogStore`] is a directory of logs. Each log has one [`LogWriter`] while it grows and any number of
//! [`LogReader`]s, which may come and go at any time, read at their own pace and cost the others nothing. The
//! scheduler keeps its copy of every job's log here, and the worker spools here.
//!
//! Layout of the crate: `store` opens, finds and lists logs; `writer` and `reader` are the two ends of one log; `live`
//! is what they share while the log is in memory; `disk` is the one thread that writes; `file` is the form on disk;
//! `retention` drops old logs.
//!
//! It must never do I/O on its caller's thread, never keep a log in memory once it is written, and never let one log's
//! trouble (a full disk, a flood, a slow reader) reach another log.

//!
//! ```ignore
//! LogStore::open(dir: &Path, config: LogConfig) -> Result<LogStore, OpenError>       // Clone + Send + Sync; brief I/O
//! store.create(id: u64) -> Result<LogWriter, WriteError>                             // no I/O; Exists if it is live
//! store.resume(id, at: u64).await -> Result<LogWriter, WriteError>                   // cuts to `at`, goes on there
//! store.live_reader(id) -> Option<LogReader>                                         // no I/O
//! store.reader(id).await -> Result<LogReader, ReadError>                             // live or on disk
//! store.info(id).await -> Result<LogInfo, ReadError>
//! store.list().await -> Vec<LogInfo>;  store.break_unfinished(reason).await -> Vec<LogInfo>
//! store.prune(now: SystemTime, max_age: Option<Duration>, max_total_bytes: Option<u64>).await -> Pruned
//! store.remove(id).await; store.close().await                                        // writes what waits
//! writer.append(bytes: Bytes).await -> Result<Appended, WriteError>                  // Appended::{Stored, Truncated}
//! writer.try_append(bytes: &Bytes) -> Result<Option<Appended>, WriteError>           // None: would wait
//! writer.finish(End) -> impl Future<Output = Result<LogInfo, WriteError>>            // ended at once; future: recorded
//! writer.reader() -> LogReader; writer.length() -> u64; writer.id() -> u64           // drop without finish: stays unfinished
//! reader.read(start: i64, max: usize).await -> Result<Chunk { data: Bytes, next: u64 }, ReadError>   // &self, Clone
//! reader.length() -> u64; reader.end() -> Option<End>; reader.ended().await -> End
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod config;
mod end;
mod error;

pub use config::LogConfig;
pub use end::{End, LogInfo};
pub use error::{OpenError, ReadError, WriteError};
