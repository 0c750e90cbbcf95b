//! The hidden object which answers sturdy refs: capnp-rpc's side of [`Restorer`].
//!
//! What it answers must not tell a wrong id from a badly formed one.

use std::ops::Deref;
use std::rc::Rc;

use capnp::any_pointer;
use capnp::capability::{
    Client, DispatchCallResult, FromClientHook, FromServer, Params, Promise, Results, Server,
};
use capnp::private::capability::ClientHook;

use crate::error::{failed, unimplemented};
use crate::link::Link;
use crate::{Connection, RestoreError, Restorer};

/// The interface of the calls which stand for `Bootstrap`s. Made up; it never leaves this process.
pub(crate) const RESTORE_INTERFACE: u64 = 0xd5c6_1b3e_90a7_42f8;
/// Restores the id in the parameters.
pub(crate) const RESTORE_METHOD: u16 = 0;
/// Stands for a `Bootstrap` whose object id is not a list of bytes.
pub(crate) const MALFORMED_METHOD: u16 = 1;

/// The restorer of one connection, as a capability.
pub(crate) fn client(
    connection: &Connection,
    link: &Rc<Link>,
    restorer: Option<Rc<dyn Restorer>>,
) -> Client {
    let untyped: UntypedClient = capnp_rpc::new_client(RestoreServer {
        connection: connection.clone(),
        link: link.clone(),
        restorer,
    });
    untyped.0
}

struct RestoreServer {
    connection: Connection,
    link: Rc<Link>,
    restorer: Option<Rc<dyn Restorer>>,
}

impl RestoreServer {
    async fn restore(&self, id: &[u8]) -> capnp::Result<Client> {
        let Some(restorer) = &self.restorer else {
            return Err(failed("This vat has no restorer"));
        };
        let peer = &self.link.peer;
        match restorer.restore(&self.connection, id).await {
            Ok(object) => {
                self.link.admit();
                Ok(object)
            }
            Err(e) => {
                match &e {
                    RestoreError::Unknown => {
                        tracing::info!(%peer, "Refused a sturdy ref: unknown service ID");
                    }
                    RestoreError::Internal(cause) => {
                        tracing::warn!(%peer, cause, "Failed to restore a sturdy ref");
                    }
                }
                Err(failed(e.to_string()))
            }
        }
    }
}

#[derive(Clone)]
struct RestoreDispatch(Rc<RestoreServer>);

impl Deref for RestoreDispatch {
    type Target = RestoreServer;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Server for RestoreDispatch {
    fn dispatch_call(
        self,
        interface_id: u64,
        method_id: u16,
        params: Params<any_pointer::Owned>,
        mut results: Results<any_pointer::Owned>,
    ) -> DispatchCallResult {
        let answer = async move {
            match (interface_id, method_id) {
                (RESTORE_INTERFACE, RESTORE_METHOD) => {}
                (RESTORE_INTERFACE, MALFORMED_METHOD) => {
                    return Err(failed(RestoreError::Unknown.to_string()));
                }
                _ => return Err(unimplemented("the restorer has no methods")),
            }
            let content = params.get()?;
            let id = if content.is_null() {
                &[]
            } else {
                content.get_as::<capnp::data::Reader<'_>>()?
            };
            let object = self.restore(id).await?;
            results.get().set_as_capability(object.hook);
            Ok(())
        };
        DispatchCallResult::new(Promise::from_future(answer), false)
    }

    fn as_ptr(&self) -> usize {
        Rc::as_ptr(&self.0) as usize
    }
}

/// A client type which exists only to hand [`RestoreDispatch`] to capnp-rpc.
struct UntypedClient(Client);

impl FromClientHook for UntypedClient {
    fn new(hook: Box<dyn ClientHook>) -> Self {
        Self(Client::new(hook))
    }

    fn into_client_hook(self) -> Box<dyn ClientHook> {
        self.0.hook
    }

    fn as_client_hook(&self) -> &dyn ClientHook {
        self.0.hook.as_ref()
    }
}

impl FromServer<RestoreServer> for UntypedClient {
    type Dispatch = RestoreDispatch;

    fn from_server(server: Rc<RestoreServer>) -> Self::Dispatch {
        RestoreDispatch(server)
    }
}
