//! Binding the socket a vat listens on.

use std::fmt;
use std::io;
use std::net::ToSocketAddrs as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use socket2::{Domain, SockAddr, Type};
use thiserror::Error;

use crate::transport::Acceptance;
use crate::{KeyError, Location};

/// How many connections may wait to be accepted. A small number makes a storm of reconnecting
/// workers slow: the kernel drops what does not fit, and they try again a second later.
const BACKLOG: i32 = 1024;

/// Why listening is not possible.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on {location}: the address is in use; stop the program which listens there, or choose another port"
    )]
    InUse {
        /// The location asked for.
        location: Location,
    },
    /// Where the socket should be, there is something that is not a socket.
    #[error("cannot listen on unix:{path}: the file exists and is not a socket; remove it, or choose another path", path = path.display())]
    NotASocket {
        /// The path asked for.
        path: PathBuf,
    },
    /// The operating system said no, or the host name is unknown.
    #[error("cannot listen on {location}: {source}")]
    Bind {
        /// The location asked for.
        location: Location,
        /// What the operating system said.
        source: io::Error,
    },
    /// The key cannot be used to serve TLS.
    #[error("cannot serve TLS on {location}: {source}")]
    Key {
        /// The location asked for.
        location: Location,
        /// What is wrong with it.
        source: KeyError,
    },
    /// TLS cannot be set up.
    #[error("cannot serve TLS on {location}: {reason}")]
    Tls {
        /// The location asked for.
        location: Location,
        /// What the TLS library said.
        reason: String,
    },
}

/// A socket which listens: peers can connect already, and wait until a [`crate::Server`] runs.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: ListeningSocket,
    location: Location,
}

pub(crate) enum ListeningSocket {
    Tcp(std::net::TcpListener),
    Unix {
        listener: std::os::unix::net::UnixListener,
        /// The socket file which is ours to remove.
        file: SocketFile,
    },
    /// Of a network that is not the machine's.
    Given(Box<dyn Acceptance>),
}

impl fmt::Debug for ListeningSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp(_) => "Tcp",
            Self::Unix { .. } => "Unix",
            Self::Given(_) => "Given",
        })
    }
}

impl Listener {
    /// Binds to `location` and listens. Blocks while a host name is looked up. A Unix socket file
    /// which exists already is replaced.
    ///
    /// # Errors
    /// Says what is in the way, and what to do about it.
    pub fn bind(location: &Location) -> Result<Self, ListenError> {
        match location {
            Location::Tcp { host, port } => bind_tcp(host, *port),
            Location::Unix(path) => bind_unix(path),
        }
        .map_err(|fault| match fault {
            Fault::NotASocket(path) => ListenError::NotASocket { path },
            Fault::Io(e) if e.kind() == io::ErrorKind::AddrInUse => ListenError::InUse {
                location: location.clone(),
            },
            Fault::Io(source) => ListenError::Bind {
                location: location.clone(),
                source,
            },
        })
    }

    pub(crate) fn given(acceptance: Box<dyn Acceptance>, location: Location) -> Self {
        Self {
            socket: ListeningSocket::Given(acceptance),
            location,
        }
    }

    /// Where it listens: what was asked for, with the real port where any was.
    #[must_use]
    pub fn local_location(&self) -> &Location {
        &self.location
    }
}

enum Fault {
    Io(io::Error),
    NotASocket(PathBuf),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

fn bind_tcp(host: &str, port: u16) -> Result<Listener, Fault> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in (host, port).to_socket_addrs()? {
        match try_bind_tcp(address) {
            Ok(listener) => {
                let port = listener.local_addr()?.port();
                return Ok(Listener {
                    socket: ListeningSocket::Tcp(listener),
                    location: Location::tcp(host, port),
                });
            }
            Err(e) => last = e,
        }
    }
    Err(last.into())
}

fn try_bind_tcp(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // A restarted server must not wait for the connections of the last one to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path) -> Result<Listener, Fault> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => std::fs::remove_file(path)?,
        Ok(_) => return Err(Fault::NotASocket(path.to_owned())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e.into()),
    }
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(Listener {
        socket: ListeningSocket::Unix {
            listener: socket.into(),
            file: SocketFile::new(path)?,
        },
        location: Location::Unix(path.to_owned()),
    })
}

/// Removes the socket file when it is dropped, unless another server has replaced it meanwhile.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        let found = std::fs::symlink_metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            identity: (found.dev(), found.ino()),
        })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Ok(found) = std::fs::symlink_metadata(&self.path)
            && (found.dev(), found.ino()) == self.identity
        {
            // Nobody is left to be told if it fails; the next server replaces the file.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
