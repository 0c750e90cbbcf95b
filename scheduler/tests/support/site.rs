//! A scheduler inside the test, and the directories that outlive it.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::{admin, pool_admin};
use ocluster_api::extensions_capnp::{admin_endpoint, pool_admin_endpoint};
use ocluster_cli::LogCounts;
use ocluster_scheduler::config::{JobPolicy, Retention};
use ocluster_scheduler::{Config, Started};
use ocluster_vat::{Connection, DialOptions, Limits, Location, ServiceId, Stats, SturdyRef, Vat};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::POOL;
use super::client::Client;
use super::keeper::Keeper;
use super::leased::{Joining, LeasedWorker, Verdict};
use super::worker::{FakeWorker, Traits};

/// The directories of a scheduler.
pub(crate) struct Site {
    dir: TempDir,
    config: Config,
}

impl Site {
    /// Empty directories, for a scheduler without TLS that has the pool [`POOL`] and the client `client`.
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    /// As [`Site::new`], with TLS.
    pub(crate) fn with_tls() -> Self {
        Self::with(|config| config.disable_tls = false)
    }

    /// As [`Site::new`], with changes.
    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = TempDir::new().unwrap();
        let secrets_dir = dir.path().join("secrets");
        std::fs::create_dir(&secrets_dir).unwrap();
        let mut config = Config {
            key_file: Some(dir.path().join("key.pem")),
            listen: Location::tcp("127.0.0.1", 0),
            public: None,
            disable_tls: true,
            secrets_dir,
            state_dir: dir.path().join("state"),
            pools: vec![(POOL.to_owned(), ocluster_scheduling::Policy::default())],
            default_clients: vec!["client".to_owned()],
            listen_prometheus: None,
            limits: Limits::default(),
            ping_interval: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(60),
            update_timeout: Duration::from_secs(600),
            max_log_bytes: 0,
            max_queued_bytes: usize::MAX,
            jobs: JobPolicy::default(),
            min_free_bytes: 0,
            export_every: None,
            retention: Retention {
                log_age: None,
                log_bytes: None,
                jobs: 1000,
                job_age: Duration::from_secs(86_400),
                hint_days: None,
            },
            log_counts: LogCounts::new(),
            preset_ids: None,
        };
        change(&mut config);
        Self { dir, config }
    }

    /// For changes between two runs.
    pub(crate) fn config(&mut self) -> &mut Config {
        &mut self.config
    }

    pub(crate) fn path(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// A site as it would be found if the power failed now: a copy of what is on disk, while the scheduler goes on.
    pub(crate) fn after_power_failure(&self) -> Self {
        let dir = TempDir::new().unwrap();
        copy_dir(self.dir.path(), dir.path());
        let moved = |path: &Path| {
            let inside = path.strip_prefix(self.dir.path()).unwrap();
            dir.path().join(inside)
        };
        let mut config = self.config.clone();
        config.key_file = config.key_file.as_deref().map(moved);
        config.secrets_dir = moved(&config.secrets_dir);
        config.state_dir = moved(&config.state_dir);
        Self { dir, config }
    }

    /// The bytes of every `.cap` file, by name.
    pub(crate) fn cap_files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files: Vec<_> = std::fs::read_dir(&self.config.secrets_dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                let name = entry.file_name().into_string().unwrap();
                (name, std::fs::read(entry.path()).unwrap())
            })
            .collect();
        files.sort();
        files
    }

    /// Starts the scheduler and waits until it serves.
    pub(crate) async fn start(&self) -> Running {
        let (ready, started) = oneshot::channel();
        let shutdown = CancellationToken::new();
        let run = ocluster_scheduler::run(self.config.clone(), shutdown.clone(), |started| {
            let _ = ready.send(started);
        });
        let task = tokio::task::spawn_local(run);
        let Ok(started) = started.await else {
            panic!("the scheduler did not start: {:?}", task.await);
        };
        Running {
            started,
            secrets_dir: self.config.secrets_dir.clone(),
            shutdown,
            task,
            vats: Rc::default(),
        }
    }

    /// Starts the scheduler, which must fail, and gives its complaint.
    pub(crate) async fn refuse_to_start(&self) -> String {
        let run = ocluster_scheduler::run(self.config.clone(), CancellationToken::new(), |_| {});
        format!("{:#}", run.await.expect_err("it should not have started"))
    }
}

