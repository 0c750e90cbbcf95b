//! Hands out job ids that never repeat, not even after a crash, without a disk access per job.
//!
//! Ids are reserved in blocks: the store remembers where the block ends, and a restart begins there. So ids grow for
//! ever, with a gap at each restart. It must never hand out an id whose reservation is not flushed.

use tokio::sync::oneshot;

use crate::{Change, JobId, StoreError, StoreHandle};

/// Ids in one reservation. Half of it is what may be submitted at once, however slow the disk is.
const BLOCK: u64 = 65_536;

/// The source of job ids. One per scheduler.
#[derive(Debug)]
pub struct JobIds {
    store: StoreHandle,
    next: u64,
    /// The end of what is reserved for sure.
    end: u64,
    /// A reservation under way, and the end it will give.
    coming: Option<(u64, oneshot::Receiver<Result<(), StoreError>>)>,
}

impl JobIds {
    /// Reserves the first block after [`Snapshot::next_job_id`](crate::Snapshot::next_job_id).
    ///
    /// # Errors
    /// As [`StoreHandle::commit`].
    pub async fn start(store: StoreHandle, next: JobId) -> Result<Self, StoreError> {
        let next = next.get().max(1);
        let end = next.saturating_add(BLOCK);
        store
            .commit(vec![Change::JobIdsReserved { next: end }])
            .await?;
        Ok(Self {
            store,
            next,
            end,
            coming: None,
        })
    }

    /// The next id. Never waits: the following block is reserved when half of this one is used.
    ///
    /// # Errors
    /// [`StoreError::Busy`] when the disk is thousands of jobs behind; storage errors. No id is lost by asking again.
    pub fn next_id(&mut self) -> Result<JobId, StoreError> {
        self.take_reservation();
        if self.end - self.next <= BLOCK / 2 && self.coming.is_none() {
            self.reserve()?;
            // A store without a thread has answered already.
            self.take_reservation();
        }
        if self.next == self.end {
            return Err(StoreError::Busy {
                waiting: self.store.waiting_bytes(),
                limit: 0,
            });
        }
        let id = JobId::new(self.next);
        self.next += 1;
        Ok(id)
    }

    fn reserve(&mut self) -> Result<(), StoreError> {
        let end = self.end.saturating_add(BLOCK);
        let done = self
            .store
            .commit_in_background(vec![Change::JobIdsReserved { next: end }])?;
        self.coming = Some((end, done));
        Ok(())
    }

    fn take_reservation(&mut self) {
        let Some((end, done)) = &mut self.coming else {
            return;
        };
        match done.try_recv() {
            Ok(Ok(())) => {
                self.end = *end;
                self.coming = None;
            }
            Err(oneshot::error::TryRecvError::Empty) => {}
            // The block that is left may still be used; the next call reserves again and meets the error.
            Ok(Err(_)) | Err(oneshot::error::TryRecvError::Closed) => self.coming = None,
        }
    }
}
