//! A scheduler with one pool, `linux`, as far as an administrator can tell. It knows names and flags, and no more than the frozen
//! protocol; what our own schedulers know beyond that is in `modern`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use capnp::Error;
use capnp::capability::FromClientHook;
use ocluster_api::cluster_capnp::{admin, pool_admin, submission};
use ocluster_api::extensions_capnp::submission_endpoint;
use ocluster_api::persistent_capnp::persistent;
use ocluster_cli::testing::TestServer;
use ocluster_vat::SecretKey;

pub(crate) struct Scheduler {
    pub(crate) server: TestServer,
    events: Arc<Mutex<Vec<String>>>,
}

impl Scheduler {
    /// One without TLS whose pool has these workers: names, followed by "disconnected" or "paused".
    pub(crate) fn start(workers: &[&str]) -> Self {
        Self::start_with(workers, None)
    }

    pub(crate) fn start_with(workers: &[&str], key: Option<SecretKey>) -> Self {
        Self::serve(workers, key, |pool| {
            let admin: admin::Client = capnp_rpc::new_client(Admin(pool));
            admin.client
        })
    }

    /// One whose administration is what `serve` makes of the pool.
    pub(crate) fn serve(
        workers: &[&str],
        key: Option<SecretKey>,
        serve: fn(Rc<Pool>) -> capnp::capability::Client,
    ) -> Self {
        let workers: Vec<Worker> = workers.iter().map(|text| Worker::parse(text)).collect();
        let events = Arc::new(Mutex::new(Vec::new()));
        let server = TestServer::start(key, {
            let events = events.clone();
            move || {
                let pool = Rc::new(Pool {
                    workers: RefCell::new(workers),
                    clients: RefCell::default(),
                    events,
                });
                serve(pool)
            }
        });
        Self { server, events }
    }

    /// What was changed so far.
    pub(crate) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().clone()
    }
}

pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) active: bool,
    pub(crate) connected: bool,
}

impl Worker {
    fn parse(text: &str) -> Self {
        let mut words = text.split(' ');
        let name = words.next().unwrap().to_owned();
        let flags: Vec<&str> = words.collect();
        Self {
            name,
            active: !flags.contains(&"paused"),
            connected: !flags.contains(&"disconnected"),
        }
    }
}

pub(crate) struct Pool {
    pub(crate) workers: RefCell<Vec<Worker>>,
    clients: RefCell<Vec<String>>,
    events: Arc<Mutex<Vec<String>>>,
}

impl Pool {
    /// Whether there is a worker of that name, which is then paused or not.
    pub(crate) fn set(&self, name: &str, active: bool) -> bool {
        let mut workers = self.workers.borrow_mut();
        let found = workers.iter_mut().find(|worker| worker.name == name);
        found.map(|worker| worker.active = active).is_some()
    }

    pub(crate) fn log(&self, event: String) {
        self.events.lock().unwrap().push(event);
    }
}

pub(crate) struct Admin(pub(crate) Rc<Pool>);

pub(crate) fn failed(reason: impl Into<String>) -> Error {
    Error::failed(reason.into())
}

impl admin::Server for Admin {
    async fn pools(
        self: Rc<Self>,
        _: admin::PoolsParams,
        mut results: admin::PoolsResults,
    ) -> Result<(), Error> {
        let mut names = results.get().init_names(2);
        names.set(0, "arm");
        names.set(1, "linux");
        Ok(())
    }

    async fn pool(
        self: Rc<Self>,
        params: admin::PoolParams,
        mut results: admin::PoolResults,
    ) -> Result<(), Error> {
        let pool = match params.get()?.get_name()?.to_str()? {
            "linux" => capnp_rpc::new_client(PoolAdmin(self.0.clone())),
            _ => FromClientHook::new(capnp_rpc::new_broken_cap(failed("No such pool")).hook),
        };
        results.get().set_pool(pool);
        Ok(())
    }

    async fn add_client(
        self: Rc<Self>,
        params: admin::AddClientParams,
        mut results: admin::AddClientResults,
    ) -> Result<(), Error> {
        let id = params.get()?.get_id()?.to_string()?;
        let mut clients = self.0.clients.borrow_mut();
        if clients.contains(&id) {
            return Err(failed(format!("Client {id:?} already registered!")));
        }
        clients.push(id.clone());
        clients.sort();
        let endpoint: submission_endpoint::Client = capnp_rpc::new_client(Endpoint(id));
        results.get().set_cap(endpoint.client.cast_to());
        Ok(())
    }

    async fn remove_client(
        self: Rc<Self>,
        params: admin::RemoveClientParams,
        _: admin::RemoveClientResults,
    ) -> Result<(), Error> {
        let id = params.get()?.get_id()?.to_string()?;
        let mut clients = self.0.clients.borrow_mut();
        let before = clients.len();
        clients.retain(|client| *client != id);
        if clients.len() == before {
            Err(failed(format!("Unknown client {id:?}")))
        } else {
            Ok(())
        }
    }

