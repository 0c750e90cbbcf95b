//! The calls an administrator makes, in plain types.
//!
//! All of it lives on the thread that connected. Errors name the method that failed, as OCluster's own tool shows them.

use std::future::Future;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use ocluster_api::cluster_capnp::{admin, pool_admin};
use ocluster_api::persistent_capnp::persistent;
use ocluster_vat::{Connection, RpcError, SturdyRef};
use thiserror::Error;

use crate::progress::reporter;

mod jobs;
mod places;

pub use jobs::{Job, JobsQuery, LogPiece};
pub use places::{Description, Evicted, Facts, Kept};

/// After this much silence the scheduler is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(5);
/// After this much silence the connection is given up.
const SILENCE_LIMIT: Duration = Duration::from_secs(15);

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{method}: {error}")]
pub struct CallError {
    /// Which call, e.g. `PoolAdmin.show`.
    pub method: &'static str,
    /// Why.
    pub error: RpcError,
}

/// The whole cluster.
#[derive(Clone)]
pub struct Cluster(admin::Client);

/// One pool. Whether it exists shows in the first call.
#[derive(Clone)]
pub struct Pool(pool_admin::Client);

/// A worker that the scheduler knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Its name.
    pub name: String,
    /// Whether it is not paused by an administrator.
    pub active: bool,
    /// Whether it is there now.
    pub connected: bool,
}

impl Cluster {
    /// Uses a connection to the scheduler that `cap`, an admin capability, names. If the scheduler goes silent, the connection is
    /// closed within 15 seconds and every call fails.
    #[must_use]
    pub fn over(connection: &Connection, cap: &SturdyRef) -> Self {
        let admin: admin::Client = connection.bootstrap(&cap.id);
        let (watched, object) = (connection.clone(), admin.client.clone());
        // Ends with the connection.
        tokio::task::spawn_local(async move {
            ocluster_vat::watch(&watched, &object, PING_INTERVAL, SILENCE_LIMIT).await;
        });
        Self(admin)
    }

    /// The names of the pools.
    ///
    /// # Errors
    /// When the capability is not an admin's any more, or the connection was lost.
    pub async fn pools(&self) -> Result<Vec<String>, CallError> {
        call("Admin.pools", async {
            let response = self.0.pools_request().send().promise.await?;
            texts(response.get()?.get_names()?)
        })
        .await
    }

    /// A pool by its name.
    #[must_use]
    pub fn pool(&self, name: &str) -> Pool {
        let mut request = self.0.pool_request();
        request.get().set_name(name);
        Pool(request.send().pipeline.get_pool())
    }

    /// Registers a client, and gives the URI of its submission capability.
    ///
    /// # Errors
    /// When there is a client of that id, or the scheduler does not tell the URI.
    pub async fn add_client(&self, id: &str) -> Result<String, CallError> {
        let mut request = self.0.add_client_request();
        request.get().set_id(id);
        let response = call("Admin.addClient", async { request.send().promise.await }).await?;
        call("Persistent.save", async {
            let submission = response.get()?.get_cap()?;
            let submission: persistent::Client = submission.client.cast_to();
            let response = submission.save_request().send().promise.await?;
            let uri: capnp::text::Reader<'_> = response.get()?.get_sturdy_ref().get_as()?;
            text(uri)
        })
        .await
    }

    /// Takes a client's access away.
    ///
    /// # Errors
    /// When there is no such client.
    pub async fn remove_client(&self, id: &str) -> Result<(), CallError> {
        let mut request = self.0.remove_client_request();
        request.get().set_id(id);
        call("Admin.removeClient", async {
            request.send().promise.await.map(drop)
        })
        .await
    }

    /// The ids of all clients.
    ///
    /// # Errors
    /// When the capability is not an admin's any more, or the connection was lost.
    pub async fn clients(&self) -> Result<Vec<String>, CallError> {
        call("Admin.listClients", async {
            let response = self.0.list_clients_request().send().promise.await?;
            texts(response.get()?.get_clients()?)
        })
        .await
    }
}

