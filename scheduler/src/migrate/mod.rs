//! Moving from OCluster's scheduler to this one, and back: what it remembers in `scheduler.db`, an SQLite database, against what we
//! remember in our store.
//!
//! Layout: `import` and `export` are the two chores; `schema` is what OCluster's database looks like, `source` opens one without
//! touching it, `read` and `write` turn its rows into our plain types and back, `report` says what was done.
//!
//! A chore happens whole or not at all, while neither scheduler runs; the file at the other end is never changed.

mod args;
mod error;
mod export;
mod import;
mod read;
mod report;
mod run;
mod schema;
mod source;
mod write;

pub use args::{ExportArgs, ImportArgs};
pub use error::MigrateError;
pub use export::export;
pub use import::import;
pub use report::Report;
pub use run::finish;

pub(crate) use import::refuse_to_forget;
