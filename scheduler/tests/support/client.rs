//! What a client does: submits jobs, follows their logs and waits for their results.

use ocluster_api::cluster_capnp::{job, job_descr, submission, ticket};
use ocluster_vat::Connection;

use super::{POOL, kind_and_reason};

/// A client and its connection.
pub(crate) struct Client {
    pub(crate) connection: Connection,
    pub(crate) submission: submission::Client,
}

/// A submitted job, held by its ticket and by the job itself.
pub(crate) struct Submitted {
    pub(crate) ticket: ticket::Client,
    pub(crate) job: job::Client,
}

impl Client {
    /// Submits a Docker job whose Dockerfile is `what`, and asks the ticket for the job.
    pub(crate) fn submit(&self, what: &str) -> Submitted {
        self.submit_to(POOL, |mut descr| describe(&mut descr, what))
    }

    /// Submits anything anywhere.
    pub(crate) fn submit_to(
        &self,
        pool: &str,
        describe: impl FnOnce(job_descr::Builder<'_>),
    ) -> Submitted {
        let mut request = self.submission.submit_request();
        request.get().set_pool(pool);
        describe(request.get().init_descr());
        ask(request)
    }

    /// Submits a job urgently, with a cache hint.
    pub(crate) fn submit_urgently(&self, what: &str, hint: &str) -> Submitted {
        let mut request = self.submission.submit_request();
        request.get().set_pool(POOL);
        request.get().set_urgent(true);
        let mut descr = request.get().init_descr();
        describe(&mut descr, what);
        descr.set_cache_hint(hint);
        ask(request)
    }

    /// Submits a copy of a description.
    pub(crate) fn submit_copy(&self, pool: &str, descr: job_descr::Reader<'_>) -> Submitted {
        let mut request = self.submission.submit_request();
        request.get().set_pool(pool);
        request.get().set_descr(descr).unwrap();
        ask(request)
    }
}

type SubmitRequest =
    capnp::capability::Request<submission::submit_params::Owned, submission::submit_results::Owned>;

fn ask(request: SubmitRequest) -> Submitted {
    let ticket = request.send().pipeline.get_ticket();
    let job = ticket.job_request().send().pipeline.get_job();
    Submitted { ticket, job }
}

/// A Docker job whose Dockerfile is `what`.
pub(crate) fn describe(descr: &mut job_descr::Builder<'_>, what: &str) {
    let docker = descr.reborrow().init_action().init_docker_build();
    docker.init_dockerfile().set_contents(what);
}

/// Starts reading one piece of a log; the request is under way when this returns.
pub(crate) fn read_at(
    job: &job::Client,
    start: i64,
) -> impl Future<Output = Result<(String, i64), String>> + use<> {
    let mut request = job.log_request();
    request.get().set_start(start);
    let promise = request.send().promise;
    async move {
        let response = promise.await.map_err(kind_and_reason)?;
        let results = response.get().unwrap();
        let log = String::from_utf8(results.get_log().unwrap().to_vec()).unwrap();
        Ok((log, results.get_next()))
    }
}

/// Follows a log to its end, as clients do: up to the first empty piece. Gives what it read, and the error if there was one.
pub(crate) async fn follow(job: &job::Client) -> (String, Option<String>) {
    let mut log = String::new();
    let mut start = 0;
    loop {
        match read_at(job, start).await {
            Ok((piece, _)) if piece.is_empty() => return (log, None),
            Ok((piece, next)) => {
                log.push_str(&piece);
                start = next;
            }
            Err(error) => return (log, Some(error)),
        }
    }
}

/// The whole log of a job that is expected to have a good end.
pub(crate) async fn whole_log(job: &job::Client) -> String {
    let (log, error) = follow(job).await;
    assert_eq!(error, None, "after {log:?}");
    log
}

/// Waits for the result: the output, or the error as programs print it. The request is under way when this returns.
pub(crate) fn result(job: &job::Client) -> impl Future<Output = Result<String, String>> + use<> {
    let promise = job.result_request().send().promise;
    async move {
        let response = promise.await.map_err(kind_and_reason)?;
        let output = response.get().unwrap().get_output().unwrap();
        Ok(output.to_string().unwrap())
    }
}

/// `Job.cancel`.
pub(crate) async fn cancel(job: &job::Client) -> Result<(), String> {
    let cancelled = job.cancel_request().send().promise.await;
    cancelled.map(drop).map_err(kind_and_reason)
}

/// `Ticket.cancel`.
pub(crate) async fn cancel_ticket(ticket: &ticket::Client) -> Result<(), String> {
    let cancelled = ticket.cancel_request().send().promise.await;
    cancelled.map(drop).map_err(kind_and_reason)
}
