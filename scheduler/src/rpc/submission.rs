//! `Submission`: one client's access to the cluster, and the sturdy ref to it.

use std::rc::Rc;

use ocluster_api::cluster_capnp::submission;
use ocluster_api::{extensions_capnp::submission_endpoint, persistent_capnp::persistent};
use ocluster_scheduling::ClientId;
use ocluster_vat::{ServiceId, SturdyRef, broken_cap, error as rpc_error};
use tracing::info;

use super::ticket::new_ticket;
use crate::clients::SecretHash;
use crate::job::Submitted;
use crate::state::{Scheduler, SubmitError};

/// A client's access.
pub(crate) struct SubmissionServer {
    scheduler: Rc<Scheduler>,
    client: ClientId,
    /// The secret by which the client came here; re-checked on every call, so that a revoked client is out at once.
    hash: SecretHash,
    sturdy_ref: SturdyRef,
}

impl SubmissionServer {
    pub(crate) fn new(
        scheduler: Rc<Scheduler>,
        client: ClientId,
        id: &ServiceId,
        sturdy_ref: SturdyRef,
    ) -> Self {
        Self {
            scheduler,
            client,
            hash: id.hash(),
            sturdy_ref,
        }
    }

    fn submit_now(
        &self,
        params: submission::submit_params::Reader<'_>,
    ) -> capnp::Result<ocluster_api::cluster_capnp::ticket::Client> {
        if self.scheduler.clients().owner(&self.hash).as_ref() != Some(&self.client) {
            return Err(rpc_error::failed("Access has been revoked"));
        }
        let urgent = params.get_urgent();
        info!(
            "Received new job request from \"{}\" (urgent={urgent})",
            self.client
        );
        let submitted = Submitted {
            pool: params.get_pool()?.to_str()?.into(),
            client: self.client.clone(),
            descr: params.get_descr()?,
            urgent,
        };
        let job = self
            .scheduler
            .submit(&submitted)
            .map_err(|error: SubmitError| rpc_error::failed(error.to_string()))?;
        Ok(new_ticket(self.scheduler.clone(), job))
    }
}

impl submission::Server for SubmissionServer {
    /// Always answers with a ticket; a refused job's is broken, with the reason, because that is what existing clients look at.
    async fn submit(
        self: Rc<Self>,
        params: submission::SubmitParams,
        mut results: submission::SubmitResults,
    ) -> capnp::Result<()> {
        let ticket = self.submit_now(params.get()?).unwrap_or_else(broken_cap);
        results.get().set_ticket(ticket);
        Ok(())
    }
}

impl persistent::Server for SubmissionServer {
    async fn save(
        self: Rc<Self>,
        _: persistent::SaveParams,
        mut results: persistent::SaveResults,
    ) -> capnp::Result<()> {
        let uri = self.sturdy_ref.to_uri();
        results.get().get_sturdy_ref().set_as(uri.as_str())
    }
}

impl submission_endpoint::Server for SubmissionServer {}
