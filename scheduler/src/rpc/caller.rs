//! Who calls, and whether they still may: looked at anew with every call, and again after every wait, so that a client whose access
//! was revoked is out at once, with all that it holds.

use std::rc::Rc;

use ocluster_api::extensions_capnp::job_query;
use ocluster_scheduling::ClientId;
use ocluster_store::JobId;
use ocluster_vat::error as rpc_error;

use super::query;
use crate::clients::SecretHash;
use crate::jobs::{Asker, Shown};
use crate::state::Scheduler;

/// Whoever got an object from us by a sturdy ref, or from such an object.
#[derive(Clone)]
pub(crate) struct Caller {
    scheduler: Rc<Scheduler>,
    who: Who,
}

#[derive(Clone)]
enum Who {
    Client {
        client: ClientId,
        /// The secret by which the client came here.
        hash: SecretHash,
    },
    /// The secret of the administration never changes.
    Admin,
}

impl Caller {
    /// A client, who came by the secret with this hash.
    pub(crate) fn client(scheduler: Rc<Scheduler>, client: ClientId, hash: SecretHash) -> Self {
        let who = Who::Client { client, hash };
        Self { scheduler, who }
    }

    /// An administrator.
    pub(crate) fn admin(scheduler: Rc<Scheduler>) -> Self {
        Self {
            scheduler,
            who: Who::Admin,
        }
    }

    /// The scheduler that is called.
    pub(crate) fn scheduler(&self) -> &Rc<Scheduler> {
        &self.scheduler
    }

    /// In whose name jobs may be asked about now.
    ///
    /// # Errors
    /// If the client's access was revoked.
    pub(crate) fn asker(&self) -> capnp::Result<Asker> {
        match &self.who {
            Who::Admin => Ok(Asker::Admin),
            Who::Client { client, hash } => {
                let owner = self.scheduler.clients().owner(hash);
                if owner.as_ref() == Some(client) {
                    Ok(Asker::Client(client.clone()))
                } else {
                    Err(rpc_error::failed("Access has been revoked"))
                }
            }
        }
    }

    /// Finds a job by its id or an unambiguous beginning of it.
    ///
    /// # Errors
    /// If there is none that the caller may see, or the client's access was revoked.
    pub(super) async fn find(&self, text: capnp::text::Reader<'_>) -> capnp::Result<JobId> {
        let asker = self.asker()?;
        let found = self.scheduler.find_job(&asker, query::id_text(text)?).await;
        found.map_err(|error| rpc_error::failed(error.to_string()))
    }

    /// One page of the jobs that match, and where the next one begins, if there is one.
    ///
    /// # Errors
    /// If the query is none, the store does not answer, or the client's access was revoked.
    pub(super) async fn list(
        &self,
        query: job_query::Reader<'_>,
    ) -> capnp::Result<(Vec<Shown>, Option<JobId>)> {
        let asker = self.asker()?;
        let filter = query::read(query)?;
        let found = self.scheduler.list_jobs(&asker, &filter).await;
        let (jobs, more) = found.map_err(|error| rpc_error::failed(error.to_string()))?;
        Ok(query::page(jobs, more))
    }

    /// Makes a change that, once begun, is completed even if the caller does not wait for it. Only a scheduler that stops does not wait
    /// either: what is on its way to the disk gets there, and nobody can be told any more.
    ///
    /// # Errors
    /// If the change comes to no end: it crashed, or the scheduler stops.
    pub(crate) async fn completely<T: 'static>(
        &self,
        change: impl Future<Output = T> + 'static,
    ) -> capnp::Result<T> {
        let scheduler = self.scheduler.clone();
        let task = self.scheduler.tasks().spawn_local(async move {
            tokio::select! {
                biased;
                done = change => Some(done),
                () = scheduler.stops() => None,
            }
        });
        let done = task.await.ok().flatten();
        done.ok_or_else(|| rpc_error::failed("The scheduler stopped in the middle of this"))
    }
}
