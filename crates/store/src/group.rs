//! The writer's thread: takes what is queued, writes it as one batch with one flush, and tells everybody.
//!
//! A flush costs the whole disk something, so changes that nobody waits for linger for a moment to share one.
//!
//! It must never acknowledge before the flush, and never write after an error.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Instant;

use crate::writer::{Ack, Message, Shared};
use crate::{Change, Store};

/// The writer's thread: one group, one flush, many acknowledgements.
pub(crate) fn run(store: &dyn Store, receiver: &mpsc::Receiver<Message>, shared: &Shared) {
    let mut group = Group::default();
    while let Ok(first) = receiver.recv() {
        let mut next = Some(first);
        let mut closing = false;
        let flush_at = Instant::now() + shared.config.linger;
        while let Some(message) = next.take() {
            match message {
                Message::Changes {
                    changes,
                    weight,
                    ack,
                } => group.add(changes, weight, ack),
                Message::Query(question) => {
                    group.write(store, shared);
                    question(store);
                }
                // What is asked for is on disk already, so that nobody's flush is brought forward.
                Message::Peek(question) => question(store),
                Message::Close => closing = true,
            }
            if !closing && !group.is_full(shared) {
                next = receiver.try_recv().ok();
                while next.is_none() && group.may_linger() && Instant::now() < flush_at {
                    shared.bell.rest_until(flush_at);
                    next = receiver.try_recv().ok();
                }
            }
        }
        group.write(store, shared);
        if closing {
            return;
        }
    }
}

#[derive(Default)]
pub(crate) struct Group {
    changes: Vec<Change>,
    acks: Vec<Ack>,
    weight: usize,
}

impl Group {
    pub(crate) fn add(&mut self, changes: Vec<Change>, weight: usize, ack: Option<Ack>) {
        self.changes.extend(changes);
        self.acks.extend(ack);
        self.weight += weight;
    }

    /// Whether there is something to flush, and nobody waits for it.
    pub(crate) fn may_linger(&self) -> bool {
        !self.changes.is_empty() && self.acks.is_empty()
    }

    /// Whether there is nothing to flush.
    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Whether it is as large as a group may be.
    pub(crate) fn is_full(&self, shared: &Shared) -> bool {
        self.changes.len() >= shared.config.max_group
    }

    /// Leaves out records that the group itself replaces: a short job is queued, runs and ends within one flush.
    fn leave_out_superseded(&mut self) {
        let mut later = HashSet::with_capacity(self.changes.len());
        let mut superseded = 0;
        let needed: Vec<bool> = self
            .changes
            .iter()
            .rev()
            .map(|change| {
                let needed = match change {
                    Change::JobRecorded(record) => later.insert(record.id),
                    _ => true,
                };
                superseded += usize::from(!needed);
                needed
            })
            .collect();
        if superseded > 0 {
            let mut needed = needed.into_iter().rev();
            self.changes.retain(|_| needed.next().unwrap_or(true));
        }
    }

    pub(crate) fn write(&mut self, store: &dyn Store, shared: &Shared) {
        self.leave_out_superseded();
        let result = if self.changes.is_empty() {
            shared.refusal()
        } else {
            shared.refusal().and_then(|()| store.apply(&self.changes))
        };
        if let Err(error) = &result {
            shared.stop(error);
        }
        shared.waiting.fetch_sub(self.weight, Ordering::SeqCst);
        self.weight = 0;
        self.changes.clear();
        for ack in self.acks.drain(..) {
            // Whoever committed may have stopped waiting.
            let _unheard = ack.send(result.clone());
        }
    }
}
