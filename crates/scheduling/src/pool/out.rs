//! The answer to an event while it is being made: the time it happens at, and the effects so far.

use crate::effect::{Effect, Fact};
use crate::record::Record;
use crate::time::Timestamp;

/// Collects the effects of one event.
#[derive(Debug)]
pub(crate) struct Out {
    /// When the event happens.
    pub(crate) now: Timestamp,
    /// What follows from it, in order.
    pub(crate) list: Vec<Effect>,
}

impl Out {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            now,
            list: Vec::new(),
        }
    }

    pub(crate) fn push(&mut self, effect: Effect) {
        self.list.push(effect);
    }

    pub(crate) fn log(&mut self, fact: Fact) {
        self.list.push(Effect::Log(fact));
    }

    pub(crate) fn persist(&mut self, record: Record) {
        self.list.push(Effect::Persist(record));
    }
}
