//! The simulated network, as vats see it. All connections are plain: what encryption would hide, nobody listens to here.

use std::io;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ocluster_vat::{Acceptance, ByteStream, Location, Transport};
use turmoil::net::{TcpListener, TcpStream};

/// The network that all simulated hosts share.
#[derive(Clone, Copy, Debug)]
pub struct SimNetwork;

fn host_and_port(location: &Location) -> io::Result<(String, u16)> {
    match location {
        Location::Tcp { host, port } => Ok((host.clone(), *port)),
        Location::Unix(_) => Err(io::Error::other("only TCP is simulated")),
    }
}

impl Transport for SimNetwork {
    fn dial<'a>(
        &'a self,
        location: &'a Location,
    ) -> BoxFuture<'a, io::Result<Box<dyn ByteStream>>> {
        async {
            let stream = TcpStream::connect(host_and_port(location)?).await?;
            Ok(Box::new(stream) as Box<dyn ByteStream>)
        }
        .boxed()
    }

    fn listen<'a>(
        &'a self,
        location: &'a Location,
    ) -> BoxFuture<'a, io::Result<Box<dyn Acceptance>>> {
        async {
            let listener = TcpListener::bind(host_and_port(location)?).await?;
            Ok(Box::new(Listening(listener)) as Box<dyn Acceptance>)
        }
        .boxed()
    }
}

struct Listening(TcpListener);

impl Acceptance for Listening {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Box<dyn ByteStream>, String)>> {
        async {
            let (stream, from) = self.0.accept().await?;
            Ok((Box::new(stream) as Box<dyn ByteStream>, from.to_string()))
        }
        .boxed()
    }
}
