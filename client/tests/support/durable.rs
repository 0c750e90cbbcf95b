//! A scheduler that keeps jobs: its records outlive its server, which can be stopped and started again at the same place.
//!
//! A job does what the test says, but for some pools: in `linux` it prints three lines and passes, `failing` and `pushing` end as
//! their names say, and `nope` is refused.

use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use capnp::Error;
use ocluster_api::cluster_capnp::{job, submission};
use ocluster_api::extensions_capnp::{job_handle, job_info, submission_endpoint};
use ocluster_api::persistent_capnp::persistent;
use ocluster_cli::testing::{Shell, TestServer};
use ocluster_vat::SturdyRef;

/// The most that a log is served in one piece: little, so that every log takes several.
const PIECE: usize = 10;
/// When the first job was submitted, in milliseconds since the Unix epoch.
const BEGINNING: u64 = 1_700_000_000_000;

/// A job that was accepted.
#[derive(Clone, Debug, Default)]
pub(crate) struct FakeJob {
    pub(crate) id: String,
    pub(crate) pool: String,
    pub(crate) key: String,
    pub(crate) urgent: bool,
    /// Running, queued and silent, in milliseconds.
    pub(crate) limits: [u64; 3],
    pub(crate) state: &'static str,
    pub(crate) cause: Option<(&'static str, &'static str)>,
    pub(crate) output: &'static str,
    pub(crate) log: Vec<u8>,
    /// Attempts that came to nothing: where in the log each began.
    pub(crate) attempts: Vec<u64>,
    /// Where in the log the present attempt begins.
    pub(crate) log_start: u64,
    /// The reasons for which it was stopped.
    pub(crate) stopped: Vec<String>,
}

#[derive(Default)]
struct State {
    jobs: Vec<FakeJob>,
    /// Offers to be left out.
    without: Vec<&'static str>,
    /// How many more submissions are accepted without an answer.
    mute: usize,
    /// Cancellations are not answered.
    stubborn: bool,
    /// How often jobs were submitted, whatever their keys.
    submissions: usize,
    /// The offsets from which logs were read.
    reads: Vec<i64>,
}

impl State {
    fn job(&mut self, id: &str) -> &mut FakeJob {
        self.jobs.iter_mut().find(|job| job.id == id).unwrap()
    }
}

type Shared = Arc<Mutex<State>>;

/// The scheduler.
pub(crate) struct Keeper {
    state: Shared,
    server: Option<TestServer>,
    pub(crate) cap: SturdyRef,
}

impl Keeper {
    /// One without TLS.
    pub(crate) fn start() -> Self {
        Self::without(&[])
    }

