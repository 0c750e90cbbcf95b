//! `Submission` and `SubmissionEndpoint`: one client's access to the cluster, the jobs that are kept for it, and the sturdy ref to it.

use std::rc::Rc;

use ocluster_api::cluster_capnp::submission;
use ocluster_api::{extensions_capnp::submission_endpoint, persistent_capnp::persistent};
use ocluster_scheduling::ClientId;
use ocluster_vat::{ServiceId, SturdyRef, broken_cap, error as rpc_error};
use tracing::info;

use super::caller::Caller;
use super::job_handle::new_job_handle;
use super::ticket::new_ticket;
use super::{durable_job, job_info, query};
use crate::job::Submitted;
use crate::jobs::{Accepted, Submission};
use crate::state::{Scheduler, SubmitError};

/// How many jobs may be submitted by one call.
const MAX_MANY: u32 = 1000;

/// How many bytes they may take together.
const MAX_MANY_BYTES: u64 = 32 * 1024 * 1024;

/// What is offered if jobs can be kept.
const FEATURES: [&str; 3] = ["durable-jobs", "submit-many", "time-limits"];

/// A client's access.
pub(crate) struct SubmissionServer {
    scheduler: Rc<Scheduler>,
    client: ClientId,
    caller: Caller,
    sturdy_ref: SturdyRef,
}

impl SubmissionServer {
    pub(crate) fn new(
        scheduler: Rc<Scheduler>,
        client: ClientId,
        id: &ServiceId,
        sturdy_ref: SturdyRef,
    ) -> Self {
        let caller = Caller::client(scheduler.clone(), client.clone(), id.hash());
        Self {
            scheduler,
            client,
            caller,
            sturdy_ref,
        }
    }

    fn submit_now(
        &self,
        params: submission::submit_params::Reader<'_>,
    ) -> capnp::Result<ocluster_api::cluster_capnp::ticket::Client> {
        self.caller.asker()?;
        let urgent = params.get_urgent();
        info!(
            "Received new job request from \"{}\" (urgent={urgent})",
            self.client
        );
        let submitted = Submitted {
            pool: params.get_pool()?.to_str()?.into(),
            client: self.client.clone(),
            descr: params.get_descr()?,
            urgent,
        };
        let job = self
            .scheduler
            .submit(&submitted)
            .map_err(|error: SubmitError| rpc_error::failed(error.to_string()))?;
        Ok(new_ticket(self.scheduler.clone(), job))
    }

    /// Whether this client may submit jobs to be kept.
    fn check_durable(&self) -> capnp::Result<()> {
        self.caller.asker()?;
        if self.scheduler.offers_durable_jobs() {
            return Ok(());
        }
        // The type of error by which clients know that they have to do without.
        Err(rpc_error::unimplemented(
            "This scheduler keeps no jobs, because its next start would have another key, with which nobody could come back \
             for them: submit the job without that, or have the scheduler started with --capnp-secret-key-file",
        ))
    }

    /// Submits jobs, which happens even if the caller does not wait for it. Gives an outcome for each, in order.
    async fn accept(
        &self,
        submissions: Vec<Submission>,
    ) -> capnp::Result<Vec<Result<Accepted, SubmitError>>> {
        info!(
            jobs = submissions.len(),
            "Received new durable job request from \"{}\"", self.client
        );
        let (scheduler, client) = (self.scheduler.clone(), self.client.clone());
        self.caller
            .completely(async move { scheduler.submit_durable(&client, submissions).await })
            .await
    }
}

fn no_outcome() -> capnp::Error {
    rpc_error::failed("Internal error: the scheduler does not say what became of this job")
}

impl submission::Server for SubmissionServer {
    /// Always answers with a ticket; a refused job's is broken, with the reason, because that is what existing clients look at.
    async fn submit(
        self: Rc<Self>,
        params: submission::SubmitParams,
        mut results: submission::SubmitResults,
    ) -> capnp::Result<()> {
        let ticket = self.submit_now(params.get()?).unwrap_or_else(broken_cap);
        results.get().set_ticket(ticket);
        Ok(())
    }
}

impl persistent::Server for SubmissionServer {
    async fn save(
        self: Rc<Self>,
        _: persistent::SaveParams,
        mut results: persistent::SaveResults,
    ) -> capnp::Result<()> {
        let uri = self.sturdy_ref.to_uri();
        results.get().get_sturdy_ref().set_as(uri.as_str())
    }
}

