//! Messages on their way out: completed with the object id, cleaned of capnp-rpc's mark on
//! forwarded errors, booked, and queued.

use std::rc::Rc;

use capnp::any_pointer;
use capnp::capability::Promise;
use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::rpc_capnp::{cap_descriptor, exception, message, payload, resolve, return_};

use crate::error::strip_remote_mark;
use crate::incoming::RESERVED_QUESTION;
use crate::link::Link;

/// A message which the RPC system is writing.
pub(crate) struct Draft {
    pub(crate) link: Rc<Link>,
    pub(crate) builder: Builder<HeapAllocator>,
}

impl capnp_rpc::OutgoingMessage for Draft {
    fn get_body(&mut self) -> capnp::Result<any_pointer::Builder<'_>> {
        self.builder.get_root()
    }

    fn get_body_as_reader(&self) -> capnp::Result<any_pointer::Reader<'_>> {
        self.builder.get_root_as_reader()
    }

    fn send(self: Box<Self>) -> (Promise<(), capnp::Error>, Rc<Builder<HeapAllocator>>) {
        let Self { link, mut builder } = *self;
        // Our own message always reads back; were it not so, sending it as it is does least harm.
        let fate = revise(&link, &mut builder).unwrap_or(Fate::Send);
        let message = Rc::new(builder);
        if fate == Fate::Send {
            link.send(message.clone());
        }
        (Promise::ok(()), message)
    }

    fn take(self: Box<Self>) -> Builder<HeapAllocator> {
        self.builder
    }

    fn size_in_words(&self) -> usize {
        self.builder.size_in_words()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Send,
    Swallow,
}

fn revise(link: &Link, builder: &mut Builder<HeapAllocator>) -> capnp::Result<Fate> {
    match builder.get_root::<message::Builder<'_>>()?.which()? {
        message::Bootstrap(bootstrap) => {
            let id = link.parked_id.borrow_mut().take();
            if let Some(id) = id.filter(|id| !id.as_bytes().is_empty()) {
                let id = capnp::text::Reader(id.as_bytes());
                bootstrap?.init_deprecated_object_id().set_as(id)?;
            }
        }
        message::Call(call) => {
            export_all(link, call?.get_params()?)?;
        }
        message::Return(answer) => return revise_return(link, answer?),
        message::Resolve(resolve) => match resolve?.which()? {
            resolve::Cap(cap) => {
                export(link, cap?)?;
            }
            resolve::Exception(exception) => strip_mark(exception?)?,
        },
        message::Abort(abort) => {
            if link.peer_ended() {
                return Ok(Fate::Swallow);
            }
            word_abort(link, abort?)?;
        }
        _ => {}
    }
    Ok(Fate::Send)
}

fn revise_return(link: &Link, answer: return_::Builder<'_>) -> capnp::Result<Fate> {
    let reader = answer.reborrow_as_reader();
    let question = reader.get_answer_id();
    let no_finish = reader.get_no_finish_needed();
    if question == RESERVED_QUESTION {
        return Ok(Fate::Swallow);
    }
    let mut exports = Vec::new();
    match answer.which()? {
        return_::Results(results) => exports = export_all(link, results?)?,
        return_::Exception(exception) => strip_mark(exception?)?,
        _ => {}
    }
    link.ledger
        .borrow_mut()
        .call_returns(question, exports, no_finish);
    Ok(Fate::Send)
}

/// An error received on one connection and forwarded on another must not gain a mark per hop.
fn strip_mark(mut exception: exception::Builder<'_>) -> capnp::Result<()> {
    let reason = exception.reborrow_as_reader().get_reason()?.to_string()?;
    let stripped = strip_remote_mark(&reason);
    if stripped.len() != reason.len() {
        exception.set_reason(stripped);
    }
    Ok(())
}

/// Puts our own type and reason into the `Abort` which says goodbye.
fn word_abort(link: &Link, mut abort: exception::Builder<'_>) -> capnp::Result<()> {
    let Some(goodbye) = link.goodbye() else {
        let reason = abort.reborrow_as_reader().get_reason()?.to_string()?;
        link.note_reason(&reason);
        tracing::warn!(peer = %link.peer, reason, "Closing connection: protocol error");
        return strip_mark(abort);
    };
    abort.set_reason(&goodbye.reason);
    abort.set_type(match goodbye.kind {
        capnp::ErrorKind::Disconnected => exception::Type::Disconnected,
        capnp::ErrorKind::Overloaded => exception::Type::Overloaded,
        _ => exception::Type::Failed,
    });
    Ok(())
}

/// Books every capability which the payload hands to the peer. Gives their export ids.
fn export_all(link: &Link, payload: payload::Builder<'_>) -> capnp::Result<Vec<u32>> {
    let mut table = payload.get_cap_table()?;
    let mut exports = Vec::new();
    for index in 0..table.len() {
        exports.extend(export(link, table.reborrow().get(index))?);
    }
    Ok(exports)
}

/// Books one capability. One which the peer knows as a promise stays a promise: capnp-rpc calls it
/// hosted the second time it is sent, whether or not it has settled, and a peer which waits for
/// capabilities to settle would stop waiting.
fn export(link: &Link, mut cap: cap_descriptor::Builder<'_>) -> capnp::Result<Option<u32>> {
    let (id, is_promise) = match cap.reborrow().which()? {
        cap_descriptor::SenderHosted(id) => (id, false),
        cap_descriptor::SenderPromise(id) => (id, true),
        _ => return Ok(None),
    };
    let limit = link.limits.max_exports;
    let exported = link.ledger.borrow_mut().exported(id, is_promise, limit);
    match exported {
        Ok(true) => cap.set_sender_promise(id),
        Ok(false) => {}
        Err(overrun) => link.overrun(&overrun),
    }
    Ok(Some(id))
}
