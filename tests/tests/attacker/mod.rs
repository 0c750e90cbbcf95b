//! Someone who holds a `.cap` file and speaks the protocol by hand, to find out what else it opens.
//!
//! Never polite: every method of every interface is tried on whatever is within reach.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use capnp::any_pointer;
use capnp::capability::{Client, FromClientHook as _};
use capnp::traits::HasTypeId as _;
use ocluster_api::cluster_capnp::{
    admin, job, job_descr, pool_admin, progress, queue, registration, submission, ticket, worker,
};
use ocluster_api::persistent_capnp::persistent;
use ocluster_api::{Action, DockerBuild, Dockerfile, JobSpec};
use ocluster_client::Job;
use ocluster_tests::SOON;
use ocluster_vat::{Connection, DialOptions, ServiceId, Stats, SturdyRef, Vat};

/// Every interface there is: its name, its id, and how many methods it has.
const INTERFACES: [(&str, u64, u16); 10] = [
    ("Admin", admin::Client::TYPE_ID, 5),
    ("Job", job::Client::TYPE_ID, 3),
    ("Persistent", persistent::Client::TYPE_ID, 1),
    ("PoolAdmin", pool_admin::Client::TYPE_ID, 8),
    ("Progress", progress::Client::TYPE_ID, 1),
    ("Queue", queue::Client::TYPE_ID, 2),
    ("Registration", registration::Client::TYPE_ID, 1),
    ("Submission", submission::Client::TYPE_ID, 1),
    ("Ticket", ticket::Client::TYPE_ID, 2),
    ("Worker", worker::Client::TYPE_ID, 3),
];

/// Runs `act` where connections can live.
pub(crate) fn attack<T>(act: impl AsyncFnOnce() -> Result<T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    tokio::task::LocalSet::new().block_on(&runtime, act())
}

/// One holder of a `.cap` file, with a connection of its own.
pub(crate) struct Intruder {
    cap: SturdyRef,
    connection: Connection,
    client: ocluster_client::Client,
    _vat: Vat,
}

impl Intruder {
    /// Connects with the cap in a file.
    pub(crate) async fn with(cap: &Path) -> Result<Self> {
        let cap = SturdyRef::load(cap)?;
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&cap.address, &DialOptions::default(), &mut |_| {})
            .await?;
        Ok(Self {
            client: ocluster_client::Client::over(connection.clone(), &cap),
            cap,
            connection,
            _vat: vat,
        })
    }

    /// What the cap stands for.
    pub(crate) fn own(&self) -> Client {
        self.connection.bootstrap(&self.cap.id)
    }

    /// The secret in the cap.
    pub(crate) fn id(&self) -> Vec<u8> {
        self.cap.id.as_bytes().to_vec()
    }

    /// What another secret leads to, asked for over the same connection.
    pub(crate) fn guess(&self, id: &[u8]) -> Client {
        self.connection.bootstrap(&ServiceId::new(id))
    }

    /// Submits a build of this Dockerfile to `pool`, always over the same live object.
    pub(crate) fn submit(&self, pool: &str, dockerfile: &str) -> Result<Job> {
        let spec = JobSpec {
            action: Action::Docker(DockerBuild {
                dockerfile: Dockerfile::Contents(dockerfile.to_owned()),
                push: None,
                build_args: Vec::new(),
                squash: false,
                buildkit: false,
                include_git: false,
            }),
            cache_hint: String::new(),
            source: None,
            secrets: Vec::new(),
        };
        self.submit_spec(pool, &spec)
    }

    /// Submits any job.
    pub(crate) fn submit_spec(&self, pool: &str, spec: &JobSpec) -> Result<Job> {
        Ok(self.client.submit(pool, spec, false)?)
    }

    /// Submits a job, and gives its ticket and the job itself as the scheduler hands them out.
    pub(crate) async fn submit_raw(&self, pool: &str) -> Result<(Client, Client)> {
        let mut request = self.own().cast_to::<submission::Client>().submit_request();
        request.get().set_pool(pool);
        let answer = request.send().promise.await?;
        let ticket = answer.get()?.get_ticket()?;
        let answer = ticket.job_request().send().promise.await?;
        Ok((ticket.cast_to(), answer.get()?.get_job()?.cast_to()))
    }

    /// Joins the pool of the cap as a worker of one slot.
    pub(crate) async fn join(&self, name: &str) -> Result<Spy> {
        let mut request = self
            .own()
            .cast_to::<registration::Client>()
            .register_request();
        request.get().set_name(name);
        request.get().set_capacity(1);
        request.get().set_worker(capnp_rpc::new_client(Silent));
        let answer = request.send().promise.await?;
        Ok(Spy {
            queue: answer.get()?.get_queue()?,
        })
    }
}