impl submission_endpoint::Server for SubmissionServer {
    async fn features(
        self: Rc<Self>,
        _: submission_endpoint::FeaturesParams,
        mut results: submission_endpoint::FeaturesResults,
    ) -> capnp::Result<()> {
        self.caller.asker()?;
        let offered: &[&str] = if self.scheduler.offers_durable_jobs() {
            &FEATURES
        } else {
            &[]
        };
        let length = job_info::list_length(offered);
        let mut features = results.get().init_features(length);
        for (index, feature) in (0..length).zip(offered) {
            features.set(index, feature);
        }
        Ok(())
    }

    async fn submit_job(
        self: Rc<Self>,
        params: submission_endpoint::SubmitJobParams,
        mut results: submission_endpoint::SubmitJobResults,
    ) -> capnp::Result<()> {
        self.check_durable()?;
        let submission = durable_job::read(params.get()?.get_job()?)?;
        drop(params);
        let outcome = self.accept(vec![submission]).await?.into_iter().next();
        let accepted = outcome
            .ok_or_else(no_outcome)?
            .map_err(|error| rpc_error::failed(error.to_string()))?;
        let mut results = results.get();
        results.set_handle(new_job_handle(self.caller.clone(), accepted.id));
        results.set_id(accepted.id.to_string());
        results.set_known(accepted.known);
        Ok(())
    }

    async fn submit_many(
        self: Rc<Self>,
        params: submission_endpoint::SubmitManyParams,
        mut results: submission_endpoint::SubmitManyResults,
    ) -> capnp::Result<()> {
        self.check_durable()?;
        let Many { submissions, fates } = read_many(params.get()?)?;
        drop(params);
        let mut outcomes = self.accept(submissions).await?.into_iter();
        let mut answers = results.get().init_answers(job_info::list_length(&fates));
        for (index, fate) in (0..answers.len()).zip(fates) {
            let answer = answers.reborrow().get(index);
            let outcome = match fate {
                Fate::Refused(error) => Err(error.extra),
                Fate::Submitted => match outcomes.next() {
                    Some(outcome) => outcome.map_err(|error| error.to_string()),
                    None => Err(no_outcome().extra),
                },
            };
            match outcome {
                Ok(Accepted { id, known }) => {
                    let mut accepted = answer.init_accepted();
                    accepted.set_id(id.to_string());
                    accepted.set_known(known);
                }
                Err(reason) => {
                    let mut answer = answer;
                    answer.set_refused(&reason);
                }
            }
        }
        Ok(())
    }

    async fn find(
        self: Rc<Self>,
        params: submission_endpoint::FindParams,
        mut results: submission_endpoint::FindResults,
    ) -> capnp::Result<()> {
        let id = self.caller.find(params.get()?.get_id()?).await?;
        let mut results = results.get();
        results.set_handle(new_job_handle(self.caller.clone(), id));
        results.set_id(id.to_string());
        Ok(())
    }

    async fn list(
        self: Rc<Self>,
        params: submission_endpoint::ListParams,
        mut results: submission_endpoint::ListResults,
    ) -> capnp::Result<()> {
        let (jobs, more) = self.caller.list(params.get()?.get_query()?).await?;
        let mut results = results.get();
        let list = results.reborrow().init_jobs(job_info::list_length(&jobs));
        job_info::write_all(&jobs, list);
        if let Some(more) = more {
            results.set_more(more.to_string());
        }
        Ok(())
    }

    async fn watch(
        self: Rc<Self>,
        params: submission_endpoint::WatchParams,
        mut results: submission_endpoint::WatchResults,
    ) -> capnp::Result<()> {
        let asker = self.caller.asker()?;
        let (filter, cursor) = {
            let params = params.get()?;
            (query::read(params.get_query()?)?, params.get_cursor())
        };
        drop(params);
        let seen = self.scheduler.watch_jobs(&asker, &filter, cursor).await;
        let (mut jobs, cursor, missed) =
            seen.map_err(|error| rpc_error::failed(error.to_string()))?;
        self.caller.asker()?;
        // What does not fit cannot be told later: the cursor is beyond it.
        let missed = query::cut(&mut jobs) || missed;
        let mut results = results.get();
        let list = results.reborrow().init_jobs(job_info::list_length(&jobs));
        job_info::write_all(&jobs, list);
        results.set_cursor(cursor);
        results.set_missed(missed);
        Ok(())
    }
}

