//! The commands about jobs that were submitted before. None of them but `cancel` does anything to a job.

mod cancel;
mod list;
mod log;
mod show;
mod tail_start;
mod visit;
mod wait;

pub(crate) use cancel::cancel;
pub(crate) use list::list;
pub(crate) use log::log;
pub(crate) use show::{explain, status};
pub(crate) use wait::wait;
