//! Plain connections to the engine, for what the client library cannot say: requests that are upgraded, and answers in BuildKit's form.
//!
//! One connection carries one request. Dropping it is how the engine learns that nobody waits any more.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use crate::executor::docker::config::EngineAddress;
use crate::executor::docker::engine;

/// A request without a body, to be sent to the engine.
pub(super) fn post(path: &str) -> hyper::http::request::Builder {
    Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, "docker")
}

/// An answer that has begun, and the connection it arrives on.
#[derive(Debug)]
pub(super) struct Answered {
    /// Status, headers, and the body as it comes.
    pub(super) response: Response<Incoming>,
    /// Drives the connection. Dropping it hangs up.
    pub(super) driver: AbortOnDropHandle<()>,
}

/// Sends a request on a connection of its own, and waits for the answer to begin.
///
/// # Errors
/// A sentence fragment that says why there is no answer.
pub(super) async fn send(
    address: &EngineAddress,
    connect_limit: Duration,
    request: Request<Empty<Bytes>>,
) -> Result<Answered, String> {
    let socket = tokio::time::timeout(connect_limit, connect(address))
        .await
        .map_err(|_| "it does not answer in time".to_owned())?
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket))
        .await
        .map_err(|error| engine::innermost(&error))?;
    let driver = tokio::spawn(async move {
        // How a connection ends is told by what it carries.
        let _ = connection.with_upgrades().await;
    });
    let driver = AbortOnDropHandle::new(driver);
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| engine::innermost(&error))?;
    Ok(Answered { response, driver })
}

/// A socket of either kind.
trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

async fn connect(address: &EngineAddress) -> io::Result<Box<dyn Socket>> {
    Ok(match address {
        EngineAddress::Unix(path) => Box::new(UnixStream::connect(path).await?),
        EngineAddress::Http(address) => {
            let address = address.trim_end_matches('/');
            let socket = if address
                .rsplit_once(':')
                .is_some_and(|(_, port)| port.parse::<u16>().is_ok())
            {
                TcpStream::connect(address).await?
            } else {
                TcpStream::connect((address, 80)).await?
            };
            socket.set_nodelay(true)?;
            Box::new(socket)
        }
    })
}
