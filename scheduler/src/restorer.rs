//! From the secret in a sturdy ref to the object it stands for: the admin service, a pool's registration, or a client's access.
//!
//! Secrets are looked up by their hash, so that the time it takes says nothing about them.

use std::collections::HashMap;
use std::rc::Rc;

use capnp::capability::{Client, FromClientHook as _};
use futures::future::LocalBoxFuture;
use ocluster_api::extensions_capnp::{admin_endpoint, registration_endpoint};
use ocluster_scheduling::PoolName;
use ocluster_vat::{Connection, RestoreError, Restorer, ServiceId};

use crate::clients::SecretHash;
use crate::rpc::{AdminServer, ClientAccess, Liveness, RegistrationServer};
use crate::state::Scheduler;

/// The services that exist as long as the scheduler runs.
pub(crate) struct ClusterRestorer {
    scheduler: Rc<Scheduler>,
    access: ClientAccess,
    admin: SecretHash,
    pools: HashMap<SecretHash, PoolName>,
    liveness: Liveness,
}

impl ClusterRestorer {
    pub(crate) fn new(
        scheduler: Rc<Scheduler>,
        access: ClientAccess,
        admin: &ServiceId,
        pools: impl IntoIterator<Item = (ServiceId, PoolName)>,
        liveness: Liveness,
    ) -> Self {
        Self {
            scheduler,
            access,
            admin: admin.hash(),
            pools: pools
                .into_iter()
                .map(|(id, pool)| (id.hash(), pool))
                .collect(),
            liveness,
        }
    }

    fn find(&self, connection: &Connection, id: &ServiceId) -> Option<Client> {
        let hash = id.hash();
        if hash == self.admin {
            let server = AdminServer::new(self.scheduler.clone(), self.access.clone());
            let admin: admin_endpoint::Client = capnp_rpc::new_client(server);
            return Some(admin.cast_to());
        }
        if let Some(pool) = self.pools.get(&hash) {
            let server = RegistrationServer::new(
                self.scheduler.clone(),
                pool.clone(),
                connection.clone(),
                self.liveness,
            );
            let registration: registration_endpoint::Client = capnp_rpc::new_client(server);
            return Some(registration.cast_to());
        }
        let client = self.scheduler.clients().owner(&hash)?;
        Some(self.access.submission(client, id).cast_to())
    }
}

impl Restorer for ClusterRestorer {
    fn restore<'a>(
        &'a self,
        connection: &'a Connection,
        id: &'a [u8],
    ) -> LocalBoxFuture<'a, Result<Client, RestoreError>> {
        let found = self.find(connection, &ServiceId::new(id));
        Box::pin(std::future::ready(found.ok_or(RestoreError::Unknown)))
    }
}
