//! What is due when, in simulated time. Things due at once happen in the order in which they were planned.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::chance::Ms;

/// Everything that is yet to happen.
#[derive(Debug)]
pub(crate) struct Timeline<T> {
    due: BinaryHeap<Reverse<(Ms, u64)>>,
    what: BTreeMap<u64, T>,
    next: u64,
}

impl<T> Timeline<T> {
    pub(crate) fn new() -> Self {
        Self {
            due: BinaryHeap::new(),
            what: BTreeMap::new(),
            next: 0,
        }
    }

    pub(crate) fn plan(&mut self, at: Ms, what: T) {
        self.due.push(Reverse((at, self.next)));
        self.what.insert(self.next, what);
        self.next += 1;
    }

    /// The next thing, and when it happens.
    pub(crate) fn next(&mut self) -> Option<(Ms, T)> {
        let Reverse((at, number)) = self.due.pop()?;
        Some((at, self.what.remove(&number)?))
    }
}