/// Many jobs of one call.
struct Many {
    /// Those that could be read.
    submissions: Vec<Submission>,
    /// What becomes of each job of the call.
    fates: Vec<Fate>,
}

enum Fate {
    /// It is the next one of those that could be read.
    Submitted,
    Refused(capnp::Error),
}

/// Reads the jobs of a call.
///
/// # Errors
/// If they are more than one call may submit, or the message is broken. None is accepted then.
fn read_many(params: submission_endpoint::submit_many_params::Reader<'_>) -> capnp::Result<Many> {
    let jobs = params.get_jobs()?;
    if jobs.len() > MAX_MANY {
        return Err(rpc_error::failed(format!(
            "No job was accepted: there are {} of them, and at most {MAX_MANY} can be submitted at once",
            jobs.len()
        )));
    }
    // Measured before anything is copied: parts of a message may be shared, so that it is larger than it looks.
    let mut bytes: u64 = 0;
    for job in jobs {
        bytes = bytes.saturating_add(durable_job::size_in_bytes(job)?);
        if bytes > MAX_MANY_BYTES {
            return Err(rpc_error::failed(format!(
                "No job was accepted: they take more than {MAX_MANY_BYTES} bytes together, so submit fewer at once"
            )));
        }
    }
    let mut many = Many {
        submissions: Vec::new(),
        fates: Vec::new(),
    };
    for job in jobs {
        many.fates.push(match durable_job::read(job) {
            Ok(submission) => {
                many.submissions.push(submission);
                Fate::Submitted
            }
            Err(error) => Fate::Refused(error),
        });
    }
    Ok(many)
}

#[cfg(test)]
mod tests {
    use capnp::message::{Builder, HeapAllocator};
    use ocluster_api::extensions_capnp::durable_job;
    use submission_endpoint::submit_many_params;

    use super::*;

    fn call(
        count: u32,
        mut fill: impl FnMut(u32, durable_job::Builder<'_>),
    ) -> Builder<HeapAllocator> {
        let mut message = Builder::new_default();
        let params: submit_many_params::Builder<'_> = message.init_root();
        let mut jobs = params.init_jobs(count);
        for index in 0..count {
            fill(index, jobs.reborrow().get(index));
        }
        message
    }

    fn read(message: &Builder<HeapAllocator>) -> Result<Many, String> {
        read_many(message.get_root_as_reader().unwrap()).map_err(|error| error.extra)
    }

    #[test]
    fn a_job_that_cannot_be_read_keeps_no_other_from_being_submitted() {
        let message = call(3, |index, mut job| {
            job.set_pool(format!("pool-{index}"));
            if index == 1 {
                job.set_key("k".repeat(1000));
            }
        });
        let many = read(&message).unwrap();
        let pools: Vec<&str> = many
            .submissions
            .iter()
            .map(|job| job.pool.as_str())
            .collect();
        assert_eq!(pools, ["pool-0", "pool-2"]);
        assert!(matches!(
            many.fates.as_slice(),
            [Fate::Submitted, Fate::Refused(error), Fate::Submitted] if error.extra.contains("its key has 1000 bytes")
        ));
    }

    #[test]
    fn a_call_takes_a_thousand_jobs_and_not_one_more() {
        assert_eq!(
            read(&call(1000, |_, _| {})).unwrap().submissions.len(),
            1000
        );
        let error = read(&call(1001, |_, _| {})).err().unwrap();
        assert_eq!(
            error,
            "No job was accepted: there are 1001 of them, and at most 1000 can be submitted at once"
        );
    }

    #[test]
    fn a_call_takes_only_so_many_bytes() {
        let message = call(5, |_, mut job| {
            let docker = job
                .reborrow()
                .init_descr()
                .init_action()
                .init_docker_build();
            let dockerfile = "x".repeat(7 * 1024 * 1024);
            docker.init_dockerfile().set_contents(dockerfile);
        });
        let error = read(&message).err().unwrap();
        assert_eq!(
            error,
            "No job was accepted: they take more than 33554432 bytes together, so submit fewer at once"
        );
    }
}
