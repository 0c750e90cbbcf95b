//! What can be done with jobs by their ids: submitting durable ones, finding, listing, watching, stopping and explaining any.

mod desk;
mod types;

pub(crate) use types::{
    Accepted, Asker, Explained, FindError, JobFilter, Shown, StopError, Submission, Submitted,
};
