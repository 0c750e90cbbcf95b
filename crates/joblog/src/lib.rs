//! Append-only job logs on disk, with live followers.
//!
//! A [`LogStore`] is a directory of logs. Each log has one [`LogWriter`] while it grows and any number of
//! [`LogReader`]s, which may come and go at any time, read at their own pace and cost the others nothing. The
//! scheduler keeps its copy of every job's log here, and the worker spools here.
//!
//! Layout of the crate: `store` opens, finds and lists logs; `writer` and `reader` are the two ends of one log; `live`
//! is what they share while the log is in memory; `disk` is the one thread that writes, a `turn` what it writes. On disk a log has one of two forms: `file` is
//! that of one with a file of its own, `entry` that of a small one in the `pack` of its range; `layout` says where they lie, `find`
//! finds them, `content` reads both, `resumption` goes on with them, `retention` drops old ones.
//!
//! It must never do I/O on its caller's thread, never keep a log in memory once it is written, and never let one log's
//! trouble (a full disk, a flood, a slow reader) reach another log.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod config;
mod content;
mod disk;
mod end;
mod entry;
mod error;
mod file;
mod find;
mod layout;
mod live;
mod pack;
mod reader;
mod resumption;
mod retention;
mod store;
mod turn;
mod writer;

pub use config::LogConfig;
pub use end::{End, LogInfo};
pub use error::{OpenError, ReadError, WriteError};
pub use reader::{Chunk, LogReader};
pub use retention::Pruned;
pub use store::{LogStore, Pace};
pub use writer::{Appended, LogWriter};
