//! A client who has jobs kept: submits durable jobs, finds them again by their ids, and follows them.

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::{
    admin_endpoint, durable_job, job_handle, job_query, submission_endpoint, submit_answer,
};

use super::client::{Client, describe};
use super::job_view::JobView;
use super::{POOL, kind_and_reason};

/// A client, by the extended interface.
pub(crate) struct Keeper {
    pub(crate) client: Client,
    pub(crate) endpoint: submission_endpoint::Client,
}

/// What is asked for; a Docker job whose Dockerfile is `what`.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) what: String,
    pub(crate) pool: String,
    pub(crate) hint: String,
    pub(crate) urgent: bool,
    pub(crate) key: String,
    /// Running, queued and silent, in milliseconds.
    pub(crate) limits: (u64, u64, u64),
}

impl Wanted {
    pub(crate) fn new(what: &str) -> Self {
        Self {
            what: what.to_owned(),
            pool: POOL.to_owned(),
            hint: String::new(),
            urgent: false,
            key: String::new(),
            limits: (0, 0, 0),
        }
    }

    pub(crate) fn key(self, key: &str) -> Self {
        let key = key.to_owned();
        Self { key, ..self }
    }

    pub(crate) fn hint(self, hint: &str) -> Self {
        let hint = hint.to_owned();
        Self { hint, ..self }
    }

    pub(crate) fn urgent(self) -> Self {
        Self {
            urgent: true,
            ..self
        }
    }

    pub(crate) fn in_pool(self, pool: &str) -> Self {
        let pool = pool.to_owned();
        Self { pool, ..self }
    }

    pub(crate) fn limits(self, running: u64, queued: u64, silent: u64) -> Self {
        let limits = (running, queued, silent);
        Self { limits, ..self }
    }

    fn write(&self, mut job: durable_job::Builder<'_>) {
        job.set_pool(&self.pool);
        job.set_urgent(self.urgent);
        job.set_key(&self.key);
        let mut limits = job.reborrow().init_limits();
        limits.set_running(self.limits.0);
        limits.set_queued(self.limits.1);
        limits.set_silent(self.limits.2);
        let mut descr = job.init_descr();
        describe(&mut descr, &self.what);
        descr.set_cache_hint(&self.hint);
    }
}

/// A job that was accepted, or found.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) handle: job_handle::Client,
    pub(crate) id: String,
    pub(crate) known: bool,
}

/// Which jobs are asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query {
    pub(crate) before: String,
    pub(crate) limit: u32,
    pub(crate) states: Vec<&'static str>,
    pub(crate) pool: &'static str,
    pub(crate) client: &'static str,
}

impl Query {
    fn write(&self, mut query: job_query::Builder<'_>) {
        query.set_before(&self.before);
        query.set_limit(self.limit);
        query.set_pool(self.pool);
        query.set_client(self.client);
        let mut states = query.init_states(u32::try_from(self.states.len()).unwrap());
        for (index, state) in (0..).zip(&self.states) {
            states.set(index, state);
        }
    }
}

/// What `watch` answers.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) jobs: Vec<JobView>,
    pub(crate) cursor: u64,
    pub(crate) missed: bool,
}

impl Keeper {
    pub(crate) fn new(client: Client) -> Self {
        let endpoint = client.submission.clone().cast_to();
        Self { client, endpoint }
    }

    pub(crate) async fn features(&self) -> Vec<String> {
        let response = self.endpoint.features_request().send().promise.await;
        texts(response.unwrap().get().unwrap().get_features().unwrap())
    }

    /// Submits a job that is expected to be accepted.
    pub(crate) async fn keep(&self, what: &str) -> Kept {
        self.submit(&Wanted::new(what)).await.unwrap()
    }

    pub(crate) async fn submit(&self, wanted: &Wanted) -> Result<Kept, String> {
        self.begin_to_submit(wanted).await
    }

    /// Submits a job; the request is under way when this returns.
    pub(crate) fn begin_to_submit(
        &self,
        wanted: &Wanted,
    ) -> impl Future<Output = Result<Kept, String>> + use<> {
        let mut request = self.endpoint.submit_job_request();
        wanted.write(request.get().init_job());
        let promise = request.send().promise;
        async move {
            let response = promise.await.map_err(kind_and_reason)?;
            let results = response.get().unwrap();
            Ok(Kept {
                handle: results.get_handle().unwrap(),
                id: results.get_id().unwrap().to_string().unwrap(),
                known: results.get_known(),
            })
        }
    }

