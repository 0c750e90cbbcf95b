//! What capnp-rpc asks of a network, answered for the one connection of a [`Link`].

use std::rc::Rc;

use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::{IncomingMessage, OutgoingMessage, VatNetwork};

use crate::link::Link;
use crate::outgoing::Draft;

/// The network of one connection. Vats have no names here: there is exactly one other.
pub(crate) struct Network(pub(crate) Rc<Link>);

impl VatNetwork<()> for Network {
    fn connect(&mut self, _peer: ()) -> Option<Box<dyn capnp_rpc::Connection<()>>> {
        Some(Box::new(Wire(self.0.clone())))
    }

    fn accept(&mut self) -> Promise<Box<dyn capnp_rpc::Connection<()>>, capnp::Error> {
        let wire: Box<dyn capnp_rpc::Connection<()>> = Box::new(Wire(self.0.clone()));
        Promise::ok(wire)
    }

    fn drive_until_shutdown(&mut self) -> Promise<(), capnp::Error> {
        // The task which owns the RPC system drives the socket, and ends it.
        Promise::from_future(std::future::pending())
    }
}

struct Wire(Rc<Link>);

impl capnp_rpc::Connection<()> for Wire {
    fn get_peer_vat_id(&self) {}

    fn new_outgoing_message(&mut self, first_segment_words: u32) -> Box<dyn OutgoingMessage> {
        // What capnp-rpc asks for is a guess: a thousand words for a call, a hundred for an answer. Most take about twenty,
        // and what takes more gets a further segment. A call is gone once it is sent, but an answer stays in memory as long as
        // the peer may make calls on what is in it, for each queued job two of them.
        const LEAST_WORDS: u32 = 16;
        const MOST_WORDS: u32 = 32;
        const CALL_WORDS: u32 = 128;
        let size = if first_segment_words > 100 {
            CALL_WORDS
        } else {
            first_segment_words.clamp(LEAST_WORDS, MOST_WORDS)
        };
        Box::new(Draft {
            link: self.0.clone(),
            builder: Builder::new(HeapAllocator::new().first_segment_words(size)),
        })
    }

    fn receive_incoming_message(
        &mut self,
    ) -> Promise<Option<Box<dyn IncomingMessage>>, capnp::Error> {
        let link = self.0.clone();
        Promise::from_future(async move {
            let message: Box<dyn IncomingMessage> = Box::new(link.receive().await?);
            Ok(Some(message))
        })
    }

    fn shutdown(&mut self, _result: capnp::Result<()>) -> Promise<(), capnp::Error> {
        // Never fails: capnp-rpc prints failures of its background tasks to standard output.
        self.0.start_closing();
        Promise::ok(())
    }
}
