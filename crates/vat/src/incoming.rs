//! Messages on their way in: counted, checked, and rewritten where capnp-rpc would not do what
//! OCaml's peers expect.
//!
//! capnp-rpc ignores the object id of a `Bootstrap`. So a synthetic `Bootstrap` opens every
//! connection, whose answer (never returned to the peer, never finished) is our restorer, and each
//! real `Bootstrap` becomes a call on that answer. The call's result is the restored object itself,
//! which makes the `Return` the very one a `Bootstrap` answer is.

use std::cell::Cell;
use std::rc::Rc;

use capnp::any_pointer;
use capnp::message::{Builder, HeapAllocator, Reader};
use capnp_rpc::rpc_capnp::{bootstrap, call, message, resolve, return_};

use crate::error::strip_remote_mark;
use crate::frame::Frame;
use crate::ledger::Overrun;
use crate::link::{Inbound, Link};
use crate::restore_call::{MALFORMED_METHOD, RESTORE_INTERFACE, RESTORE_METHOD};

/// The question id of the synthetic `Bootstrap`. No peer uses it: ids are given out from 0.
pub(crate) const RESERVED_QUESTION: u32 = u32::MAX;

/// A message as the RPC system reads it.
pub(crate) struct Incoming {
    body: Body,
    _held: Option<Held>,
}

enum Body {
    Wire(Reader<Frame>),
    Rewritten(Builder<HeapAllocator>),
}

/// Counts a received message as held until it is dropped.
struct Held {
    total: Rc<Cell<usize>>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.set(self.total.get().saturating_sub(self.bytes));
    }
}

impl capnp_rpc::IncomingMessage for Incoming {
    fn get_body(&self) -> capnp::Result<any_pointer::Reader<'_>> {
        match &self.body {
            Body::Wire(reader) => reader.get_root(),
            Body::Rewritten(builder) => builder.get_root_as_reader(),
        }
    }
}

impl Incoming {
    fn rewritten(builder: Builder<HeapAllocator>) -> Self {
        Self {
            body: Body::Rewritten(builder),
            _held: None,
        }
    }

    /// The message which makes the RPC system put the restorer into its table of answers.
    pub(crate) fn synthetic_bootstrap() -> Self {
        let mut builder = small_message();
        let mut bootstrap = builder.init_root::<message::Builder<'_>>().init_bootstrap();
        bootstrap.set_question_id(RESERVED_QUESTION);
        Self::rewritten(builder)
    }
}

/// Takes one message from the wire: books it, and hands it to the RPC system.
pub(crate) fn receive(link: &Link, frame: Frame) {
    link.stats.received();
    let bytes = frame.bytes();
    let held = link.bytes_held.get() + bytes;
    if held > link.max_bytes_in_flight() {
        return link.overrun(&Overrun::Bytes(link.max_bytes_in_flight()));
    }
    link.bytes_held.set(held);
    let held = Held {
        total: link.bytes_held.clone(),
        bytes,
    };
    let reader = frame.into_reader();
    match inspect(link, &reader) {
        Ok(Verdict::AsItIs) => link.deliver(Inbound::Message(Incoming {
            body: Body::Wire(reader),
            _held: Some(held),
        })),
        Ok(Verdict::Instead(builder)) => {
            let mut incoming = Incoming::rewritten(builder);
            incoming._held = Some(held);
            link.deliver(Inbound::Message(incoming));
        }
        Ok(Verdict::Nothing) => {}
        Err(e) => link.violation(&format!("malformed message: {e}")),
    }
}

/// What becomes of a message.
enum Verdict {
    AsItIs,
    Instead(Builder<HeapAllocator>),
    /// It is dealt with.
    Nothing,
}

