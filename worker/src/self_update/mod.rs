//! `Worker.selfUpdate`: the worker makes sure that a newer version of itself can run, finishes its jobs, and ends, so that whoever
//! started it starts the newer one.
//!
//! `plan` decides how, from the flags and from where the worker runs; `program` is a program file under a supervisor, `service` a
//! container of a Docker swarm; `perform` is the order of things. A preparation that fails leaves the worker as it was. Nothing here
//! knows any image or service of anybody's.

mod error;
mod perform;
mod plan;
mod program;
mod service;

pub use error::UpdateError;
pub(crate) use perform::{Update, perform};
pub use plan::SelfUpdate;
pub use program::ProgramFile;
pub use service::ServiceImage;
