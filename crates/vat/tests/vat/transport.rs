//! Vats over a network that is not the machine's: a handful of pipes in memory.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use ocluster_vat::{
    Acceptance, Address, ByteStream, DialOptions, Digest, Limits, Listener, Location, SecretKey,
    Server, Stats, Transport, Vat,
};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::support::{Known, echo, id, vat_test};

type Stream = Box<dyn ByteStream>;
type Callers = mpsc::UnboundedReceiver<Stream>;

/// A network with one place to dial.
#[derive(Debug, Default)]
struct Pipes {
    callers: Mutex<Option<mpsc::UnboundedSender<Stream>>>,
}

impl Transport for Pipes {
    fn dial<'a>(&'a self, _: &'a Location) -> BoxFuture<'a, io::Result<Stream>> {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let callers = self.callers.lock().unwrap();
        let heard = callers
            .as_ref()
            .is_some_and(|callers| callers.send(Box::new(far)).is_ok());
        let outcome = if heard {
            Ok(Box::new(near) as Stream)
        } else {
            Err(io::ErrorKind::ConnectionRefused.into())
        };
        std::future::ready(outcome).boxed()
    }

    fn listen<'a>(&'a self, _: &'a Location) -> BoxFuture<'a, io::Result<Box<dyn Acceptance>>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.callers.lock().unwrap() = Some(sender);
        let acceptance = Queue(tokio::sync::Mutex::new(receiver));
        std::future::ready(Ok(Box::new(acceptance) as Box<dyn Acceptance>)).boxed()
    }
}

struct Queue(tokio::sync::Mutex<Callers>);

impl Acceptance for Queue {
    fn accept(&self) -> BoxFuture<'_, io::Result<(Stream, String)>> {
        async {
            match self.0.lock().await.recv().await {
                Some(stream) => Ok((stream, "pipe".to_owned())),
                None => std::future::pending().await,
            }
        }
        .boxed()
    }
}

async fn echo_over_pipes(key: Option<SecretKey>) {
    let network = Arc::new(Pipes::default());
    let place = Location::tcp("anywhere", 1);
    let address = Address::new(
        place.clone(),
        key.as_ref().map_or(Digest::Insecure, SecretKey::digest),
    );
    let vat = Vat::over(network.clone(), Stats::new());
    let refused = vat
        .connect(&address, &DialOptions::default(), &mut |_| {})
        .await;
    assert!(refused.is_err(), "nobody listens yet");

    let stop = CancellationToken::new();
    let server = Server {
        listener: Listener::over(&*network, &place).await.unwrap(),
        key,
        limits: Limits::default(),
        restorer: Rc::new(Known::with(&[b"thing"])),
        stats: Stats::new(),
        io: tokio::runtime::Handle::current(),
    };
    let served = tokio::task::spawn_local(server.run(stop.clone()));
    let connection = vat
        .connect(&address, &DialOptions::default(), &mut |_| {})
        .await
        .unwrap();
    let thing = connection.bootstrap(&id("thing"));
    assert_eq!(echo(&thing, "hello").await.unwrap(), "thing:hello");

    stop.cancel();
    served.await.unwrap().unwrap();
    assert_eq!(connection.closed().await.as_str(), "Vat shut down");
}

#[test]
fn vats_meet_over_a_network_that_is_given() {
    vat_test(echo_over_pipes(None));
}

#[test]
fn tls_works_over_a_network_that_is_given() {
    vat_test(echo_over_pipes(Some(SecretKey::ephemeral().unwrap())));
}
