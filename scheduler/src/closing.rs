//! A store's writer that is let go of in bounded time.
//!
//! The store's engine may hang for good after an error of the disk, and a plain writer's drop waits for it. Nothing that was
//! acknowledged depends on the wait.

use std::sync::mpsc;
use std::time::Duration;

use ocluster_store::{StoreError, Writer};

/// How long what was not acknowledged may take to be written when nobody closes the writer properly.
const PATIENCE: Duration = Duration::from_secs(5);

/// A writer that is dropped in bounded time.
pub(crate) struct Closing(Option<Writer>);

impl Closing {
    pub(crate) fn new(writer: Writer) -> Self {
        Self(Some(writer))
    }

    /// Writes what waits, then closes the store. May be given up at any time: it then goes on without anybody waiting.
    ///
    /// # Errors
    /// The error that stopped the writer, if one did.
    pub(crate) async fn close(mut self) -> Result<(), StoreError> {
        match self.0.take() {
            Some(writer) => writer.close().await,
            None => Ok(()),
        }
    }
}

impl Drop for Closing {
    fn drop(&mut self) {
        let Some(writer) = self.0.take() else {
            return;
        };
        let (done, dropped) = mpsc::channel();
        let dropping = std::thread::Builder::new()
            .name("store-close".to_owned())
            .spawn(move || {
                drop(writer);
                // Whoever waited may have lost patience.
                let _ = done.send(());
            });
        if dropping.is_ok() {
            // Either way, it is over for this process.
            let _ = dropped.recv_timeout(PATIENCE);
        }
    }
}
