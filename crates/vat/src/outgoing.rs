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
    book(link, builder.get_root_as_reader()?)?;
    match builder.get_root::<message::Builder<'_>>()?.which()? {
        message::Bootstrap(bootstrap) => {
            let id = link.parked_id.borrow_mut().take();
            if let Some(id) = id.filter(|id| !id.as_bytes().is_empty()) {
                let id = capnp::text::Reader(id.as_bytes());
                bootstrap?.init_deprecated_object_id().set_as(id)?;
            }
        }
        message::Return(answer) => {
            let answer = answer?;
            if answer.reborrow_as_reader().get_answer_id() == RESERVED_QUESTION {
                return Ok(Fate::Swallow);
            }
            if let return_::Exception(exception) = answer.which()? {
                strip_mark(exception?)?;
            }
        }
        message::Resolve(resolve) => {
            if let resolve::Exception(exception) = resolve?.which()? {
                strip_mark(exception?)?;
            }
        }
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

/// Writes down what the message hands to the peer.
fn book(link: &Link, root: any_pointer::Reader<'_>) -> capnp::Result<()> {
    match root.get_as::<message::Reader<'_>>()?.which()? {
        message::Call(call) => {
            export_all(link, call?.get_params()?)?;
        }
        message::Return(answer) => {
            let answer = answer?;
            if answer.get_answer_id() == RESERVED_QUESTION {
                return Ok(());
            }
            let exports = match answer.which()? {
                return_::Results(results) => export_all(link, results?)?,
                _ => Vec::new(),
            };
            link.ledger.borrow_mut().call_returns(
                answer.get_answer_id(),
                exports,
                answer.get_no_finish_needed(),
            );
        }
        message::Resolve(resolve) => {
            if let resolve::Cap(cap) = resolve?.which()? {
                export(link, cap?)?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn export_all(link: &Link, payload: payload::Reader<'_>) -> capnp::Result<Vec<u32>> {
    let mut exports = Vec::new();
    for descriptor in payload.get_cap_table()? {
        exports.extend(export(link, descriptor)?);
    }
    Ok(exports)
}

fn export(link: &Link, cap: cap_descriptor::Reader<'_>) -> capnp::Result<Option<u32>> {
    let (cap_descriptor::SenderHosted(id) | cap_descriptor::SenderPromise(id)) = cap.which()?
    else {
        return Ok(None);
    };
    let exported = link
        .ledger
        .borrow_mut()
        .exported(id, link.limits.max_exports);
    if let Err(overrun) = exported {
        link.overrun(&overrun);
    }
    Ok(Some(id))
}