    /// Submits many jobs by one call: the id of each and whether it was known, or why it was refused.
    pub(crate) async fn submit_many(
        &self,
        wanted: &[Wanted],
    ) -> Result<Vec<Result<(String, bool), String>>, String> {
        let mut request = self.endpoint.submit_many_request();
        let mut jobs = request
            .get()
            .init_jobs(u32::try_from(wanted.len()).unwrap());
        for (index, wanted) in (0..).zip(wanted) {
            wanted.write(jobs.reborrow().get(index));
        }
        let response = request.send().promise.await.map_err(kind_and_reason)?;
        let answers = response.get().unwrap().get_answers().unwrap();
        Ok(answers
            .iter()
            .map(|answer| match answer.which().unwrap() {
                submit_answer::Accepted(accepted) => Ok((
                    accepted.get_id().unwrap().to_string().unwrap(),
                    accepted.get_known(),
                )),
                submit_answer::Refused(reason) => Err(reason.unwrap().to_string().unwrap()),
            })
            .collect())
    }

    pub(crate) async fn find(&self, id: &str) -> Result<Kept, String> {
        let mut request = self.endpoint.find_request();
        request.get().set_id(id);
        let response = request.send().promise.await.map_err(kind_and_reason)?;
        let results = response.get().unwrap();
        Ok(Kept {
            handle: results.get_handle().unwrap(),
            id: results.get_id().unwrap().to_string().unwrap(),
            known: true,
        })
    }

    /// The jobs that match, and where the next page begins.
    pub(crate) async fn list(&self, query: &Query) -> Result<(Vec<JobView>, String), String> {
        let mut request = self.endpoint.list_request();
        query.write(request.get().init_query());
        let response = request.send().promise.await.map_err(kind_and_reason)?;
        let results = response.get().unwrap();
        let jobs = results.get_jobs().unwrap().iter().map(JobView::read);
        Ok((
            jobs.collect(),
            results.get_more().unwrap().to_string().unwrap(),
        ))
    }

    /// Waits for changes; the request is under way when this returns.
    pub(crate) fn watch(
        &self,
        query: &Query,
        cursor: u64,
    ) -> impl Future<Output = Result<Seen, String>> + use<> {
        let mut request = self.endpoint.watch_request();
        query.write(request.get().init_query());
        request.get().set_cursor(cursor);
        let promise = request.send().promise;
        async move {
            let response = promise.await.map_err(kind_and_reason)?;
            let results = response.get().unwrap();
            Ok(Seen {
                jobs: results
                    .get_jobs()
                    .unwrap()
                    .iter()
                    .map(JobView::read)
                    .collect(),
                cursor: results.get_cursor(),
                missed: results.get_missed(),
            })
        }
    }
}

impl Kept {
    /// As a job of the frozen protocol.
    pub(crate) fn job(&self) -> job::Client {
        self.handle.clone().cast_to()
    }

    pub(crate) async fn try_info(&self) -> Result<JobView, String> {
        let response = self.handle.info_request().send().promise.await;
        let response = response.map_err(kind_and_reason)?;
        Ok(JobView::read(response.get().unwrap().get_info().unwrap()))
    }

    pub(crate) async fn info(&self) -> JobView {
        self.try_info().await.unwrap()
    }

    /// Waits for the job's end; the request is under way when this returns.
    pub(crate) fn ended(&self) -> impl Future<Output = Result<JobView, String>> + use<> {
        let promise = self.handle.ended_request().send().promise;
        async move {
            let response = promise.await.map_err(kind_and_reason)?;
            Ok(JobView::read(response.get().unwrap().get_info().unwrap()))
        }
    }

    pub(crate) async fn stop(&self, reason: &str) -> Result<(), String> {
        let mut request = self.handle.stop_request();
        request.get().set_reason(reason);
        let stopped = request.send().promise.await;
        stopped.map(drop).map_err(kind_and_reason)
    }

    /// The summary and the details.
    pub(crate) async fn explain(&self) -> Result<(String, Vec<String>), String> {
        let response = self.handle.explain_request().send().promise.await;
        let response = response.map_err(kind_and_reason)?;
        let explanation = response.get().unwrap().get_explanation().unwrap();
        Ok((
            explanation.get_summary().unwrap().to_string().unwrap(),
            texts(explanation.get_details().unwrap()),
        ))
    }
}

/// A job of anybody, as administrators find it.
pub(crate) async fn find_as_admin(
    admin: &admin_endpoint::Client,
    id: &str,
) -> Result<Kept, String> {
    let mut request = admin.find_request();
    request.get().set_id(id);
    let response = request.send().promise.await.map_err(kind_and_reason)?;
    let results = response.get().unwrap();
    Ok(Kept {
        handle: results.get_handle().unwrap(),
        id: results.get_id().unwrap().to_string().unwrap(),
        known: true,
    })
}

/// All jobs that match, as administrators see them.
pub(crate) async fn list_as_admin(admin: &admin_endpoint::Client, query: &Query) -> Vec<JobView> {
    let mut request = admin.list_request();
    query.write(request.get().init_query());
    let response = request.send().promise.await.unwrap();
    let jobs = response.get().unwrap().get_jobs().unwrap();
    jobs.iter().map(JobView::read).collect()
}

/// The texts of a list.
pub(crate) fn texts(list: capnp::text_list::Reader<'_>) -> Vec<String> {
    list.iter()
        .map(|text| text.unwrap().to_string().unwrap())
        .collect()
}
