//! The one task of a connection: reads, runs the RPC system, writes.
//!
//! There is no task per message, and everything queued leaves in one write. The big buffers belong
//! to the thread, not to the connection, so that an idle connection costs little memory.

use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::frame::{FrameError, FrameReader};
use crate::incoming;
use crate::link::Link;
use crate::rpc::{Panicked, Rpc};

/// How much is read or gathered for writing at a time.
const CHUNK: usize = 64 * 1024;
/// How many messages may wait for the RPC system before reading pauses.
const INBOX: usize = 32;
/// How often the parts take turns before other tasks of the thread get theirs.
const ROUNDS: usize = 8;
/// How often the RPC system is polled in one turn.
const POLLS: usize = 64;

thread_local! {
    static READ_BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; CHUNK]);
    static WRITE_BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Runs a connection as a task of the current `LocalSet`.
pub(crate) fn spawn<S>(driver: Driver<S>)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    driver.link.stats.opened();
    tokio::task::spawn_local(driver);
}

pub(crate) struct Driver<S> {
    stream: S,
    link: Rc<Link>,
    rpc: Rc<Rpc>,
    rpc_wake: Arc<RpcWake>,
    rpc_waker: Waker,
    frames: FrameReader,
    /// Bytes of a stranger which wait until its sturdy ref has been looked at: because the message
    /// they begin is too large for a stranger, or because many messages came before them.
    held_back: Vec<u8>,
    /// The rest of a batch which the socket did not take at once.
    unsent: Vec<u8>,
    unsent_from: usize,
    unsent_messages: u64,
    needs_flush: bool,
    read_ended: bool,
    write_failed: bool,
    stranger_deadline: Option<Pin<Box<Sleep>>>,
    close_deadline: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Driver<S> {
    pub(crate) fn new(stream: S, link: Rc<Link>, rpc: Rc<Rpc>) -> Self {
        let rpc_wake = Arc::new(RpcWake::default());
        let deadline = link.limits.before_sturdy_ref.deadline;
        Self {
            stream,
            rpc,
            rpc_waker: rpc_wake.clone().into(),
            rpc_wake,
            frames: FrameReader::default(),
            held_back: Vec::new(),
            unsent: Vec::new(),
            unsent_from: 0,
            unsent_messages: 0,
            needs_flush: false,
            read_ended: false,
            write_failed: false,
            stranger_deadline: link
                .is_stranger()
                .then(|| Box::pin(tokio::time::sleep(deadline))),
            close_deadline: None,
            link,
        }
    }

    /// Closes the connection of a peer which has shown no valid sturdy ref in time.
    fn poll_stranger(&mut self, cx: &mut Context<'_>) {
        let Some(deadline) = &mut self.stranger_deadline else {
            return;
        };
        if !self.link.is_stranger() {
            self.stranger_deadline = None;
        } else if deadline.as_mut().poll(cx).is_ready() {
            self.stranger_deadline = None;
            let seconds = self.link.limits.before_sturdy_ref.deadline.as_secs_f64();
            self.link.violation(&format!(
                "no valid sturdy ref presented within {seconds} s (deadline)"
            ));
        }
    }

    /// Runs the RPC system until it has nothing to do. Tells whether it did anything.
    fn poll_rpc(&mut self, cx: &mut Context<'_>) -> bool {
        self.rpc_wake.task.register(cx.waker());
        self.rpc_wake.quiet.store(true, Ordering::Release);
        let mut busy = false;
        let mut polls = 0;
        while polls < POLLS && self.rpc_wake.woken.swap(false, Ordering::AcqRel) {
            polls += 1;
            busy = true;
            let mut rpc_cx = Context::from_waker(&self.rpc_waker);
            if let Err(Panicked) = self.rpc.poll(&self.link, &mut rpc_cx) {
                tracing::error!(peer = %self.link.peer, "Closing connection: a call panicked");
                self.link
                    .say_goodbye(capnp::ErrorKind::Failed, "Internal error");
                self.rpc.abandon(&mut rpc_cx);
                self.link.start_closing();
            }
        }
        self.rpc_wake.quiet.store(false, Ordering::Release);
        if self.rpc_wake.woken.load(Ordering::Acquire) {
            cx.waker().wake_by_ref();
        }
        busy
    }

    /// Reads what there is, within reason. Tells whether it did anything.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.may_read() {
            return false;
        }
        if !self.held_back.is_empty() {
            let bytes = std::mem::take(&mut self.held_back);
            self.feed(&bytes);
            return self.held_back.is_empty();
        }
        READ_BUFFER.with_borrow_mut(|buffer| {
            let mut buffer = ReadBuf::new(buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut buffer) {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) if buffer.filled().is_empty() => self.end_of_stream(),
                Poll::Ready(Ok(())) => {
                    self.link.heard();
                    self.feed(buffer.filled());
                }
                Poll::Ready(Err(e)) => self.lost(&e),
            }
            true
        })
    }

    fn may_read(&self) -> bool {
        !self.read_ended
            && !self.link.is_ending()
            && self.link.inbox_len() < INBOX
            && !self.link.is_congested()
    }

    /// Cuts bytes into messages and passes them on.
    fn feed(&mut self, mut bytes: &[u8]) {
        while !self.link.is_ending() {
            if self.link.is_stranger() && self.link.inbox_len() >= INBOX {
                // Its sturdy ref is among what waits, and what follows may well be measured by it.
                self.held_back = bytes.to_vec();
                return;
            }
            match self.frames.next(&mut bytes, self.link.max_message_bytes()) {
                Ok(Some(frame)) => incoming::receive(&self.link, frame),
                Ok(None) => return,
                Err(FrameError::TooLarge { .. }) if self.may_grow() => {
                    self.held_back = bytes.to_vec();
                    return;
                }
                Err(e) => return self.link.violation(&e.to_string()),
            }
        }
    }

    /// Whether the peer is a stranger who may be none in a moment: the answer to its sturdy ref is
    /// not known yet, and it has every right to pipeline a large call on it.
    fn may_grow(&self) -> bool {
        self.link.is_stranger() && self.link.ledger.borrow().has_unanswered()
    }

    fn end_of_stream(&mut self) {
        self.read_ended = true;
        if !self.frames.is_empty() {
            tracing::debug!(peer = %self.link.peer, "The connection ended inside a message");
        }
        self.link.peer_ends("Connection closed");
    }

    fn lost(&mut self, error: &io::Error) {
        self.read_ended = true;
        self.write_failed = true;
        match error.kind() {
            // A TLS stream cut off without its closing message: the peer was killed.
            io::ErrorKind::UnexpectedEof => self.link.peer_ends("Connection closed"),
            _ => self.link.peer_ends(&format!("Connection lost: {error}")),
        }
    }

    /// Writes what is queued. Tells whether it did anything.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.write_failed {
            return false;
        }
        match self.try_write(cx) {
            Ok(busy) => busy,
            Err(e) => {
                self.lost(&e);
                true
            }
        }
    }

    fn try_write(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut busy = false;
        loop {
            if let Some(rest) = self.unsent.get(self.unsent_from..)
                && !rest.is_empty()
            {
                let written = write_some(&mut self.stream, cx, rest)?;
                if written == 0 {
                    break;
                }
                busy = true;
                self.needs_flush = true;
                self.link.bytes_sent(written);
                self.unsent_from += written;
                if self.unsent_from == self.unsent.len() {
                    self.link.stats.sent(self.unsent_messages);
                    self.unsent = Vec::new();
                    self.unsent_from = 0;
                }
            } else if self.link.outgoing_left() == 0 || !self.write_batch(cx)? {
                break;
            } else {
                busy = true;
            }
        }
        if self.needs_flush && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.needs_flush = false;
        }
        Ok(busy)
    }

    /// Gathers queued messages and writes them at once. Keeps what the socket did not take. Tells
    /// whether it took anything.
    fn write_batch(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        WRITE_BUFFER.with_borrow_mut(|buffer| {
            buffer.clear();
            let mut messages = 0;
            while buffer.len() < CHUNK
                && let Some(message) = self.link.next_outgoing()
            {
                // Writing into memory does not fail.
                let _ = capnp::serialize::write_message(&mut *buffer, &message);
                messages += 1;
            }
            let written = write_some(&mut self.stream, cx, buffer)?;
            self.link.bytes_sent(written);
            self.needs_flush |= written > 0;
            let rest = buffer.get(written..).unwrap_or_default();
            if rest.is_empty() {
                self.link.stats.sent(messages);
            } else {
                self.unsent = rest.to_vec();
                self.unsent_from = 0;
                self.unsent_messages = messages;
            }
            if buffer.capacity() > 4 * CHUNK {
                *buffer = Vec::new();
            }
            Ok(written > 0)
        })
    }

    /// Waits, not for ever, until the last bytes have left, then closes the stream.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let all_left =
            self.unsent.is_empty() && self.link.outgoing_left() == 0 && !self.needs_flush;
        if self.write_failed
            || (all_left && Pin::new(&mut self.stream).poll_shutdown(cx).is_ready())
        {
            return Poll::Ready(());
        }
        let patience = self.link.limits.close_timeout;
        let deadline = self
            .close_deadline
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        deadline.as_mut().poll(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Future for Driver<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.link.set_driver(cx.waker());
        this.poll_stranger(cx);
        for _ in 0..ROUNDS {
            let ran = this.poll_rpc(cx);
            let wrote = this.poll_write(cx);
            if this.link.is_closing() {
                if this.rpc_wake.woken.load(Ordering::Acquire) {
                    continue;
                }
                return this.poll_close(cx);
            }
            let read = this.poll_read(cx);
            if !(ran || wrote || read) {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<S> Drop for Driver<S> {
    fn drop(&mut self) {
        self.rpc.drop_system();
        let rest = self.unsent.get(self.unsent_from..).unwrap_or_default();
        if !rest.is_empty() {
            self.link.stats.dropped(self.unsent_messages);
        }
        self.link.set_closed();
        self.link.stats.closed();
    }
}

/// Writes as much as the stream takes now.
fn write_some<S: AsyncWrite + Unpin>(
    stream: &mut S,
    cx: &mut Context<'_>,
    bytes: &[u8],
) -> io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = bytes.get(written..)
        && !rest.is_empty()
    {
        match Pin::new(&mut *stream).poll_write(cx, rest)? {
            Poll::Ready(0) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(count) => written += count,
            Poll::Pending => break,
        }
    }
    Ok(written)
}

/// Remembers that the RPC system wants to run, and wakes the task unless it is running already.
struct RpcWake {
    woken: AtomicBool,
    quiet: AtomicBool,
    task: AtomicWaker,
}

impl Default for RpcWake {
    fn default() -> Self {
        Self {
            woken: AtomicBool::new(true),
            quiet: AtomicBool::new(false),
            task: AtomicWaker::new(),
        }
    }
}

impl Wake for RpcWake {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        if !self.quiet.load(Ordering::Acquire) {
            self.task.wake();
        }
    }
}
