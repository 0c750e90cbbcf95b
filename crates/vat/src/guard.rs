//! Noticing that the last reference to an object is gone, even while one of its calls is pending.
//!
//! A pending method holds the server object itself, so the object's own `Drop` comes too late to
//! cancel that very method. The guard made here belongs to the references only; nothing in this
//! file may keep it alive during a call.

use std::marker::PhantomData;
use std::ops::Deref;
use std::rc::Rc;

use capnp::any_pointer;
use capnp::capability::{DispatchCallResult, FromClientHook, FromServer, Params, Results, Server};
use capnp::private::capability::ClientHook;

/// A client of `server` which keeps `guard` until its last reference goes: ours, and those of all
/// peers. The guard is then dropped, whether or not calls on the object are still pending.
///
/// Two guarded clients of one server are two objects to peers, each with its own guard.
pub fn guarded_client<C, S, G>(server: Rc<S>, guard: G) -> C
where
    C: FromServer<S>,
    S: 'static,
    G: 'static,
{
    let guarded: GuardedClient<C::Dispatch, G> = capnp_rpc::new_client(Guarded {
        dispatch: C::from_server(server),
        _guard: guard,
    });
    guarded.cast_to()
}

/// What the references share: how to call the server, and the guard.
struct Guarded<D, G> {
    dispatch: D,
    _guard: G,
}

struct GuardedDispatch<D, G>(Rc<Guarded<D, G>>);

impl<D, G> Clone for GuardedDispatch<D, G> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D, G> Deref for GuardedDispatch<D, G> {
    type Target = Guarded<D, G>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<D: Server + Clone, G> Server for GuardedDispatch<D, G> {
    fn dispatch_call(
        self,
        interface_id: u64,
        method_id: u16,
        params: Params<any_pointer::Owned>,
        results: Results<any_pointer::Owned>,
    ) -> DispatchCallResult {
        let dispatch = self.0.dispatch.clone();
        // From here on the call holds the server, but not the guard.
        drop(self);
        dispatch.dispatch_call(interface_id, method_id, params, results)
    }

    fn as_ptr(&self) -> usize {
        Rc::as_ptr(&self.0) as usize
    }
}

/// A client type which exists only to hand [`GuardedDispatch`] to capnp-rpc.
struct GuardedClient<D, G> {
    hook: Box<dyn ClientHook>,
    kind: PhantomData<(D, G)>,
}

impl<D, G> FromClientHook for GuardedClient<D, G> {
    fn new(hook: Box<dyn ClientHook>) -> Self {
        Self {
            hook,
            kind: PhantomData,
        }
    }

    fn into_client_hook(self) -> Box<dyn ClientHook> {
        self.hook
    }

    fn as_client_hook(&self) -> &dyn ClientHook {
        self.hook.as_ref()
    }
}

impl<D, G> FromServer<Guarded<D, G>> for GuardedClient<D, G>
where
    D: Server + Clone + 'static,
    G: 'static,
{
    type Dispatch = GuardedDispatch<D, G>;

    fn from_server(server: Rc<Guarded<D, G>>) -> Self::Dispatch {
        GuardedDispatch(server)
    }
}
