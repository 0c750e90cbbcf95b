//! What the store holds, in memory: who is built on whom, who is in use, and who was used when.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;

use super::meta::Facts;
use crate::StepId;

/// All layers. Everything here takes time logarithmic in their number, or linear in the length of the answer.
#[derive(Debug, Default)]
pub(super) struct Index {
    layers: HashMap<StepId, Entry>,
    /// Those that may be pruned (nobody uses them, nothing is built on them), by when they were used last.
    idle: BTreeSet<(Timestamp, u64, StepId)>,
    /// The number of the next layer.
    next: u64,
    /// Numbers given to layers that are not in `layers` yet.
    coming: BTreeSet<u64>,
}

/// One layer.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) facts: Arc<Facts>,
    pub(super) used: Timestamp,
    /// Whether there is a copy of its whole tree, and what was kept of those below it is not needed for it.
    pub(super) flat: bool,
    pins: usize,
    children: BTreeSet<StepId>,
}

/// Why a layer cannot be taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    /// It is not there.
    Unknown,
    /// Somebody uses it.
    Pinned,
    /// Something is built on it.
    HasChildren,
}

impl Index {
    /// An empty one, whose first layer gets the number `next`.
    pub(super) fn starting_at(next: u64) -> Self {
        Self {
            next,
            ..Self::default()
        }
    }

    pub(super) fn get(&self, id: StepId) -> Option<&Entry> {
        self.layers.get(&id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.layers.values()
    }

    pub(super) fn len(&self) -> usize {
        self.layers.len()
    }

    /// A number for a layer that is about to come.
    pub(super) fn number(&mut self) -> u64 {
        let seq = self.next;
        self.next += 1;
        self.coming.insert(seq);
        seq
    }

    /// The layer with this number came, or will not.
    pub(super) fn numbered(&mut self, seq: u64) {
        self.coming.remove(&seq);
    }

    /// All layers with smaller numbers are in place, or will never be.
    pub(super) fn settled_below(&self) -> u64 {
        self.coming.first().copied().unwrap_or(self.next)
    }

    /// Adds a layer, whose parent is there.
    pub(super) fn insert(&mut self, facts: Arc<Facts>, used: Timestamp, flat: bool) {
        let id = facts.id;
        if let Some(parent) = facts.parent {
            self.change(parent, |entry| {
                entry.children.insert(id);
            });
        }
        self.next = self.next.max(facts.seq + 1);
        self.layers.insert(
            id,
            Entry {
                facts,
                used,
                flat,
                pins: 0,
                children: BTreeSet::new(),
            },
        );
        self.change(id, |_| ());
    }

    /// Pins a layer that is used at `now`.
    pub(super) fn pin(&mut self, id: StepId, now: Timestamp) -> Option<Arc<Facts>> {
        self.change(id, |entry| {
            entry.pins += 1;
            entry.used = entry.used.max(now);
            entry.facts.clone()
        })
    }

    /// Takes back one pin.
    pub(super) fn unpin(&mut self, id: StepId) {
        self.change(id, |entry| entry.pins = entry.pins.saturating_sub(1));
    }

    /// Remembers that there is a copy of the layer's whole tree.
    pub(super) fn flattened(&mut self, id: StepId) {
        self.change(id, |entry| entry.flat = true);
    }

    /// Takes a layer out that nobody needs.
    pub(super) fn take(&mut self, id: StepId) -> Result<Entry, Kept> {
        let entry = self.layers.get(&id).ok_or(Kept::Unknown)?;
        if entry.pins > 0 {
            return Err(Kept::Pinned);
        }
        if !entry.children.is_empty() {
            return Err(Kept::HasChildren);
        }
        let entry = self.layers.remove(&id).ok_or(Kept::Unknown)?;
        self.idle.remove(&(entry.used, entry.facts.seq, id));
        if let Some(parent) = entry.facts.parent {
            self.change(parent, |above| {
                above.children.remove(&id);
            });
        }
        Ok(entry)
    }

    /// The layer that was used longest ago, of those that nobody needs and that were used before `before`.
    pub(super) fn oldest(&self, before: Timestamp) -> Option<StepId> {
        let (used, _, id) = self.idle.first()?;
        (*used < before).then_some(*id)
    }

    /// The layer and everything that is built on it, in an order in which all can be taken out.
    pub(super) fn subtree(&self, id: StepId) -> Vec<StepId> {
        let mut found = vec![id];
        let mut next = 0;
        while let Some(entry) = found.get(next).map(|id| self.layers.get(id)) {
            found.extend(entry.into_iter().flat_map(|entry| &entry.children));
            next += 1;
        }
        found.reverse();
        found
    }

    /// Whether somebody uses the layer.
    pub(super) fn is_pinned(&self, id: StepId) -> bool {
        self.layers.get(&id).is_some_and(|entry| entry.pins > 0)
    }

    /// What is needed to see the layer's tree, the newest first: layers, and whether it is their whole trees. Only the last is whole.
    pub(super) fn chain(&self, id: StepId) -> Vec<(Arc<Facts>, bool)> {
        let mut chain = Vec::new();
        let mut next = Some(id);
        while let Some(entry) = next.and_then(|id| self.layers.get(&id)) {
            chain.push((entry.facts.clone(), entry.flat));
            next = if entry.flat { None } else { entry.facts.parent };
        }
        chain
    }

    /// Changes an entry and keeps `idle` right.
    fn change<T>(&mut self, id: StepId, change: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.layers.get_mut(&id)?;
        self.idle.remove(&(entry.used, entry.facts.seq, id));
        let changed = change(entry);
        if entry.pins == 0 && entry.children.is_empty() {
            self.idle.insert((entry.used, entry.facts.seq, id));
        }
        Some(changed)
    }
}
