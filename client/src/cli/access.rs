//! The way to the scheduler, which is made anew whenever it is lost, however long that takes.

use std::cell::RefCell;
use std::time::Duration;

use ocluster_cli::{Backoff, Failure, PassingLine, connect, output};
use ocluster_vat::{DialOptions, Digest, RpcError, SturdyRef, Vat};
use tokio::time::Instant;

use crate::Client;

/// How long the end of a connection may take to show in itself after it has shown in a call.
const LOSS_GRACE: Duration = Duration::from_secs(1);
/// After so long without a connection, the reason is told, once.
const TELL_AFTER: Duration = Duration::from_secs(60);

/// A connection to the scheduler, as good as there is one.
pub(crate) struct Access<'a> {
    vat: &'a Vat,
    cap: &'a SturdyRef,
    options: DialOptions,
    client: RefCell<Client>,
    waits: RefCell<Waits>,
}

struct Waits {
    backoff: Backoff,
    connected: Instant,
}

impl<'a> Access<'a> {
    /// Connects for the first time, telling the user how it goes.
    pub(crate) async fn connect(vat: &'a Vat, cap: &'a SturdyRef) -> Result<Self, Failure> {
        let options = DialOptions::default();
        let connection = connect(vat, cap, &options).await?;
        Ok(Self {
            vat,
            cap,
            options,
            client: RefCell::new(Client::over(connection, cap)),
            waits: RefCell::new(Waits {
                backoff: Backoff::new(),
                connected: Instant::now(),
            }),
        })
    }

    /// The present connection, which may be lost already.
    pub(crate) fn client(&self) -> Client {
        self.client.borrow().clone()
    }

    /// Whether the other end has proven to be the scheduler by connecting. Without a key, that shows in its first answer.
    pub(crate) fn is_proven(&self) -> bool {
        self.cap.address.digest != Digest::Insecure
    }

    /// Whether the connection is lost, which shows in its calls a little earlier than in itself.
    pub(crate) async fn is_lost(&self) -> bool {
        let client = self.client();
        tokio::time::timeout(LOSS_GRACE, client.connection().closed())
            .await
            .is_ok()
    }

    /// Connects again after `error`, and says so.
    pub(crate) async fn reconnect(&self, error: &RpcError) {
        output::complain(format!(
            "Lost connection to scheduler ({error}); reconnecting…"
        ));
        self.connect_again().await;
    }

    /// Connects again without a word, unless it takes long.
    pub(crate) async fn connect_again(&self) {
        let mut line = PassingLine::new();
        let (began, mut told) = (Instant::now(), false);
        loop {
            self.pause().await;
            match self
                .vat
                .connect(&self.cap.address, &self.options, &mut |_| {})
                .await
            {
                Ok(connection) => {
                    self.client.replace(Client::over(connection, self.cap));
                    self.waits.borrow_mut().connected = Instant::now();
                    return;
                }
                Err(error) => {
                    line.show(&format!("not connected: {error}"));
                    if !told && began.elapsed() >= TELL_AFTER {
                        told = true;
                        line.clear();
                        output::complain(format!("Still not connected: {error}"));
                    }
                }
            }
        }
    }

    /// Waits for as long as is polite between two attempts.
    pub(crate) async fn pause(&self) {
        let wait = {
            let mut waits = self.waits.borrow_mut();
            let lasted = waits.connected.elapsed();
            waits.connected = Instant::now();
            waits.backoff.after(lasted)
        };
        tokio::time::sleep(wait).await;
    }
}