    /// One that does not offer these features.
    pub(crate) fn without(features: &[&'static str]) -> Self {
        let state = Shared::default();
        state.lock().unwrap().without = features.to_vec();
        let server = TestServer::start(None, maker(&state));
        let cap = server.cap.clone();
        Self {
            state,
            server: Some(server),
            cap,
        }
    }

    /// Ends the server, with all connections. The records stay.
    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it again, where it was.
    pub(crate) fn start_again(&mut self) {
        let place = &self.cap.address.location;
        self.server = Some(TestServer::start_at(place, None, maker(&self.state)));
    }

    /// A shell in whose directory `submission.cap` leads here.
    pub(crate) fn shell(&self) -> Shell {
        let shell = Shell::new(env!("CARGO_BIN_EXE_ocluster-client"));
        let file = shell.directory().join("submission.cap");
        self.cap.save(&file).unwrap();
        shell
    }

    /// The next submissions are accepted, but not answered.
    pub(crate) fn mute(&self, submissions: usize) {
        self.state.lock().unwrap().mute = submissions;
    }

    /// Cancellations are not answered.
    pub(crate) fn stubborn(&self) {
        self.state.lock().unwrap().stubborn = true;
    }

    /// Puts a job among the records.
    pub(crate) fn add(&self, job: FakeJob) {
        self.state.lock().unwrap().jobs.push(job);
    }

    /// Changes a job.
    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut FakeJob)) {
        change(self.state.lock().unwrap().job(id));
    }

    /// Lets a job say something.
    pub(crate) fn print(&self, id: &str, text: &[u8]) {
        self.change(id, |job| {
            job.state = "running";
            job.log.extend_from_slice(text);
        });
    }

    /// Lets a job end.
    pub(crate) fn end(&self, id: &str, state: &'static str) {
        self.change(id, |job| job.state = state);
    }

    /// All jobs as they are now.
    pub(crate) fn jobs(&self) -> Vec<FakeJob> {
        self.state.lock().unwrap().jobs.clone()
    }

    /// How often jobs were submitted.
    pub(crate) fn submissions(&self) -> usize {
        self.state.lock().unwrap().submissions
    }

    /// The offsets from which logs were read.
    pub(crate) fn reads(&self) -> Vec<i64> {
        self.state.lock().unwrap().reads.clone()
    }

    /// Waits until this holds.
    pub(crate) fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !holds(self) {
            assert!(Instant::now() < deadline, "waited in vain: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn maker(state: &Shared) -> impl FnOnce() -> capnp::capability::Client + Send + 'static {
    let state = state.clone();
    move || {
        let client: submission_endpoint::Client = capnp_rpc::new_client(Endpoint(state));
        client.client
    }
}

/// Waits, on the server's thread, until `get` gives something.
async fn until<T>(state: &Shared, get: impl Fn(&mut State) -> Option<T>) -> T {
    loop {
        if let Some(got) = get(&mut state.lock().unwrap()) {
            return got;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

struct Endpoint(Shared);

impl Endpoint {
    fn handle(&self, id: &str) -> job_handle::Client {
        capnp_rpc::new_client(Handle {
            state: self.0.clone(),
            id: id.to_owned(),
        })
    }
}

impl submission::Server for Endpoint {}
impl persistent::Server for Endpoint {}

impl submission_endpoint::Server for Endpoint {
    async fn features(
        self: Rc<Self>,
        _: submission_endpoint::FeaturesParams,
        mut results: submission_endpoint::FeaturesResults,
    ) -> Result<(), Error> {
        let without = self.0.lock().unwrap().without.clone();
        let offered: Vec<&str> = ["durable-jobs", "time-limits"]
            .into_iter()
            .filter(|feature| !without.contains(feature))
            .collect();
        results.get().set_features(offered.as_slice())
    }

    async fn submit_job(
        self: Rc<Self>,
        params: submission_endpoint::SubmitJobParams,
        mut results: submission_endpoint::SubmitJobResults,
    ) -> Result<(), Error> {
        let job = params.get()?.get_job()?;
        let pool = job.get_pool()?.to_string()?;
        if pool == "nope" {
            return Err(Error::failed(
                "Pool ID \"nope\" not one of {arm, linux}".to_owned(),
            ));
        }
        let key = job.get_key()?.to_string()?;
        let limits = job.get_limits()?;
        let (id, known, mute) = {
            let mut state = self.0.lock().unwrap();
            state.submissions += 1;
            let mute = state.mute > 0;
            state.mute = state.mute.saturating_sub(1);
            let earlier = state
                .jobs
                .iter()
                .find(|job| !key.is_empty() && job.key == key)
                .map(|job| job.id.clone());
            let known = earlier.is_some();
            let id = earlier.unwrap_or_else(|| {
                let id = format!("j{}x", state.jobs.len() + 1);
                state.jobs.push(accepted(FakeJob {
                    id: id.clone(),
                    pool,
                    key,
                    urgent: job.get_urgent(),
                    limits: [
                        limits.get_running(),
                        limits.get_queued(),
                        limits.get_silent(),
                    ],
                    state: "queued",
                    ..FakeJob::default()
                }));
                id
            });
            (id, known, mute)
        };
        if mute {
            return std::future::pending().await;
        }
        let mut answer = results.get();
        answer.set_id(&id);
        answer.set_known(known);
        answer.set_handle(self.handle(&id));
        Ok(())
    }

    async fn find(
        self: Rc<Self>,
        params: submission_endpoint::FindParams,
        mut results: submission_endpoint::FindResults,
    ) -> Result<(), Error> {
        let wanted = params.get()?.get_id()?.to_string()?;
        let found: Vec<String> = {
            let state = self.0.lock().unwrap();
            let ids = state.jobs.iter().map(|job| job.id.clone());
            ids.filter(|id| id.starts_with(&wanted)).collect()
        };
        match found.as_slice() {
            [id] => {
                let mut answer = results.get();
                answer.set_id(id);
                answer.set_handle(self.handle(id));
                Ok(())
            }
            [] => Err(Error::failed(format!(
                "there is no job \"{wanted}\" of yours; it may have been forgotten because of its age"
            ))),
            several => Err(Error::failed(format!(
                "\"{wanted}\" is the beginning of several job ids: {}",
                several.join(", ")
            ))),
        }
    }

    async fn list(
        self: Rc<Self>,
        params: submission_endpoint::ListParams,
        mut results: submission_endpoint::ListResults,
    ) -> Result<(), Error> {
        let query = params.get()?.get_query()?;
        let (before, pool) = (
            query.get_before()?.to_string()?,
            query.get_pool()?.to_string()?,
        );
        let mut states = Vec::new();
        for state in query.get_states()? {
            states.push(state?.to_string()?);
        }
        let jobs = self.0.lock().unwrap().jobs.clone();
        let newest_first = jobs
            .iter()
            .rev()
            .filter(|job| before.is_empty() || job.id < before);
        let matching: Vec<&FakeJob> = newest_first
            .filter(|job| pool.is_empty() || job.pool == pool)
            .filter(|job| states.is_empty() || states.iter().any(|state| state == job.state))
            .collect();
        let limit = match query.get_limit() {
            0 => 100,
            limit => limit as usize,
        };
        let page = &matching[..matching.len().min(limit)];
        if page.len() < matching.len() {
            results.get().set_more(&page.last().unwrap().id);
        }
        let mut answer = results.get().init_jobs(page.len() as u32);
        for (place, job) in (0..).zip(page) {
            write(job, answer.reborrow().get(place));
        }
        Ok(())
    }
}

/// A job as its pool makes it.
fn accepted(mut job: FakeJob) -> FakeJob {
    let lines = b"Building on worker-1\n\x1b[32mstep\xff 1\x1b[0m\nJob succeeded\n";
    let (state, output) = match job.pool.as_str() {
        "linux" => ("passed", ""),
        "pushing" => ("passed", "team/app@sha256:\"12\"\nab"),
        "failing" => ("failed", ""),
        _ => return job,
    };
    job.log = lines.to_vec();
    (job.state, job.output) = (state, output);
    job
}

fn is_ended(state: &str) -> bool {
    !matches!(state, "queued" | "running")
}

fn write(job: &FakeJob, mut info: job_info::Builder<'_>) {
    info.set_id(&job.id);
    info.set_pool(&job.pool);
    info.set_client("alice");
    info.set_kind("docker");
    info.set_state(job.state);
    info.set_urgent(job.urgent);
    info.set_durable(true);
    info.set_key(&job.key);
    info.set_output(job.output);
    info.set_queued_at(BEGINNING);
    info.set_log_length(job.log.len() as u64);
    info.set_log_start(job.log_start);
    if let Some((code, sentence)) = job.cause {
        info.set_cause_code(code);
        info.set_cause_sentence(sentence);
    }
    if job.state != "queued" {
        info.set_attempt(job.attempts.len() as u32 + 1);
        info.set_worker("worker-1");
        info.set_started_at(BEGINNING + 60_000);
    }
    if is_ended(job.state) {
        info.set_ended_at(BEGINNING + 125_000);
    }
    let mut attempts = info.init_attempts(job.attempts.len() as u32);
    for (place, start) in (0..).zip(&job.attempts) {
        let mut attempt = attempts.reborrow().get(place);
        attempt.set_number(place + 1);
        attempt.set_worker("worker-0");
        attempt.set_started_at(BEGINNING + 10_000);
        attempt.set_ended_at(BEGINNING + 50_000);
        attempt.set_cause_code("worker-lost");
        attempt.set_cause_sentence("worker-0 gave no sign of life for 12 s");
        attempt.set_log_start(*start);
    }
}

struct Handle {
    state: Shared,
    id: String,
}

impl job::Server for Handle {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> Result<(), Error> {
        let start = params.get()?.get_start();
        self.state.lock().unwrap().reads.push(start);
        let start = usize::try_from(start).unwrap();
        let piece = until(&self.state, |state| {
            let job = state.job(&self.id);
            let rest = job.log.get(start..).unwrap_or_default();
            let piece = rest[..rest.len().min(PIECE)].to_vec();
            (!piece.is_empty() || is_ended(job.state)).then_some(piece)
        })
        .await;
        let mut answer = results.get();
        answer.set_log(&piece);
        answer.set_next((start + piece.len()) as i64);
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> Result<(), Error> {
        let job = self.ended_job().await;
        match job.state {
            "passed" => results.get().set_output(job.output),
            "failed" => return Err(Error::failed("Build failed".to_owned())),
            other => return Err(Error::failed(format!("The job was {other}"))),
        }
        Ok(())
    }
}

impl Handle {
    async fn ended_job(&self) -> FakeJob {
        until(&self.state, |state| {
            let job = state.job(&self.id);
            is_ended(job.state).then(|| job.clone())
        })
        .await
    }
}

impl job_handle::Server for Handle {
    async fn info(
        self: Rc<Self>,
        _: job_handle::InfoParams,
        mut results: job_handle::InfoResults,
    ) -> Result<(), Error> {
        let job = self.state.lock().unwrap().job(&self.id).clone();
        write(&job, results.get().init_info());
        Ok(())
    }

    async fn stop(
        self: Rc<Self>,
        params: job_handle::StopParams,
        _: job_handle::StopResults,
    ) -> Result<(), Error> {
        let reason = params.get()?.get_reason()?.to_string()?;
        let stubborn = {
            let mut state = self.state.lock().unwrap();
            let stubborn = state.stubborn;
            let job = state.job(&self.id);
            job.stopped.push(reason);
            if !stubborn {
                if is_ended(job.state) {
                    return Err(Error::failed(format!(
                        "job {} is over: it has {}",
                        self.id, job.state
                    )));
                }
                job.state = "cancelled";
                job.cause = Some(("cancelled", "cancelled by alice"));
            }
            stubborn
        };
        if stubborn {
            return std::future::pending().await;
        }
        Ok(())
    }

    async fn explain(
        self: Rc<Self>,
        _: job_handle::ExplainParams,
        mut results: job_handle::ExplainResults,
    ) -> Result<(), Error> {
        let job = self.state.lock().unwrap().job(&self.id).clone();
        let mut explanation = results.get().init_explanation();
        explanation.set_summary("It waits for a worker: 12 jobs come before it.");
        let details = ["10 of them are bob's.", "worker-1 runs 2 of 2 jobs."];
        explanation.set_details(details.as_slice())?;
        write(&job, explanation.init_info());
        Ok(())
    }

    async fn ended(
        self: Rc<Self>,
        _: job_handle::EndedParams,
        mut results: job_handle::EndedResults,
    ) -> Result<(), Error> {
        let job = self.ended_job().await;
        write(&job, results.get().init_info());
        Ok(())
    }
}
