//! Records of jobs as programs show them: read from the wire, and printed for people or as JSON, alike for clients and
//! administrators.

mod explanation;
mod info;
mod json;
mod limits;
mod list;
mod page;
mod state;
mod status;
mod text;

pub use explanation::Explanation;
pub use info::{Attempt, JobCause, JobInfo};
pub use json::{JsonExplanation, JsonJob, JsonJobList};
pub use limits::JobLimits;
pub use list::job_table;
pub use page::JobPage;
pub use state::JobState;
pub use status::status_text;
pub use text::printable;

#[cfg(test)]
mod tests;
