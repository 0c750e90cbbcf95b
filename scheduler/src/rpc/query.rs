//! Questions about many jobs: what is asked for, and how much of it fits into one answer.

use ocluster_api::extensions_capnp::job_query;
use ocluster_store::{JobId, JobState};
use ocluster_vat::error as rpc_error;

use super::job_info;
use crate::jobs::{JobFilter, Shown};

/// How many bytes of texts one answer holds before the rest is left for the next one.
const MAX_ANSWER: usize = 4 * 1024 * 1024;

/// The longest text that can be an id, or the beginning of one, in bytes.
const MAX_ID: usize = 64;

/// All states, to be found by their names.
const STATES: [JobState; 7] = [
    JobState::Queued,
    JobState::Running,
    JobState::Passed,
    JobState::Failed,
    JobState::Cancelled,
    JobState::TimedOut,
    JobState::Lost,
];

/// What is asked for.
///
/// # Errors
/// What of the question makes no sense.
pub(super) fn read(query: job_query::Reader<'_>) -> capnp::Result<JobFilter> {
    let before = match id_text(query.get_before()?)? {
        "" => None,
        text => Some(text.parse::<JobId>().map_err(|error| {
            rpc_error::failed(format!("Cannot list the jobs before that one: {error}"))
        })?),
    };
    let mut states = Vec::new();
    for name in query.get_states()? {
        let name = name?.to_str()?;
        let state = STATES.into_iter().find(|state| state.name() == name);
        let state = state.ok_or_else(|| unknown_state(name))?;
        if !states.contains(&state) {
            states.push(state);
        }
    }
    Ok(JobFilter {
        before,
        limit: usize::try_from(query.get_limit()).unwrap_or(usize::MAX),
        states,
        pool: given(query.get_pool()?)?,
        client: given(query.get_client()?)?,
    })
}

/// A text that is to be an id, or the beginning of one.
///
/// # Errors
/// If it is longer than any id, or no text.
pub(super) fn id_text(text: capnp::text::Reader<'_>) -> capnp::Result<&str> {
    if text.len() > MAX_ID {
        return Err(rpc_error::failed(format!(
            "A text of {} bytes is not a job id; a job id looks like j31n03",
            text.len()
        )));
    }
    Ok(text.to_str()?)
}

fn given(text: capnp::text::Reader<'_>) -> capnp::Result<Option<String>> {
    let text = text.to_str()?;
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn unknown_state(name: &str) -> capnp::Error {
    let shown: String = name.chars().take(MAX_ID).collect();
    let names = STATES.map(JobState::name).join(", ");
    rpc_error::failed(format!(
        "{shown:?} is not a state of a job; the states are {names}"
    ))
}

/// Leaves out those jobs for which there is no room in one answer; the first one always stays. Says whether any were left out.
pub(super) fn cut(jobs: &mut Vec<Shown>) -> bool {
    let mut bytes: usize = 0;
    let fitting = jobs.iter().take_while(|shown| {
        let before = bytes;
        bytes = bytes.saturating_add(job_info::text_bytes(&shown.record));
        before == 0 || bytes <= MAX_ANSWER
    });
    let fitting = fitting.count();
    let is_cut = fitting < jobs.len();
    jobs.truncate(fitting);
    is_cut
}

/// One page of a list: the jobs that fit into an answer, and where the next page begins, if there is one.
pub(super) fn page(mut jobs: Vec<Shown>, more: Option<JobId>) -> (Vec<Shown>, Option<JobId>) {
    let more = if cut(&mut jobs) {
        jobs.last().map(|last| last.record.id)
    } else {
        more
    };
    (jobs, more)
}

#[cfg(test)]
mod tests {
    use capnp::message::Builder;
    use ocluster_store::{JobKind, JobRecord};

    use super::*;

    fn read_back(fill: impl FnOnce(job_query::Builder<'_>)) -> Result<JobFilter, String> {
        let mut message = Builder::new_default();
        fill(message.init_root());
        let query = message.get_root_as_reader().unwrap();
        read(query).map_err(|error| error.extra)
    }

    fn job(number: u64, output: usize) -> Shown {
        let id = JobId::new(number);
        let mut record = JobRecord::queued(id, "pool", "client", JobKind::Docker, 1);
        record.output = "o".repeat(output);
        Shown {
            record,
            waits_for_worker: false,
        }
    }

    #[test]
    fn a_question_without_conditions_asks_for_all() {
        let filter = read_back(|_| {}).unwrap();
        assert_eq!(filter.before, None);
        assert_eq!(filter.limit, 0);
        assert!(filter.states.is_empty());
        assert_eq!((filter.pool, filter.client), (None, None));
    }

    #[test]
    fn conditions_are_read_and_states_go_by_their_names() {
        let id = JobId::new(4711);
        let filter = read_back(|mut query| {
            query.set_before(id.to_string());
            query.set_limit(7);
            query.set_pool("linux");
            query.set_client("alice");
            let mut states = query.init_states(3);
            states.set(0, "timed-out");
            states.set(1, "lost");
            states.set(2, "lost");
        });
        let filter = filter.unwrap();
        assert_eq!(filter.before, Some(id));
        assert_eq!(filter.limit, 7);
        assert_eq!(filter.states, [JobState::TimedOut, JobState::Lost]);
        assert_eq!(filter.pool.as_deref(), Some("linux"));
        assert_eq!(filter.client.as_deref(), Some("alice"));
    }

    #[test]
    fn every_state_can_be_asked_for() {
        for state in STATES {
            let filter = read_back(|query| query.init_states(1).set(0, state.name()));
            assert_eq!(filter.unwrap().states, [state]);
        }
    }

    #[test]
    fn a_question_that_makes_no_sense_is_refused_with_what_would() {
        let state = read_back(|query| query.init_states(1).set(0, "done")).unwrap_err();
        assert_eq!(
            state,
            "\"done\" is not a state of a job; the states are queued, running, passed, failed, cancelled, timed-out, lost"
        );
        let before = read_back(|mut query| query.set_before("nonsense")).unwrap_err();
        assert!(
            before.starts_with("Cannot list the jobs before that one: "),
            "{before}"
        );
        let long = read_back(|mut query| query.set_before("j".repeat(65))).unwrap_err();
        assert_eq!(
            long,
            "A text of 65 bytes is not a job id; a job id looks like j31n03"
        );
    }

    #[test]
    fn a_page_holds_what_fits_and_the_next_one_begins_behind_it() {
        let large = 60 * 1024;
        let jobs: Vec<Shown> = (1..=100).rev().map(|number| job(number, large)).collect();
        let (page, more) = page(jobs, None);
        assert!((60..80).contains(&page.len()), "{}", page.len());
        let last = page.last().map(|shown| shown.record.id);
        assert_eq!(more, last);
    }

    #[test]
    fn a_page_that_fits_is_left_as_it_is() {
        let next = Some(JobId::new(1));
        let (all, more) = page(vec![job(3, 0), job(2, 10)], next);
        assert_eq!((all.len(), more), (2, next));
        let (none, more) = page(Vec::new(), None);
        assert_eq!((none.len(), more), (0, None));
    }

    #[test]
    fn a_job_that_alone_is_too_large_is_told_of_all_the_same() {
        let mut jobs = vec![job(2, MAX_ANSWER + 1), job(1, 0)];
        assert!(cut(&mut jobs));
        assert_eq!(jobs.len(), 1);
    }
}
