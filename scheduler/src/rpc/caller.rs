//! Who calls, and whether they still may: looked at anew with every call, and again after every wait, so that a client whose access
//! was revoked is out at once, with all that it holds.

use std::rc::Rc;

use ocluster_scheduling::ClientId;
use ocluster_vat::error as rpc_error;

use crate::clients::SecretHash;
use crate::jobs::Asker;
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