fn inspect(link: &Link, reader: &Reader<Frame>) -> capnp::Result<Verdict> {
    let root = reader.get_root::<message::Reader<'_>>()?;
    let Ok(kind) = root.which() else {
        // A kind of message made after our time: the RPC system answers `Unimplemented`.
        return Ok(Verdict::AsItIs);
    };
    match kind {
        message::Bootstrap(bootstrap) => {
            let bootstrap = bootstrap?;
            if !call_begins(link, bootstrap.get_question_id()) {
                return Ok(Verdict::Nothing);
            }
            Ok(Verdict::Instead(restore_call(bootstrap)))
        }
        message::Call(call) => {
            if call_begins(link, call?.get_question_id()) {
                Ok(Verdict::AsItIs)
            } else {
                Ok(Verdict::Nothing)
            }
        }
        message::Finish(finish) => {
            let finish = finish?;
            let question = finish.get_question_id();
            if question == RESERVED_QUESTION {
                return Ok(reserved(link));
            }
            let finished = link.ledger.borrow_mut().call_finishes(
                question,
                finish.get_release_result_caps(),
                link.max_withdrawn_calls(),
            );
            if let Err(overrun) = finished {
                link.overrun(&overrun);
            }
            Ok(Verdict::AsItIs)
        }
        message::Release(release) => {
            let release = release?;
            link.ledger
                .borrow_mut()
                .released(release.get_id(), release.get_reference_count());
            Ok(Verdict::AsItIs)
        }
        message::Return(answer) => settled_return(answer?),
        message::Unimplemented(unimplemented) => {
            use capnp_rpc::rpc_capnp::cap_descriptor::{SenderHosted, SenderPromise};
            if let Ok(message::Resolve(resolve)) = unimplemented?.which()
                && let Ok(resolve::Cap(cap)) = resolve?.which()
                && let Ok(SenderHosted(id) | SenderPromise(id)) = cap?.which()
            {
                link.ledger.borrow_mut().released(id, 1);
            }
            Ok(Verdict::AsItIs)
        }
        message::Abort(abort) => {
            let reason = abort?.get_reason()?.to_string().unwrap_or_default();
            link.peer_ends(strip_remote_mark(&reason));
            Ok(Verdict::Nothing)
        }
        _ => Ok(Verdict::AsItIs),
    }
}

/// Books a call. Tells whether it may go on.
fn call_begins(link: &Link, question: u32) -> bool {
    if question == RESERVED_QUESTION {
        reserved(link);
        return false;
    }
    let begun = link
        .ledger
        .borrow_mut()
        .call_begins(question, link.max_calls());
    match begun {
        Ok(()) => true,
        Err(overrun) => {
            link.overrun(&overrun);
            false
        }
    }
}

fn reserved(link: &Link) -> Verdict {
    link.violation("question id 4294967295 is reserved");
    Verdict::Nothing
}

/// The call which stands for a `Bootstrap`.
fn restore_call(bootstrap: bootstrap::Reader<'_>) -> Builder<HeapAllocator> {
    let mut builder = small_message();
    let mut call = builder.init_root::<message::Builder<'_>>().init_call();
    call.set_question_id(bootstrap.get_question_id());
    call.set_interface_id(RESTORE_INTERFACE);
    let target = call.reborrow().init_target();
    target
        .init_promised_answer()
        .set_question_id(RESERVED_QUESTION);
    call.reborrow().init_send_results_to().set_caller(());
    call.set_method_id(MALFORMED_METHOD);
    if let Some(id) = object_id(bootstrap) {
        call.set_method_id(RESTORE_METHOD);
        write_content(call, id);
    }
    builder
}

/// The presented id: the bytes of a Text, of a Data for good measure, or none for the public
/// object. Not a list of bytes at all: nothing.
fn object_id(bootstrap: bootstrap::Reader<'_>) -> Option<&[u8]> {
    let pointer = bootstrap.get_deprecated_object_id();
    if pointer.is_null() {
        return Some(&[]);
    }
    match pointer.get_as::<capnp::text::Reader<'_>>() {
        Ok(text) => Some(text.as_bytes()),
        Err(_) => pointer.get_as::<capnp::data::Reader<'_>>().ok(),
    }
}

fn write_content(call: call::Builder<'_>, id: &[u8]) {
    let mut content = call.init_params().init_content();
    content
        .reborrow()
        .initn_as::<capnp::data::Builder<'_>>(id.len().try_into().unwrap_or(u32::MAX))
        .copy_from_slice(id);
}

/// Answers which capnp-rpc would reply to with `Unimplemented`, at which OCaml's vats drop the
/// connection, become failed answers.
fn settled_return(answer: return_::Reader<'_>) -> capnp::Result<Verdict> {
    let reason = match answer.which()? {
        return_::Canceled(()) => "Call cancelled by the peer",
        return_::ResultsSentElsewhere(()) => "The peer sent the results elsewhere unasked",
        return_::AcceptFromThirdParty(_) => "Three-party hand-off is not supported",
        return_::Results(_) | return_::Exception(_) | return_::TakeFromOtherQuestion(_) => {
            return Ok(Verdict::AsItIs);
        }
    };
    let mut builder = small_message();
    let mut instead = builder.init_root::<message::Builder<'_>>().init_return();
    instead.set_answer_id(answer.get_answer_id());
    let mut exception = instead.init_exception();
    exception.set_reason(reason);
    exception.set_type(capnp_rpc::rpc_capnp::exception::Type::Failed);
    Ok(Verdict::Instead(builder))
}

fn small_message() -> Builder<HeapAllocator> {
    Builder::new(HeapAllocator::new().first_segment_words(32))
}
