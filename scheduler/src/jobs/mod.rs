//! What can be done with jobs by their ids: submitting durable ones, finding, listing, watching, stopping and explaining any.

mod changes;
mod desk;
mod types;
mod words;

pub(crate) use changes::Changes;
pub(crate) use desk::log_error;
pub(crate) use types::{
    Accepted, Asker, Explained, FindError, JobFilter, Shown, StopError, Submission, Submitted,
};
