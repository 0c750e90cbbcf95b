//! Sockets: their options, and moving a connected one from one runtime to another.
//!
//! A TLS session keeps its state while the socket under it changes its reactor: the handshake runs
//! on a pool of threads, the connection on the vat thread.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use crate::transport::ByteStream;

/// Silence after which the kernel asks whether the peer is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// The time between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How many may stay unanswered.
const KEEPALIVE_RETRIES: u32 = 3;
/// How long sent bytes may stay unacknowledged: as long as the questions above take in all.
const USER_TIMEOUT: Duration = Duration::from_secs(90);

/// Sets what every TCP connection of ours has: no Nagle delays, and death of the peer's host
/// noticed in a minute and a half even without traffic.
pub(crate) fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_IDLE)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_RETRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
}

/// A connected socket, registered with the runtime it was made on or between two runtimes.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    /// Of a network that is not the machine's. It stays on its runtime.
    Given(Box<dyn ByteStream>),
    Between(Between),
}

/// A socket which belongs to no runtime.
pub(crate) enum Between {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
    /// Taking it out or putting it back has failed.
    Lost,
}

impl Socket {
    /// Takes the socket out of its runtime. It must not be used until it is put back.
    pub(crate) fn detach(&mut self) -> io::Result<()> {
        let socket = std::mem::replace(self, Self::Between(Between::Lost));
        *self = match socket {
            Self::Tcp(stream) => Self::Between(Between::Tcp(stream.into_std()?)),
            Self::Unix(stream) => Self::Between(Between::Unix(stream.into_std()?)),
            there @ (Self::Given(_) | Self::Between(_)) => there,
        };
        Ok(())
    }

    /// Puts the socket into the runtime this is called on.
    pub(crate) fn attach(&mut self) -> io::Result<()> {
        let socket = std::mem::replace(self, Self::Between(Between::Lost));
        *self = match socket {
            Self::Between(Between::Tcp(stream)) => Self::Tcp(TcpStream::from_std(stream)?),
            Self::Between(Between::Unix(stream)) => Self::Unix(UnixStream::from_std(stream)?),
            there => there,
        };
        Ok(())
    }
}

fn lost() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the socket has no runtime")
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Given(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Between(_) => Poll::Ready(Err(lost())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Given(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Between(_) => Poll::Ready(Err(lost())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Given(stream) => Pin::new(stream).poll_flush(cx),
            Self::Between(_) => Poll::Ready(Err(lost())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Given(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Between(_) => Poll::Ready(Err(lost())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[tokio::test]
    async fn every_tcp_connection_is_tuned() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(address).await.unwrap();
        tune(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), KEEPALIVE_IDLE);
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), KEEPALIVE_RETRIES);
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(USER_TIMEOUT));
    }

    #[test]
    fn a_socket_can_move_to_another_runtime() {
        let runtime = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap()
        };
        let (one, other) = (runtime(), runtime());
        let (mut near, mut far) = one.block_on(async {
            let (near, far) = UnixStream::pair().unwrap();
            (Socket::Unix(near), far)
        });
        near.detach().unwrap();
        let lost = one.block_on(tokio::io::AsyncReadExt::read_u8(&mut near));
        assert_eq!(lost.unwrap_err().kind(), io::ErrorKind::NotConnected);
        one.block_on(tokio::io::AsyncWriteExt::write_u8(&mut far, 7))
            .unwrap();
        drop((far, one));
        let byte = other.block_on(async {
            near.attach().unwrap();
            tokio::io::AsyncReadExt::read_u8(&mut near).await.unwrap()
        });
        assert_eq!(byte, 7);
    }
}
