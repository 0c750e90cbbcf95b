//! Capabilities which fail, and capabilities yet to come, in the form OCaml's vats expect.
//!
//! OCaml's programs wait until a capability is settled, and notice a broken one by its settling into
//! an exception: a promise on the wire, followed by a `Resolve` with the exception. capnp-rpc would
//! pass a broken capability off as a sound one whose every call fails.

use std::future::Future;
use std::rc::Rc;

use capnp::any_pointer;
use capnp::capability::{Client, FromClientHook, Promise, Request};
use capnp::private::capability::{ClientHook, ParamsHook, ResultsHook};

/// A capability which is broken from the start. Calls fail with `error`; a peer it is sent to gets
/// a promise which resolves to `error`.
pub fn broken_cap<C: FromClientHook>(error: capnp::Error) -> C {
    C::new(Box::new(Broken(Rc::new(error))))
}

/// A capability which `future` will give. Calls on it wait; peers it is sent to get a promise, and a
/// `Resolve` once the future is ready, be it with the capability or with an exception.
///
/// The future runs while somebody waits for the capability or has sent it to a peer; use a channel
/// to a task of its own for what must happen anyway.
pub fn promised_cap<C: FromClientHook>(
    future: impl Future<Output = capnp::Result<C>> + 'static,
) -> C {
    let settled = async move {
        Ok(match future.await {
            Ok(cap) => cap.cast_to::<Client>(),
            Err(error) => broken_cap(error),
        })
    };
    capnp_rpc::new_future_client::<Client>(settled).cast_to()
}

struct Broken(Rc<capnp::Error>);

impl Broken {
    fn error(&self) -> capnp::Error {
        (*self.0).clone()
    }
}

impl ClientHook for Broken {
    fn add_ref(&self) -> Box<dyn ClientHook> {
        Box::new(Self(self.0.clone()))
    }

    fn new_call(
        &self,
        interface_id: u64,
        method_id: u16,
        size_hint: Option<capnp::MessageSize>,
    ) -> Request<any_pointer::Owned, any_pointer::Owned> {
        capnp_rpc::new_broken_cap(self.error())
            .hook
            .new_call(interface_id, method_id, size_hint)
    }

    fn call(
        &self,
        _interface_id: u64,
        _method_id: u16,
        _params: Box<dyn ParamsHook>,
        _results: Box<dyn ResultsHook>,
    ) -> Promise<(), capnp::Error> {
        Promise::err(self.error())
    }

    fn get_brand(&self) -> usize {
        // Belongs to no connection.
        0
    }

    fn get_ptr(&self) -> usize {
        Rc::as_ptr(&self.0) as usize
    }

    fn get_resolved(&self) -> Option<Box<dyn ClientHook>> {
        None
    }

    fn when_more_resolved(&self) -> Option<Promise<Box<dyn ClientHook>, capnp::Error>> {
        Some(Promise::err(self.error()))
    }

    fn when_resolved(&self) -> Promise<(), capnp::Error> {
        Promise::err(self.error())
    }
}
