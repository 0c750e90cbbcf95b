//! Accepting durable jobs: checked, queued, and acknowledged when they are on disk.
//!
//! A key that a client chose makes a submission that is repeated the same job. Two submissions under one key are never looked at at
//! the same time.

use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use ocluster_api::cluster_capnp::job_descr;
use ocluster_scheduling::{ClientId, Event};
use ocluster_store::{Cause, Change, JobId, JobRecord, TimeLimits};
use sha2::{Digest as _, Sha256};

use super::job::{Afresh, DurableJob, Kept};
use super::verdict::NOT_ACCEPTED;
use crate::config::{LimitRange, PoolLimits};
use crate::job::{check_length, kind_of};
use crate::jobs::{Accepted, Submission, Submitted};
use crate::state::{Entry, Scheduler, SubmitError};

/// The longest key, in bytes.
const MAX_KEY: usize = 256;

/// Accepts jobs of a client, each for itself, and returns when all that were accepted are on disk.
pub(crate) async fn submit(
    scheduler: &Rc<Scheduler>,
    client: &ClientId,
    submissions: Vec<Submission>,
) -> Vec<Submitted> {
    let keys: Vec<String> = submissions
        .iter()
        .filter_map(|one| one.key.clone())
        .collect();
    // Nobody else has one of these keys on its way to the disk while the store is asked for them.
    let _held = scheduler.table().hold_keys(client, keys).await;
    // All of them before the first job is accepted: from then on nothing is waited for until everything is on its way to the disk, so
    // that what becomes of a job is written behind its being accepted.
    let mut before = Vec::with_capacity(submissions.len());
    for submission in &submissions {
        before.push(match &submission.key {
            Some(key) => known(scheduler, client, key).await,
            None => Ok(None),
        });
    }
    let mut changes = Vec::new();
    let mut answers = Vec::with_capacity(submissions.len());
    let mut under_key: HashMap<String, (JobId, [u8; 32])> = HashMap::new();
    for (submission, before) in submissions.into_iter().zip(before) {
        let digest = digest_of(&submission);
        let key = submission.key.clone();
        let among_these = key.as_ref().and_then(|key| under_key.get(key).copied());
        let before = match among_these {
            Some(found) => Ok(Some(found)),
            None => before,
        };
        let answer = match before {
            Err(error) => Err(error),
            Ok(Some((id, same))) if same == digest => Ok(Accepted { id, known: true }),
            Ok(Some((id, _))) => Err(SubmitError::KeyInUse { id }),
            Ok(None) => accept(scheduler, client, submission, digest, &mut changes),
        };
        if let (Some(key), Ok(accepted)) = (key, &answer) {
            under_key.insert(key, (accepted.id, digest));
        }
        answers.push(answer);
    }
    if changes.is_empty() {
        return answers;
    }
    match scheduler.records().commit(changes).await {
        Ok(()) => answers,
        Err(error) => answers
            .into_iter()
            .map(|answer| {
                let accepted = answer?;
                if !accepted.known {
                    withdraw(scheduler, accepted.id);
                }
                Err(error.clone().into())
            })
            .collect(),
    }
}

/// The job is promised to nobody, so it must not run.
fn withdraw(scheduler: &Rc<Scheduler>, id: JobId) {
    if let Some(job) = scheduler.durable(ocluster_scheduling::JobId(id.get())) {
        let cause = Cause {
            code: NOT_ACCEPTED.to_owned(),
            sentence: "the scheduler could not write the job down".to_owned(),
        };
        scheduler.stop_for(&job, cause);
    }
}

/// The job that the client submitted under this key, and what it was.
async fn known(
    scheduler: &Scheduler,
    client: &ClientId,
    key: &str,
) -> Result<Option<(JobId, [u8; 32])>, SubmitError> {
    if key.len() > MAX_KEY {
        return Err(SubmitError::KeyTooLong { length: key.len() });
    }
    let store = scheduler.records().store();
    let found = store.job_by_key(client.as_str().to_owned(), key.to_owned());
    let found = found.await?;
    Ok(found.map(|record| (record.id, record.submission_digest.unwrap_or_default())))
}

