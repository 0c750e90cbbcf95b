//! How many slots the running jobs take. A job that weighs more than others takes more than one.
//!
//! What a job weighs is known only when it has been given to this worker. So a job is asked for while at least one slot is free, and a
//! heavy one may take more slots than there are; no other is asked for then until enough have been given back. Slots outlive
//! connections: after a reconnect, jobs that are still being stopped keep theirs.

use tokio::sync::watch;

/// The worker's slots. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    in_use: watch::Sender<u32>,
    capacity: u32,
}

/// Slots that a job takes; they are free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Taken {
    in_use: watch::Sender<u32>,
    slots: u32,
}

impl Slots {
    /// This many slots, all free.
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            in_use: watch::Sender::new(0),
            capacity,
        }
    }

    /// How many there are.
    pub(crate) fn capacity(&self) -> u32 {
        self.capacity
    }

    /// How many slots the running jobs take: by at most the weight of one job, less one, more than there are.
    pub(crate) fn in_use(&self) -> u32 {
        *self.in_use.borrow()
    }

    /// The number of slots in use, now and whenever it changes.
    pub(crate) fn watch(&self) -> watch::Receiver<u32> {
        self.in_use.subscribe()
    }

    /// Waits until a slot is free. It is not taken by that: there is one who waits here, and who takes slots.
    pub(crate) async fn one_free(&self) {
        self.until(|in_use| in_use < self.capacity).await;
    }

    /// Takes this many, whether or not they are free.
    pub(crate) fn take(&self, slots: u32) -> Taken {
        self.in_use
            .send_modify(|in_use| *in_use = in_use.saturating_add(slots));
        Taken {
            in_use: self.in_use.clone(),
            slots,
        }
    }

    /// Waits until all slots are free: no job runs.
    pub(crate) async fn all_free(&self) {
        self.until(|in_use| in_use == 0).await;
    }

    async fn until(&self, is_so: impl Fn(u32) -> bool) {
        let mut in_use = self.in_use.subscribe();
        // The sender is ours, so that the wait ends only when it is so.
        let _ = in_use.wait_for(|in_use| is_so(*in_use)).await;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.in_use
            .send_modify(|in_use| *in_use = in_use.saturating_sub(self.slots));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn is_free(slots: &Slots) -> bool {
        slots.one_free().now_or_never().is_some()
    }

    #[test]
    fn a_heavy_job_may_take_more_than_there_is_and_then_others_wait_until_they_fit() {
        let slots = Slots::new(4);
        let light: Vec<_> = (0..3).map(|_| slots.take(1)).collect();
        assert!(is_free(&slots));
        let heavy = slots.take(3);
        assert_eq!(slots.in_use(), 6);
        // Six of four: three have to end before there is room for one more.
        for job in light {
            assert!(!is_free(&slots), "{} in use", slots.in_use());
            drop(job);
        }
        assert!(is_free(&slots));
        assert_eq!(slots.in_use(), 3);
        drop(heavy);
        assert_eq!(slots.in_use(), 0);
    }

    #[tokio::test]
    async fn whoever_waits_for_the_last_job_sees_it_end() {
        let slots = Slots::new(2);
        slots.all_free().await;
        let job = slots.take(2);
        let mut waiting = std::pin::pin!(slots.all_free());
        assert!(waiting.as_mut().now_or_never().is_none());
        // Jobs end on other threads.
        std::thread::spawn(move || drop(job)).join().unwrap();
        waiting.await;
    }
}