    async fn list_clients(
        self: Rc<Self>,
        _: admin::ListClientsParams,
        mut results: admin::ListClientsResults,
    ) -> Result<(), Error> {
        let clients = self.0.clients.borrow();
        let mut list = results.get().init_clients(clients.len() as u32);
        for (index, client) in (0..).zip(clients.iter()) {
            list.set(index, client);
        }
        Ok(())
    }
}

/// A client's access, which tells its sturdy ref.
struct Endpoint(String);

impl submission::Server for Endpoint {}

impl submission_endpoint::Server for Endpoint {}

impl persistent::Server for Endpoint {
    async fn save(
        self: Rc<Self>,
        _: persistent::SaveParams,
        mut results: persistent::SaveResults,
    ) -> Result<(), Error> {
        let uri = format!("capnp://insecure@127.0.0.1:9000/{}", self.0);
        results.get().init_sturdy_ref().set_as(uri.as_str())
    }
}

pub(crate) struct PoolAdmin(pub(crate) Rc<Pool>);

impl pool_admin::Server for PoolAdmin {
    async fn show(
        self: Rc<Self>,
        _: pool_admin::ShowParams,
        mut results: pool_admin::ShowResults,
    ) -> Result<(), Error> {
        results.get().set_state(
            "\ncapacity: 2\nqueue: (backlog) []\nregistered:\ndisconnected:\nclients: \n\n",
        );
        Ok(())
    }

    async fn workers(
        self: Rc<Self>,
        _: pool_admin::WorkersParams,
        mut results: pool_admin::WorkersResults,
    ) -> Result<(), Error> {
        let workers = self.0.workers.borrow();
        let mut list = results.get().init_workers(workers.len() as u32);
        for (index, worker) in (0..).zip(workers.iter()) {
            let mut info = list.reborrow().get(index);
            info.set_name(&worker.name);
            info.set_active(worker.active);
            info.set_connected(worker.connected);
        }
        Ok(())
    }

    async fn set_active(
        self: Rc<Self>,
        params: pool_admin::SetActiveParams,
        _: pool_admin::SetActiveResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let name = params.get_worker()?.to_string()?;
        if !self.0.set(&name, params.get_active()) {
            if !params.get_auto_create() {
                return Err(failed("Unknown worker"));
            }
            self.0.workers.borrow_mut().push(Worker {
                name: name.clone(),
                active: params.get_active(),
                connected: false,
            });
        }
        self.0.log(format!(
            "{name} is {}",
            if params.get_active() {
                "unpaused"
            } else {
                "paused"
            }
        ));
        Ok(())
    }

    async fn drain(
        self: Rc<Self>,
        params: pool_admin::DrainParams,
        _: pool_admin::DrainResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let name = params.get_worker()?.to_string()?;
        let progress = params.get_progress()?;
        let connected = self
            .0
            .workers
            .borrow()
            .iter()
            .any(|worker| worker.name == name && worker.connected);
        let reports: &[&str] = if connected {
            // A worker called "busy" never gets any further than the first.
            &["Running jobs: 2", "Running jobs: 1", "Running jobs: 0"]
        } else {
            &["Disconnected (nothing to drain)"]
        };
        for report in reports {
            let mut request = progress.report_request();
            request.get().set_status(*report);
            request.send().promise.await?;
            if name == "busy" {
                std::future::pending::<()>().await;
            }
        }
        self.0.log(format!("{name} is drained"));
        Ok(())
    }

    async fn update(
        self: Rc<Self>,
        params: pool_admin::UpdateParams,
        _: pool_admin::UpdateResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let name = params.get_worker()?.to_string()?;
        let progress = params.get_progress()?;
        if !self
            .0
            .workers
            .borrow()
            .iter()
            .any(|worker| worker.name == name && worker.connected)
        {
            return Err(failed("Unknown worker"));
        }
        for report in ["Running jobs: 1", "Restarting"] {
            let mut request = progress.report_request();
            request.get().set_status(report);
            request.send().promise.await?;
        }
        if name.starts_with("bad") {
            return Err(failed("Timeout waiting for worker to reconnect!"));
        }
        self.0.log(format!("{name} is updated"));
        Ok(())
    }

    async fn set_rate(
        self: Rc<Self>,
        params: pool_admin::SetRateParams,
        _: pool_admin::SetRateResults,
    ) -> Result<(), Error> {
        let params = params.get()?;
        let id = params.get_id()?.to_string()?;
        if !self.0.clients.borrow().contains(&id) {
            return Err(failed("No such user"));
        }
        self.0
            .log(format!("{id}'s rate in linux is {}", params.get_rate()));
        Ok(())
    }

    async fn forget(
        self: Rc<Self>,
        params: pool_admin::ForgetParams,
        _: pool_admin::ForgetResults,
    ) -> Result<(), Error> {
        let name = params.get()?.get_worker()?.to_string()?;
        let mut workers = self.0.workers.borrow_mut();
        match workers.iter().find(|worker| worker.name == name) {
            Some(worker) if worker.connected => {
                return Err(failed(format!("Worker {name:?} is still connected!")));
            }
            Some(_) => workers.retain(|worker| worker.name != name),
            None => return Err(failed(format!("Worker {name:?} not known in this pool"))),
        }
        Ok(())
    }
}