/// Queues a job, and adds what is to be written down to `changes`.
fn accept(
    scheduler: &Rc<Scheduler>,
    client: &ClientId,
    submission: Submission,
    digest: [u8; 32],
    changes: &mut Vec<Change>,
) -> Submitted {
    scheduler.check_pool(&submission.pool)?;
    scheduler.check_room(client, submission.descriptor.size_in_bytes())?;
    let limits = in_force(submission.limits, scheduler.pool_limits(&submission.pool))?;
    let (hint, kind) = {
        let message = submission.descriptor.message();
        let descr: job_descr::Reader<'_> =
            message.get().map_err(ocluster_api::DescriptorError::from)?;
        let hint = descr
            .get_cache_hint()
            .map_err(ocluster_api::DescriptorError::from)?;
        check_length("cache hint", hint.len()).map_err(ocluster_api::DescriptorError::from)?;
        let hint = hint
            .to_string()
            .map_err(|error| ocluster_api::DescriptorError::from(capnp::Error::from(error)))?;
        let kind = kind_of(descr).map_err(ocluster_api::DescriptorError::from)?;
        (hint, kind)
    };
    let id = scheduler.next_job_id()?;
    let mut record = JobRecord::queued(
        id,
        submission.pool.as_str(),
        client.as_str(),
        kind,
        scheduler.now_ms(),
    );
    record.hint = hint;
    record.urgent = submission.urgent;
    record.limits = limits;
    record.submission_digest = submission.key.is_some().then_some(digest);
    record.key = submission.key;
    let description = scheduler
        .table()
        .seal
        .seal(id, submission.descriptor.as_bytes())
        .map_err(|error| SubmitError::Unsealed(error.to_string()))?;
    let job = DurableJob::of_record(record, &mut Afresh);
    let kept = Kept::if_room(submission.descriptor, &scheduler.table().description_room);
    job.description.replace(kept);
    scheduler.add_entry(job.id, Entry::Durable(job.clone()));
    let queued = scheduler.handle(Event::Submitted {
        pool: job.pool.clone(),
        client: client.clone(),
        job: job.id,
        hint: job.hint.clone(),
        urgent: job.urgent,
    });
    if let Err(refusal) = queued {
        scheduler.remove_entry(job.id);
        return Err(refusal.into());
    }
    // Whatever follows from it, its being taken by a worker above all, is written behind this.
    changes.push(Change::JobAccepted {
        record: Box::new(job.record()),
        description,
    });
    // It may have been taken already.
    if job.is_queued() {
        scheduler.durable_queued(&job);
    }
    Ok(Accepted { id, known: false })
}

/// What was submitted, to tell whether it is the same as before.
fn digest_of(submission: &Submission) -> [u8; 32] {
    let mut digest = Sha256::new();
    let pool = submission.pool.as_str();
    digest.update((pool.len() as u64).to_be_bytes());
    digest.update(pool);
    digest.update([u8::from(submission.urgent)]);
    let TimeLimits {
        running,
        queued,
        silent,
    } = submission.limits;
    for limit in [running, queued, silent] {
        digest.update(limit.unwrap_or(0).to_be_bytes());
    }
    digest.update(submission.descriptor.as_bytes());
    digest.finalize().into()
}

/// The limits that a job has, from what was asked for and what the pool says.
pub(crate) fn in_force(asked: TimeLimits, pool: &PoolLimits) -> Result<TimeLimits, SubmitError> {
    let one = |what: &'static str, asked: Option<u64>, range: &LimitRange| {
        let max = range.max.map(millis);
        match (asked, max) {
            (Some(asked), Some(max)) if asked > max => Err(SubmitError::LimitTooLong {
                what,
                asked: Duration::from_millis(asked),
                max: Duration::from_millis(max),
            }),
            (Some(asked), _) => Ok(Some(asked)),
            (None, max) => Ok(range.default.map(millis).or(max)),
        }
    };
    Ok(TimeLimits {
        running: one("running", asked.running, &pool.running)?,
        queued: one("queued", asked.queued, &pool.queued)?,
        silent: one("silent", asked.silent, &pool.silent)?,
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_has_what_it_asks_for_within_what_its_pool_allows() {
        let hour = Duration::from_secs(3600);
        let pool = PoolLimits {
            running: LimitRange {
                default: Some(hour),
                max: Some(hour * 4),
            },
            queued: LimitRange::default(),
            silent: LimitRange {
                default: None,
                max: Some(hour),
            },
        };
        let none = in_force(TimeLimits::default(), &pool).unwrap();
        assert_eq!(none.running, Some(3_600_000));
        assert_eq!(none.queued, None);
        assert_eq!(
            none.silent,
            Some(3_600_000),
            "without a default the maximum holds"
        );
        let asked = TimeLimits {
            running: Some(7_200_000),
            queued: Some(5),
            silent: None,
        };
        let given = in_force(asked, &pool).unwrap();
        assert_eq!((given.running, given.queued), (Some(7_200_000), Some(5)));
        let too_long = TimeLimits {
            running: Some(4 * 3_600_000 + 1),
            ..TimeLimits::default()
        };
        let refused = in_force(too_long, &pool).unwrap_err().to_string();
        assert!(
            refused.contains("running") && refused.contains("4h"),
            "{refused}"
        );
    }
}
