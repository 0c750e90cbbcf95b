//! Why a job stands where it stands, in a scheduler's words.

use std::fmt;

use ocluster_api::extensions_capnp::explanation;

use super::{JobInfo, printable};

/// What a scheduler answers to "why?". `Display` prints it for people: the summary, and the details below it, each with a dash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// One sentence.
    pub summary: String,
    /// Further ones, the most important first.
    pub details: Vec<String>,
    /// The job.
    pub job: JobInfo,
}

impl Explanation {
    /// From the wire.
    ///
    /// # Errors
    /// When the message is damaged.
    pub fn read(explanation: explanation::Reader<'_>) -> Result<Self, capnp::Error> {
        let details = explanation.get_details()?.iter();
        Ok(Self {
            summary: super::info::text(explanation.get_summary()?),
            details: details
                .map(|detail| Ok(super::info::text(detail?)))
                .collect::<Result<_, capnp::Error>>()?,
            job: JobInfo::read(explanation.get_info()?)?,
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", printable(&self.summary))?;
        for detail in &self.details {
            writeln!(f, "- {}", printable(detail))?;
        }
        Ok(())
    }
}
