//! The meeting point of one connection: queues between the task that moves its bytes and the RPC
//! system, and everything both need to know about it.
//!
//! Nothing here touches a socket or waits. Lives on the vat thread.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll, Waker};

use capnp::message::{Builder, HeapAllocator};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::connection::CloseReason;
use crate::incoming::Incoming;
use crate::ledger::{Ledger, Overrun};
use crate::rpc::Rpc;
use crate::strangers::Permit;
use crate::{Limits, PeerInfo, ServiceId, Stats};

/// A message on its way out.
pub(crate) type Outgoing = Rc<Builder<HeapAllocator>>;

/// What the RPC system receives next.
pub(crate) enum Inbound {
    Message(Incoming),
    /// The last thing it receives.
    End(capnp::Error),
}

/// How a connection is to be closed from our side.
#[derive(Clone, Debug)]
pub(crate) struct Goodbye {
    /// The type of the `Abort` the peer gets.
    pub(crate) kind: capnp::ErrorKind,
    /// Its reason, which is also our own [`CloseReason`].
    pub(crate) reason: String,
}

/// The state of one connection.
pub(crate) struct Link {
    pub(crate) peer: PeerInfo,
    pub(crate) limits: Limits,
    pub(crate) stats: Stats,
    pub(crate) ledger: RefCell<Ledger>,
    /// The RPC system, as long as the driver keeps it.
    rpc: OnceCell<Weak<Rpc>>,
    /// Bytes of received messages which somebody still holds.
    pub(crate) bytes_held: Rc<Cell<usize>>,
    /// The id for the `Bootstrap` message which the RPC system is about to send.
    pub(crate) parked_id: RefCell<Option<ServiceId>>,
    inbox: RefCell<VecDeque<Inbound>>,
    receiver: RefCell<Option<Waker>>,
    outbox: RefCell<VecDeque<Outgoing>>,
    outgoing_bytes: Cell<usize>,
    driver: RefCell<Option<Waker>>,
    stranger: Cell<bool>,
    permit: RefCell<Option<Permit>>,
    goodbye: RefCell<Option<Goodbye>>,
    /// The peer has said its last word: an `Abort`, or the end of its stream.
    peer_ended: Cell<bool>,
    reason: RefCell<Option<CloseReason>>,
    closing: Cell<bool>,
    last_received: Cell<Instant>,
    closed: watch::Sender<Option<CloseReason>>,
}

impl Link {
    pub(crate) fn new(
        peer: PeerInfo,
        limits: Limits,
        stats: Stats,
        stranger: bool,
        permit: Option<Permit>,
    ) -> Rc<Self> {
        Rc::new(Self {
            peer,
            limits,
            stats,
            ledger: RefCell::default(),
            rpc: OnceCell::new(),
            bytes_held: Rc::default(),
            parked_id: RefCell::default(),
            inbox: RefCell::default(),
            receiver: RefCell::default(),
            outbox: RefCell::default(),
            outgoing_bytes: Cell::default(),
            driver: RefCell::default(),
            stranger: Cell::new(stranger),
            permit: RefCell::new(permit),
            goodbye: RefCell::default(),
            peer_ended: Cell::default(),
            reason: RefCell::default(),
            closing: Cell::default(),
            last_received: Cell::new(Instant::now()),
            closed: watch::Sender::new(None),
        })
    }

    // ---- towards the RPC system ----

    /// Makes the RPC system known, once.
    pub(crate) fn set_rpc(&self, rpc: &Rc<Rpc>) {
        self.rpc.get_or_init(|| Rc::downgrade(rpc));
    }

    /// The RPC system, unless the connection has ended.
    pub(crate) fn rpc(&self) -> Option<Rc<Rpc>> {
        self.rpc.get()?.upgrade()
    }

    pub(crate) fn deliver(&self, inbound: Inbound) {
        self.inbox.borrow_mut().push_back(inbound);
        wake(&self.receiver);
    }

    pub(crate) fn inbox_len(&self) -> usize {
        self.inbox.borrow().len()
    }

    /// Waits for the next message; a goodbye overtakes whatever is queued.
    pub(crate) async fn receive(&self) -> Result<Incoming, capnp::Error> {
        poll_fn(|cx| self.poll_receive(cx)).await
    }

