//! A part of a list of jobs, as a scheduler answers.

use capnp::struct_list;
use ocluster_api::extensions_capnp::job_info;

use super::JobInfo;

/// Jobs, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPage {
    /// The jobs.
    pub jobs: Vec<JobInfo>,
    /// The id before which the list goes on, if it does.
    pub more: Option<String>,
}

impl JobPage {
    /// From the wire: the two fields of the answers of `SubmissionEndpoint.list` and `AdminEndpoint.list`.
    ///
    /// # Errors
    /// When the message is damaged.
    pub fn read(
        jobs: struct_list::Reader<'_, job_info::Owned>,
        more: capnp::text::Reader<'_>,
    ) -> Result<Self, capnp::Error> {
        let more = super::info::text(more);
        Ok(Self {
            jobs: jobs.iter().map(JobInfo::read).collect::<Result<_, _>>()?,
            more: Some(more).filter(|more| !more.is_empty()),
        })
    }
}
