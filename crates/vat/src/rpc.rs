//! The RPC system of one connection, where both the task that drives it and the holders of the
//! connection can reach it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::Future as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;

use capnp::capability::Client;
use capnp_rpc::{Disconnector, RpcSystem};
use futures::channel::oneshot;

use crate::ServiceId;
use crate::incoming::Incoming;
use crate::link::{Inbound, Link};
use crate::network::Network;

/// The RPC system, until the connection ends.
pub(crate) struct Rpc {
    system: RefCell<Option<RpcSystem<()>>>,
    /// Closes the connection's tables when the system itself can no longer be polled.
    disconnector: RefCell<Option<Disconnector<()>>>,
    /// Bootstraps asked for by code which the system was running at that moment.
    waiting: RefCell<VecDeque<(ServiceId, oneshot::Sender<Client>)>>,
}

/// A handler, or the RPC system itself, has panicked.
pub(crate) struct Panicked;

impl Rpc {
    pub(crate) fn new(link: &Rc<Link>, restorer: Client) -> Rc<Self> {
        link.deliver(Inbound::Message(Incoming::synthetic_bootstrap()));
        let system = RpcSystem::new(Box::new(Network(link.clone())), Some(restorer));
        Rc::new(Self {
            disconnector: RefCell::new(Some(system.get_disconnector())),
            system: RefCell::new(Some(system)),
            waiting: RefCell::default(),
        })
    }

    /// Asks the peer for the service `id`.
    pub(crate) fn bootstrap(&self, link: &Link, id: &ServiceId) -> Client {
        if let Ok(mut system) = self.system.try_borrow_mut() {
            return match &mut *system {
                Some(system) => bootstrap_now(system, link, id),
                None => broken(link),
            };
        }
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().push_back((id.clone(), sender));
        capnp_rpc::new_future_client(async move {
            receiver
                .await
                .map_err(|_| capnp::Error::disconnected("Connection closed".to_owned()))
        })
    }

    /// Runs the system for a while.
    pub(crate) fn poll(&self, link: &Link, cx: &mut Context<'_>) -> Result<(), Panicked> {
        let mut slot = self.system.borrow_mut();
        let Some(system) = &mut *slot else {
            return Ok(());
        };
        // It never finishes by itself: the driver decides when the connection is over.
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut *system).poll(cx)));
        if polled.is_err() {
            return Err(Panicked);
        }
        loop {
            let Some((id, sender)) = self.waiting.borrow_mut().pop_front() else {
                return Ok(());
            };
            let client = if link.is_ending() {
                broken(link)
            } else {
                bootstrap_now(system, link, &id)
            };
            // Whoever asked may have lost interest.
            let _ = sender.send(client);
        }
    }

    /// Fails everything pending, without running any of the system's own tasks again.
    pub(crate) fn abandon(&self, cx: &mut Context<'_>) {
        let disconnector = self.disconnector.borrow_mut().take();
        // What panicked once may panic again while it is taken apart; the connection is over anyhow.
        let _ = catch_unwind(AssertUnwindSafe(|| {
            if let Some(mut disconnector) = disconnector {
                let _ = Pin::new(&mut disconnector).poll(cx);
            }
        }));
        self.drop_system();
    }

    /// Drops the system and with it every call it was still serving.
    pub(crate) fn drop_system(&self) {
        let system = match self.system.try_borrow_mut() {
            Ok(mut slot) => slot.take(),
            Err(_) => None,
        };
        let disconnector = self.disconnector.borrow_mut().take();
        if catch_unwind(AssertUnwindSafe(|| drop((system, disconnector)))).is_err() {
            tracing::error!("An object panicked while its connection was closed");
        }
        self.waiting.borrow_mut().clear();
    }
}

fn bootstrap_now(system: &mut RpcSystem<()>, link: &Link, id: &ServiceId) -> Client {
    *link.parked_id.borrow_mut() = Some(id.clone());
    let client = system.bootstrap(());
    link.parked_id.borrow_mut().take();
    client
}

fn broken(link: &Link) -> Client {
    capnp_rpc::new_broken_cap(link.closed_error())
}
