//! A connection whose far end can be made to hang: it goes on sending, and hears nothing any more.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use ocluster_vat::{Connection, ConnectionOptions, Digest, PeerInfo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::site::Running;

/// A socket that can stop reading, so that its peer's answers pile up.
pub(crate) struct Stoppable {
    socket: TcpStream,
    stopped: Rc<Cell<bool>>,
}

impl Stoppable {
    /// A connection to the scheduler, and the switch that stops its reading.
    pub(crate) async fn connect(scheduler: &Running) -> (Connection, Rc<Cell<bool>>) {
        let stopped = Rc::new(Cell::new(false));
        let socket = TcpStream::connect(scheduler.socket()).await.unwrap();
        let stream = Self {
            socket,
            stopped: stopped.clone(),
        };
        let peer = PeerInfo::local("stoppable", Digest::Insecure);
        let connection = Connection::from_stream(stream, peer, ConnectionOptions::dialled());
        (connection, stopped)
    }
}

impl AsyncRead for Stoppable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        if self.stopped.get() {
            // Nobody starts it again.
            return Poll::Pending;
        }
        Pin::new(&mut self.socket).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stoppable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}