    fn poll_receive(&self, cx: &mut Context<'_>) -> Poll<Result<Incoming, capnp::Error>> {
        if let Some(goodbye) = &*self.goodbye.borrow() {
            return Poll::Ready(Err(capnp::Error::disconnected(goodbye.reason.clone())));
        }
        match self.inbox.borrow_mut().pop_front() {
            Some(Inbound::Message(message)) => Poll::Ready(Ok(message)),
            Some(Inbound::End(error)) => Poll::Ready(Err(error)),
            None => {
                *self.receiver.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    // ---- towards the socket ----

    /// Queues a message. What comes after the `Abort` which closes a connection is dropped.
    pub(crate) fn send(&self, message: Outgoing) {
        let bytes = capnp::serialize::compute_serialized_size_in_words(&message) * 8;
        let bytes = self.outgoing_bytes.get() + bytes;
        self.outgoing_bytes.set(bytes);
        self.outbox.borrow_mut().push_back(message);
        self.stats.enqueued();
        wake(&self.driver);
        if bytes > self.limits.max_outgoing_bytes {
            self.overrun(&Overrun::Outgoing(self.limits.max_outgoing_bytes));
        }
    }

    pub(crate) fn next_outgoing(&self) -> Option<Outgoing> {
        self.outbox.borrow_mut().pop_front()
    }

    pub(crate) fn outgoing_left(&self) -> usize {
        self.outbox.borrow().len()
    }

    /// These many bytes have left.
    pub(crate) fn bytes_sent(&self, bytes: usize) {
        self.outgoing_bytes
            .set(self.outgoing_bytes.get().saturating_sub(bytes));
    }

    /// Whether so much waits to be sent that nothing more should be read.
    pub(crate) fn is_congested(&self) -> bool {
        self.outgoing_bytes.get() > self.limits.outgoing_high_water
    }

    pub(crate) fn set_driver(&self, waker: &Waker) {
        let mut driver = self.driver.borrow_mut();
        match &mut *driver {
            Some(known) => known.clone_from(waker),
            None => *driver = Some(waker.clone()),
        }
    }

    // ---- who the peer is to us ----

    /// Whether the peer has yet to present a valid sturdy ref.
    pub(crate) fn is_stranger(&self) -> bool {
        self.stranger.get()
    }

    /// The peer has presented a valid sturdy ref: the wider limits apply from now on.
    pub(crate) fn admit(&self) {
        if self.stranger.replace(false) {
            self.permit.borrow_mut().take();
            wake(&self.driver);
        }
    }

    pub(crate) fn max_message_bytes(&self) -> usize {
        if self.is_stranger() {
            self.limits.before_sturdy_ref.max_message_bytes
        } else {
            self.limits.max_message_bytes
        }
    }

    pub(crate) fn max_calls(&self) -> usize {
        if self.is_stranger() {
            self.limits.before_sturdy_ref.max_calls_in_flight
        } else {
            self.limits.max_calls_in_flight
        }
    }

    pub(crate) fn max_withdrawn_calls(&self) -> usize {
        if self.is_stranger() {
            self.limits.before_sturdy_ref.max_calls_in_flight
        } else {
            self.limits.max_withdrawn_calls
        }
    }

    pub(crate) fn max_bytes_in_flight(&self) -> usize {
        if self.is_stranger() {
            self.limits.before_sturdy_ref.max_bytes_in_flight
        } else {
            self.limits.max_bytes_in_flight
        }
    }

    pub(crate) fn heard(&self) {
        self.last_received.set(Instant::now());
    }

    pub(crate) fn last_received(&self) -> Instant {
        self.last_received.get()
    }

    // ---- the end ----

    /// Asks for the end of the connection from our side. Only the first request counts.
    pub(crate) fn say_goodbye(&self, kind: capnp::ErrorKind, reason: impl Into<String>) {
        let mut goodbye = self.goodbye.borrow_mut();
        if goodbye.is_none() && !self.closing.get() {
            let reason = reason.into();
            self.note_reason(&reason);
            *goodbye = Some(Goodbye { kind, reason });
            drop(goodbye);
            self.inbox.borrow_mut().clear();
            wake(&self.receiver);
            wake(&self.driver);
        }
    }

    /// The peer has broken a limit.
    pub(crate) fn overrun(&self, overrun: &Overrun) {
        self.violation(&overrun.to_string());
    }

    /// The peer has broken a rule: it is told which, and one line is logged.
    pub(crate) fn violation(&self, reason: &str) {
        if self.goodbye.borrow().is_none() && !self.closing.get() {
            tracing::warn!(peer = %self.peer, reason, "Closing connection: the peer broke a rule");
        }
        self.say_goodbye(capnp::ErrorKind::Failed, reason);
    }

    pub(crate) fn goodbye(&self) -> Option<Goodbye> {
        self.goodbye.borrow().clone()
    }

    /// The peer's last word. `reason` is what our pending calls fail with.
    pub(crate) fn peer_ends(&self, reason: &str) {
        self.peer_ended.set(true);
        self.note_reason(reason);
        self.deliver(Inbound::End(capnp::Error::disconnected(reason.to_owned())));
    }

    pub(crate) fn peer_ended(&self) -> bool {
        self.peer_ended.get()
    }

    /// Remembers why the connection ends; the first cause is the one reported.
    pub(crate) fn note_reason(&self, reason: &str) {
        self.reason
            .borrow_mut()
            .get_or_insert_with(|| CloseReason::new(reason));
    }

    /// The RPC system is done: only what is queued still has to leave.
    pub(crate) fn start_closing(&self) {
        self.closing.set(true);
        self.permit.borrow_mut().take();
        wake(&self.driver);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.get()
    }

    /// Whether the connection has ended or is about to.
    pub(crate) fn is_ending(&self) -> bool {
        self.closing.get() || self.peer_ended.get() || self.goodbye.borrow().is_some()
    }

    /// The connection is gone.
    pub(crate) fn set_closed(&self) {
        self.start_closing();
        self.note_reason("Connection closed");
        self.stats.dropped(self.outgoing_left() as u64);
        self.outbox.borrow_mut().clear();
        self.inbox.borrow_mut().clear();
        let reason = self.reason.borrow().clone();
        self.closed.send_replace(reason);
    }

    /// What calls on the ended connection fail with.
    pub(crate) fn closed_error(&self) -> capnp::Error {
        let reason = self.reason.borrow();
        let reason = reason
            .as_ref()
            .map_or("Connection closed", CloseReason::as_str);
        capnp::Error::disconnected(reason.to_owned())
    }

    pub(crate) fn closed(&self) -> watch::Receiver<Option<CloseReason>> {
        self.closed.subscribe()
    }
}

fn wake(waker: &RefCell<Option<Waker>>) {
    let waker = waker.borrow_mut().take();
    if let Some(waker) = waker {
        waker.wake();
    }
}
