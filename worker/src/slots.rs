//! How many jobs run at once. Slots outlive connections: after a reconnect, jobs that are still being stopped keep theirs.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The worker's slots.
#[derive(Clone)]
pub(crate) struct Slots {
    free: Arc<Semaphore>,
    capacity: u32,
}

/// A slot that is taken; it is free again when this is dropped.
pub(crate) struct Slot(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Slots {
    /// This many slots, all free.
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(capacity as usize)),
            capacity,
        }
    }

    /// Waits for a free slot and takes it. Whoever stops waiting has taken none.
    pub(crate) async fn take(&self) -> Slot {
        match self.free.clone().acquire_owned().await {
            Ok(permit) => Slot(permit),
            // Never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until all slots are free.
    pub(crate) async fn all_free(&self) {
        drop(self.free.acquire_many(self.capacity).await);
    }
}
