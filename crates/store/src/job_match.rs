//! Which records are wanted, and a page of those found.
//!
//! A search is made of short questions, each of which looks at a bounded number of records, because nothing is written
//! while a question is answered.

use crate::{JobId, JobRecord, JobState};

/// Which records are wanted. The default wants all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobMatch {
    /// Only this client's.
    pub client: Option<String>,
    /// Only this pool's.
    pub pool: Option<String>,
    /// Only those in one of these states; empty for all.
    pub states: Vec<JobState>,
    /// Only ids from the first to the second, both included.
    pub ids: Option<(JobId, JobId)>,
}

/// Some records, newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct JobPage {
    /// Those that matched. May be none although there are more to come.
    pub records: Vec<JobRecord>,
    /// The id to go on before. `None`: every record was looked at.
    pub next: Option<JobId>,
}

impl JobMatch {
    /// Whether a record is wanted.
    #[must_use]
    pub fn matches(&self, record: &JobRecord) -> bool {
        let same =
            |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|wanted| wanted == is);
        self.ids
            .is_none_or(|(first, last)| (first..=last).contains(&record.id))
            && (self.states.is_empty() || self.states.contains(&record.state))
            && same(&self.client, &record.client)
            && same(&self.pool, &record.pool)
    }

    /// Whether records in such a state can be wanted: of jobs that are over, or of those that are not.
    pub(crate) fn wants(&self, ended: bool) -> bool {
        self.states.is_empty() || self.states.iter().any(|state| state.is_ended() == ended)
    }

    /// The ids to look at, both included: the wanted ones below `before`. `None`: there are none.
    pub(crate) fn range(&self, before: Option<JobId>) -> Option<(JobId, JobId)> {
        let (first, last) = self.ids.unwrap_or((JobId::new(0), JobId::new(u64::MAX)));
        let last = match before {
            Some(before) => last.min(JobId::new(before.get().checked_sub(1)?)),
            None => last,
        };
        (first <= last).then_some((first, last))
    }

    /// Makes a page of records that come newest first. `limit` and `scan` are at least 1.
    pub(crate) fn page<E>(
        &self,
        records: impl Iterator<Item = Result<JobRecord, E>>,
        limit: usize,
        scan: usize,
    ) -> Result<JobPage, E> {
        let mut page = JobPage::default();
        let mut records = records.peekable();
        let mut scanned = 0;
        while let Some(record) = records.next() {
            let record = record?;
            let id = record.id;
            if self.matches(&record) {
                page.records.push(record);
            }
            scanned += 1;
            if page.records.len() >= limit.max(1) || scanned >= scan.max(1) {
                page.next = records.peek().map(|_| id);
                break;
            }
        }
        Ok(page)
    }
}
