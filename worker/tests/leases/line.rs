//! The line between a worker and its scheduler, which can be cut.

use std::net::SocketAddr;
use std::sync::Arc;

use ocluster_vat::{Address, Location, SturdyRef};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// The line. It is whole at first, and gone when dropped.
pub struct Line {
    whole: watch::Sender<bool>,
    /// The scheduler, as seen from this end of the line.
    pub cap: SturdyRef,
    _carrying: AbortOnDropHandle<()>,
}

impl Line {
    pub async fn to(scheduler: &SturdyRef) -> Self {
        let Location::Tcp { host, port } = &scheduler.address.location else {
            panic!("not a TCP address")
        };
        let target: SocketAddr = format!("{host}:{port}").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let whole = watch::Sender::new(true);
        let state = Arc::new(whole.clone());
        let carrying = tokio::spawn(async move {
            while let Ok((worker, _)) = listener.accept().await {
                tokio::spawn(carry(worker, target, state.subscribe()));
            }
        });
        Self {
            whole,
            cap: SturdyRef {
                address: Address::new(Location::tcp("127.0.0.1", port), scheduler.address.digest),
                id: scheduler.id.clone(),
            },
            _carrying: AbortOnDropHandle::new(carrying),
        }
    }

    /// Ends all connections, and lets none be made.
    pub fn cut(&self) {
        self.whole.send_replace(false);
    }

    /// Lets connections be made again.
    pub fn mend(&self) {
        self.whole.send_replace(true);
    }
}

async fn carry(mut worker: TcpStream, target: SocketAddr, mut whole: watch::Receiver<bool>) {
    if !*whole.borrow_and_update() {
        return;
    }
    let Ok(mut scheduler) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = tokio::io::copy_bidirectional(&mut worker, &mut scheduler) => {}
        _ = whole.changed() => {}
    }
}