/// Copies what is on disk of a scheduler that goes on running: what would be left if the power failed now.
pub(crate) fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&from, &to);
        } else {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// A scheduler that serves. Stops when dropped, without waiting.
pub(crate) struct Running {
    pub(crate) started: Started,
    secrets_dir: std::path::PathBuf,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    /// Kept, because a vat knows its connections.
    vats: Rc<RefCell<Vec<Vat>>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Running {
    /// Where it listens, for plain sockets.
    pub(crate) fn socket(&self) -> std::net::SocketAddr {
        match &self.started.listening {
            Location::Tcp { host, port } => format!("{host}:{port}").parse().unwrap(),
            Location::Unix(path) => panic!("listens on {}", path.display()),
        }
    }

    /// What a `.cap` file holds, made to lead to this run: after a restart on a free port, the port is another.
    pub(crate) fn cap(&self, file: &str) -> SturdyRef {
        let mut cap = SturdyRef::load(&self.secrets_dir.join(file)).unwrap();
        cap.address.location = self.started.listening.clone();
        cap
    }

    /// A connection of its own to the scheduler.
    pub(crate) async fn connect(&self, to: &SturdyRef) -> Connection {
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&to.address, &DialOptions::default(), &mut |_| {})
            .await
            .unwrap();
        self.vats.borrow_mut().push(vat);
        connection
    }

    pub(crate) async fn admin(&self) -> admin::Client {
        let cap = self.cap("admin.cap");
        self.connect(&cap).await.bootstrap(&cap.id)
    }

    pub(crate) async fn pool_admin(&self) -> pool_admin::Client {
        let mut request = self.admin().await.pool_request();
        request.get().set_name(POOL);
        request.send().pipeline.get_pool()
    }

    /// The administration, by the extended interface.
    pub(crate) async fn admin_endpoint(&self) -> admin_endpoint::Client {
        self.admin().await.cast_to()
    }

    /// The administration of [`POOL`], by the extended interface.
    pub(crate) async fn pool_endpoint(&self) -> pool_admin_endpoint::Client {
        self.pool_admin().await.cast_to()
    }

    /// The client of the `.cap` file that exists from the start.
    pub(crate) async fn client(&self) -> Client {
        self.client_by(&self.cap("submit-client.cap")).await
    }

    pub(crate) async fn client_by(&self, cap: &SturdyRef) -> Client {
        let connection = self.connect(cap).await;
        let submission = connection.bootstrap(&cap.id);
        Client {
            connection,
            submission,
        }
    }

    /// A worker of one slot.
    pub(crate) async fn worker(&self, name: &str) -> FakeWorker {
        self.worker_with(name, 1, Traits::default()).await
    }

    pub(crate) async fn worker_with(
        &self,
        name: &str,
        capacity: u32,
        traits: Traits,
    ) -> FakeWorker {
        let cap = self.cap(&format!("pool-{POOL}.cap"));
        let connection = self.connect(&cap).await;
        FakeWorker::join(connection, &cap.id, name, capacity, traits)
            .await
            .unwrap()
    }

    /// A worker that keeps durable jobs while it is away, with one slot and nothing to declare.
    pub(crate) async fn leased_worker(&self, name: &str) -> LeasedWorker {
        let (worker, verdicts) = self.leased_worker_with(Joining::new(name)).await.unwrap();
        assert!(verdicts.is_empty());
        worker
    }

    /// A worker that comes back with jobs, and what the scheduler says to each.
    pub(crate) async fn leased_worker_with(
        &self,
        joining: Joining,
    ) -> Result<(LeasedWorker, Vec<Verdict>), String> {
        let cap = self.cap(&format!("pool-{POOL}.cap"));
        let connection = self.connect(&cap).await;
        LeasedWorker::join(connection, &cap.id, joining).await
    }

    /// The client of the `.cap` file that exists from the start, as one who has jobs kept.
    pub(crate) async fn keeper(&self) -> Keeper {
        Keeper::new(self.client().await)
    }

    /// A worker that may be refused.
    pub(crate) async fn try_worker(&self, name: &str) -> Result<FakeWorker, String> {
        let cap = self.cap(&format!("pool-{POOL}.cap"));
        let connection = self.connect(&cap).await;
        FakeWorker::join(connection, &cap.id, name, 1, Traits::default()).await
    }

    /// The id of the pool's registration.
    pub(crate) fn pool_id(&self) -> ServiceId {
        self.cap(&format!("pool-{POOL}.cap")).id
    }

    /// Stops the scheduler, gracefully, and waits for its end.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        (&mut self.task).await.unwrap().unwrap();
    }
}

/// The pool as `show` prints it.
pub(crate) async fn show(pool: &pool_admin::Client) -> String {
    let response = pool.show_request().send().promise.await.unwrap();
    let state = response.get().unwrap().get_state().unwrap();
    state.to_string().unwrap()
}

/// The known workers as `name`, `connected`, `active`.
pub(crate) async fn workers(pool: &pool_admin::Client) -> Vec<(String, bool, bool)> {
    let response = pool.workers_request().send().promise.await.unwrap();
    let list = response.get().unwrap().get_workers().unwrap();
    list.iter()
        .map(|info| {
            let name = info.get_name().unwrap().to_string().unwrap();
            (name, info.get_connected(), info.get_active())
        })
        .collect()
}

pub(crate) async fn set_active(
    pool: &pool_admin::Client,
    worker: &str,
    active: bool,
    auto_create: bool,
) -> capnp::Result<()> {
    let mut request = pool.set_active_request();
    request.get().set_worker(worker);
    request.get().set_active(active);
    request.get().set_auto_create(auto_create);
    request.send().promise.await.map(drop)
}

/// Adds a client, who then uses the admin's connection.
pub(crate) async fn add(
    scheduler: &Running,
    admin: &admin::Client,
    name: &str,
) -> capnp::Result<Client> {
    let mut request = admin.add_client_request();
    request.get().set_id(name);
    let response = request.send().promise.await?;
    let connection = scheduler.connect(&scheduler.cap("admin.cap")).await;
    Ok(Client {
        connection,
        submission: response.get()?.get_cap()?,
    })
}

pub(crate) async fn remove(admin: &admin::Client, name: &str) -> capnp::Result<()> {
    let mut request = admin.remove_client_request();
    request.get().set_id(name);
    request.send().promise.await.map(drop)
}
