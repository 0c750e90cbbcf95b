//! The network as a worker on a machine of its own sees it: each number has an address of its own on loopback, so that the scheduler counts
//! strangers as it would in a real farm.

use std::net::Ipv4Addr;

use futures::future::BoxFuture;
use ocluster_vat::{Acceptance, ByteStream, Location, Transport};
use tokio::net::TcpSocket;

/// A machine with an address of its own.
#[derive(Debug)]
pub(super) struct Machine(Ipv4Addr);

impl Machine {
    /// The machine with this number. None has the usual address of loopback, nor do two have the same.
    pub(super) fn new(number: u32) -> Self {
        Self(Ipv4Addr::from(
            u32::from(Ipv4Addr::new(127, 1, 0, 1)) + number,
        ))
    }
}

impl Transport for Machine {
    fn dial<'a>(
        &'a self,
        location: &'a Location,
    ) -> BoxFuture<'a, std::io::Result<Box<dyn ByteStream>>> {
        Box::pin(async move {
            let Location::Tcp { host, port } = location else {
                return Err(std::io::Error::other("only TCP has addresses"));
            };
            let mut found = tokio::net::lookup_host((host.as_str(), *port)).await?;
            let to = found
                .next()
                .ok_or_else(|| std::io::Error::other("the host has no address"))?;
            let socket = TcpSocket::new_v4()?;
            socket.set_nodelay(true)?;
            socket.bind((self.0, 0).into())?;
            let stream: Box<dyn ByteStream> = Box::new(socket.connect(to).await?);
            Ok(stream)
        })
    }

    fn listen<'a>(
        &'a self,
        _: &'a Location,
    ) -> BoxFuture<'a, std::io::Result<Box<dyn Acceptance>>> {
        Box::pin(std::future::ready(Err(std::io::Error::other(
            "workers do not listen",
        ))))
    }
}