/// Checks that `cap` answers to these interfaces only: every method of every other one is refused as unknown.
pub(crate) async fn only_answers_to(cap: &Client, interfaces: &[&str]) -> Result<()> {
    for (name, interface, methods) in INTERFACES {
        if interfaces.contains(&name) {
            continue;
        }
        for method in 0..methods {
            let call =
                cap.new_call::<any_pointer::Owned, any_pointer::Owned>(interface, method, None);
            let answer = tokio::time::timeout(SOON, call.send().promise).await;
            let answer = answer.with_context(|| format!("{name}, method {method}: no answer"))?;
            match answer {
                Ok(_) => anyhow::bail!("{name}, method {method}: it was done"),
                Err(error) => ensure!(
                    error.kind == capnp::ErrorKind::Unimplemented,
                    "{name}, method {method}: {error}"
                ),
            }
        }
    }
    Ok(())
}

/// Why nothing can be done with `cap`.
pub(crate) async fn refusal(cap: &Client) -> Result<String> {
    let call = cap.clone().cast_to::<admin::Client>().pools_request();
    let answer = tokio::time::timeout(SOON, call.send().promise).await?;
    match answer {
        Ok(_) => anyhow::bail!("it was done"),
        Err(error) => Ok(error.extra),
    }
}

/// A worker that looks at what it is given and calls it done.
pub(crate) struct Spy {
    queue: queue::Client,
}

impl Spy {
    /// Its place in the pool.
    pub(crate) fn place(&self) -> Client {
        self.queue.clone().cast_to()
    }

    /// Asks for a job, in the background. What comes is kept, printed whole.
    pub(crate) fn ask(&self) -> Rc<RefCell<Option<String>>> {
        self.ask_and(|description| format!("{description:?}"))
    }

    /// Asks for a job and waits for it.
    pub(crate) async fn next(&self) -> Result<String> {
        let given = self.ask();
        eventually("a job", || Ok(given.borrow_mut().take())).await
    }

    /// Asks for a job, waits for it, and reads it as workers do.
    pub(crate) async fn next_spec(&self) -> Result<JobSpec> {
        let given = self.ask_and(JobSpec::read);
        Ok(eventually("a job", || Ok(given.borrow_mut().take())).await??)
    }

    fn ask_and<T: 'static>(
        &self,
        read: impl FnOnce(job_descr::Reader<'_>) -> T + 'static,
    ) -> Rc<RefCell<Option<T>>> {
        let mut request = self.queue.pop_request();
        request
            .get()
            .set_job(capnp_rpc::new_client::<job::Client, _>(Silent));
        let given = Rc::new(RefCell::new(None));
        let keep = given.clone();
        tokio::task::spawn_local(async move {
            let answer = request.send().promise.await?;
            *keep.borrow_mut() = Some(read(answer.get()?.get_descr()?));
            Ok::<(), capnp::Error>(())
        });
        given
    }
}

/// Waits for something without keeping connections from being served.
pub(crate) async fn eventually<T>(
    what: &str,
    mut look: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let waiting = async {
        loop {
            if let Some(found) = look()? {
                return Ok(found);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(SOON, waiting).await;
    found.with_context(|| format!("waited in vain for {what}"))?
}

/// Stands for the worker, and for its jobs, which are done at once without a word.
struct Silent;

impl worker::Server for Silent {}

impl job::Server for Silent {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        results.get().set_next(params.get()?.get_start().max(0));
        results.get().set_log(&[]);
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        results.get().set_output("");
        Ok(())
    }
}
