//! Durable jobs: accepted on disk, they end only by ending, whoever goes away and comes back meanwhile.
//!
//! `job` is one such job and where it stands; `submit` accepts them; `attempt` is one try on one worker, and `attend` the task that
//! sees it through, over lost connections too; `source` is what it hears from the worker, `verdict` what becomes of the job then;
//! `table` knows all of them; `readopt` meets workers that come back; `restore` is the scheduler's own coming back; `deadlines` ends jobs that wait too long.

mod attempt;
mod attend;
mod deadlines;
mod job;
mod readopt;
mod restore;
mod source;
mod start;
mod submit;
mod table;
mod verdict;

pub(crate) use attempt::Displaced;
pub(crate) use deadlines::keep_time;
pub(crate) use job::DurableJob;
pub(crate) use readopt::{Declared, readopt};
pub(crate) use restore::restore;
pub(crate) use source::WorkerJob;
pub(crate) use start::give;
pub(crate) use submit::submit;
pub(crate) use table::Table;