impl Pool {
    /// The pool's state, for people.
    ///
    /// # Errors
    /// When there is no such pool.
    pub async fn show(&self) -> Result<String, CallError> {
        call("PoolAdmin.show", async {
            let response = self.0.show_request().send().promise.await?;
            text(response.get()?.get_state()?)
        })
        .await
    }

    /// All workers that the pool knows, connected or not.
    ///
    /// # Errors
    /// When there is no such pool.
    pub async fn workers(&self) -> Result<Vec<Worker>, CallError> {
        call("PoolAdmin.workers", async {
            let response = self.0.workers_request().send().promise.await?;
            let workers = response.get()?.get_workers()?.iter().map(|info| {
                let name = text(info.get_name()?)?;
                Ok(Worker {
                    name,
                    active: info.get_active(),
                    connected: info.get_connected(),
                })
            });
            workers.collect()
        })
        .await
    }

    /// Pauses (`active` is false) or unpauses a worker.
    ///
    /// # Errors
    /// When there is no such pool, or no such worker and it is not to be created.
    pub async fn set_active(
        &self,
        worker: &str,
        active: bool,
        auto_create: bool,
    ) -> Result<(), CallError> {
        let mut request = self.0.set_active_request();
        let mut params = request.get();
        params.set_worker(worker);
        params.set_active(active);
        params.set_auto_create(auto_create);
        call("PoolAdmin.setActive", async {
            request.send().promise.await.map(drop)
        })
        .await
    }

    /// Pauses a worker, and waits until it has finished its jobs. The scheduler's lines about how that goes are passed to `report`.
    ///
    /// Dropping the future stops the waiting; the worker stays paused.
    ///
    /// # Errors
    /// When there is no such pool or worker.
    pub async fn drain(
        &self,
        worker: &str,
        report: impl Fn(&str) + 'static,
    ) -> Result<(), CallError> {
        let mut request = self.0.drain_request();
        request.get().set_worker(worker);
        request.get().set_progress(reporter(report));
        call("PoolAdmin.drain", async {
            request.send().promise.await.map(drop)
        })
        .await
    }

    /// Has a worker finish its jobs and restart as a newer version, and waits until it is back. The scheduler's lines about how
    /// that goes are passed to `report`.
    ///
    /// Dropping the future stops the waiting, not the update.
    ///
    /// # Errors
    /// When there is no such pool, the worker is not connected, cannot update itself, or does not come back.
    pub async fn update(
        &self,
        worker: &str,
        report: impl Fn(&str) + 'static,
    ) -> Result<(), CallError> {
        let mut request = self.0.update_request();
        request.get().set_worker(worker);
        request.get().set_progress(reporter(report));
        call("PoolAdmin.update", async {
            request.send().promise.await.map(drop)
        })
        .await
    }

    /// Sets how many jobs a client may expect to have running at once.
    ///
    /// # Errors
    /// When there is no such pool or client.
    pub async fn set_rate(&self, client: &str, rate: f64) -> Result<(), CallError> {
        let mut request = self.0.set_rate_request();
        request.get().set_id(client);
        request.get().set_rate(rate);
        call("PoolAdmin.setRate", async {
            request.send().promise.await.map(drop)
        })
        .await
    }

    /// Forgets a worker that is not connected.
    ///
    /// # Errors
    /// When there is no such pool or worker, or it is connected.
    pub async fn forget(&self, worker: &str) -> Result<(), CallError> {
        let mut request = self.0.forget_request();
        request.get().set_worker(worker);
        call("PoolAdmin.forget", async {
            request.send().promise.await.map(drop)
        })
        .await
    }
}

async fn call<T>(
    method: &'static str,
    calling: impl Future<Output = Result<T, capnp::Error>>,
) -> Result<T, CallError> {
    calling.await.map_err(|error| CallError {
        method,
        error: error.into(),
    })
}

fn text(reader: capnp::text::Reader<'_>) -> Result<String, capnp::Error> {
    Ok(String::from_utf8_lossy(reader.as_bytes()).into_owned())
}

fn texts(list: capnp::text_list::Reader<'_>) -> Result<Vec<String>, capnp::Error> {
    list.iter().map(|item| text(item?)).collect()
}
