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

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod config;
mod disk;
mod end;
mod error;
mod file;
mod live;
mod reader;
mod retention;
mod store;
mod writer;

pub use config::LogConfig;
pub use end::{End, LogInfo};
pub use error::{OpenError, ReadError, WriteError};
pub use reader::{Chunk, LogReader};
pub use retention::Pruned;
pub use store::{LogStore, Pace};
pub use writer::{Appended, LogWriter};
