//! Cache hints: which jobs wait with one, and which workers have run one.
//!
//! Each hint's text is held once, however many jobs carry it, and let go when no job waits with it and no worker has it
//! cached. Knows names of workers only as seats.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::Hint;
use crate::time::Day;

use super::durations::Durations;
use super::job::Key;
use super::worker::Seat;

/// Stands for a hint while any job waits with it or any worker has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HintIndex(u32);

#[derive(Debug)]
struct Entry {
    hint: Hint,
    /// Queued jobs that carry it.
    queued: u32,
    /// Running jobs that do, from whose end there is something to learn.
    running: u32,
    durations: Durations,
    /// `balanced`: those of its jobs on the main queue that avoid no worker.
    line: BTreeSet<Key>,
    /// The workers that have run it, by seat, with the day of the last time.
    cached: Vec<(Seat, Day)>,
}

impl Entry {
    /// Whether nobody needs it.
    fn is_idle(&self) -> bool {
        self.queued == 0 && self.running == 0 && self.cached.is_empty()
    }
}

/// All hints of a pool.
#[derive(Debug, Default)]
pub(super) struct Hints {
    by_text: BTreeMap<Hint, HintIndex>,
    entries: Vec<Option<Entry>>,
    free: Vec<HintIndex>,
    /// What was cached on each day; rows seen again on a later day are still listed under the earlier one, and skipped
    /// when their time comes.
    by_day: BTreeMap<Day, Vec<(HintIndex, Seat)>>,
}

impl Hints {
    /// Counts one more queued job with this hint. Also tells whether the job may expect to find its cache: another job
    /// waits with the hint, or some worker, connected or not, has run it. Never true of the empty hint.
    pub(super) fn enqueue(&mut self, hint: Hint) -> (HintIndex, bool) {
        let at = self.index(hint);
        let Some(entry) = self.entry_mut(at) else {
            return (at, false);
        };
        let expected = !entry.hint.is_empty() && (entry.queued > 0 || !entry.cached.is_empty());
        entry.queued += 1;
        (at, expected)
    }

    /// Counts one queued job less.
    pub(super) fn dequeue(&mut self, at: HintIndex) {
        if let Some(entry) = self.entry_mut(at) {
            entry.queued = entry.queued.saturating_sub(1);
        }
        self.release(at);
    }

    /// Counts one more running job with this hint.
    pub(super) fn begin(&mut self, at: HintIndex) {
        if let Some(entry) = self.entry_mut(at) {
            entry.running += 1;
        }
    }

    /// Counts one running job less. Unless it began before anybody looked, it took so many seconds, and was expected to find
    /// its cache, or not.
    pub(super) fn end(&mut self, at: HintIndex, took: Option<(f64, bool)>) {
        if let Some(entry) = self.entry_mut(at) {
            entry.running = entry.running.saturating_sub(1);
            if let Some((seconds, warm)) = took {
                entry.durations.learn(seconds, warm);
            }
        }
        self.release(at);
    }

    /// How long jobs with this hint have taken.
    pub(super) fn durations(&self, at: HintIndex) -> Durations {
        self.entry(at)
            .map_or_else(Durations::default, |entry| entry.durations)
    }

    /// Notes that a job with this hint is on the main queue.
    pub(super) fn line_up(&mut self, at: HintIndex, key: Key) {
        if let Some(entry) = self.entry_mut(at)
            && !entry.hint.is_empty()
        {
            entry.line.insert(key);
        }
    }

    /// Notes that it no longer is.
    pub(super) fn leave_line(&mut self, at: HintIndex, key: Key) {
        if let Some(entry) = self.entry_mut(at) {
            entry.line.remove(&key);
        }
    }

    /// The first of those jobs.
    pub(super) fn first_in_line(&self, at: HintIndex) -> Option<Key> {
        self.entry(at)?.line.first().copied()
    }

    /// The text of a hint.
    pub(super) fn hint(&self, at: HintIndex) -> Hint {
        self.entry(at)
            .map_or_else(Hint::default, |entry| entry.hint.clone())
    }

    /// The workers that should be preferred for this hint, as seats, in order. None for the empty hint.
    pub(super) fn preferred(&self, at: HintIndex) -> &[(Seat, Day)] {
        match self.entry(at) {
            Some(entry) if !entry.hint.is_empty() => &entry.cached,
            _ => &[],
        }
    }

    /// Whether the worker is to be preferred for this hint.
    pub(super) fn prefers(&self, at: HintIndex, seat: Seat) -> bool {
        self.preferred(at)
            .binary_search_by_key(&seat, |row| row.0)
            .is_ok()
    }

    /// Notes that the worker has this hint cached. Tells whether that is news worth keeping.
    pub(super) fn cache(&mut self, at: HintIndex, seat: Seat, day: Day) -> bool {
        let Some(entry) = self.entry_mut(at) else {
            return false;
        };
        match entry.cached.binary_search_by_key(&seat, |row| row.0) {
            Ok(found) => match entry.cached.get_mut(found) {
                Some(row) if row.1 != day => row.1 = day,
                _ => return false,
            },
            Err(free) => entry.cached.insert(free, (seat, day)),
        }
        self.by_day.entry(day).or_default().push((at, seat));
        true
    }

    /// Notes the same from a record; tells the number of the hint.
    pub(super) fn restore(&mut self, hint: Hint, seat: Seat, day: Day) -> HintIndex {
        let at = self.index(hint);
        self.cache(at, seat, day);
        at
    }

    /// Forgets one row.
    pub(super) fn uncache(&mut self, hint: &Hint, seat: Seat) {
        let Some(&at) = self.by_text.get(hint) else {
            return;
        };
        if let Some(entry) = self.entry_mut(at) {
            entry.cached.retain(|row| row.0 != seat);
        }
        self.release(at);
    }

    /// Forgets every row last seen before `day`, and returns them.
    pub(super) fn expire_before(&mut self, day: Day) -> Vec<(Hint, Seat)> {
        let kept = self.by_day.split_off(&day);
        let mut expired = Vec::new();
        for (seen, rows) in std::mem::replace(&mut self.by_day, kept) {
            for (at, seat) in rows {
                let Some(entry) = self.entry_mut(at) else {
                    continue;
                };
                let Ok(found) = entry.cached.binary_search(&(seat, seen)) else {
                    continue;
                };
                entry.cached.remove(found);
                expired.push((entry.hint.clone(), seat));
                self.release(at);
            }
        }
        expired
    }

    /// Every hint cached somewhere, in order, with the seats that have it.
    pub(super) fn cached(&self) -> impl Iterator<Item = (&Hint, &[(Seat, Day)])> {
        self.by_text.iter().filter_map(|(hint, at)| {
            let rows = self.entry(*at)?.cached.as_slice();
            (!rows.is_empty()).then_some((hint, rows))
        })
    }

    fn index(&mut self, hint: Hint) -> HintIndex {
        if let Some(at) = self.by_text.get(&hint) {
            return *at;
        }
        let entry = Some(Entry {
            hint: hint.clone(),
            queued: 0,
            running: 0,
            durations: Durations::default(),
            line: BTreeSet::new(),
            cached: Vec::new(),
        });
        let at = match self.free.pop() {
            Some(at) => {
                if let Some(slot) = self.entries.get_mut(at.0 as usize) {
                    *slot = entry;
                }
                at
            }
            None => {
                self.entries.push(entry);
                // Four billion hints do not fit in memory; the number cannot wrap.
                HintIndex((self.entries.len() - 1) as u32)
            }
        };
        self.by_text.insert(hint, at);
        at
    }

    fn release(&mut self, at: HintIndex) {
        let Some(slot) = self.entries.get_mut(at.0 as usize) else {
            return;
        };
        if let Some(entry) = slot.take_if(|entry| entry.is_idle()) {
            self.by_text.remove(&entry.hint);
            self.free.push(at);
        }
    }

    fn entry(&self, at: HintIndex) -> Option<&Entry> {
        self.entries.get(at.0 as usize)?.as_ref()
    }

    fn entry_mut(&mut self, at: HintIndex) -> Option<&mut Entry> {
        self.entries.get_mut(at.0 as usize)?.as_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const W1: Seat = Seat::of(0);
    const W2: Seat = Seat::of(1);

    #[test]
    fn a_hint_is_let_go_when_nobody_needs_it() {
        let mut hints = Hints::default();
        let (a, _) = hints.enqueue("a".into());
        let (b, _) = hints.enqueue("b".into());
        assert!(hints.cache(b, W1, Day(1)));
        hints.dequeue(a);
        hints.dequeue(b);
        assert_eq!(hints.by_text.len(), 1, "b is cached, a is not");
        assert_eq!(
            hints.enqueue("c".into()).0,
            a,
            "the place of a is used again"
        );
        hints.uncache(&"b".into(), W1);
        assert_eq!(hints.by_text.keys().collect::<Vec<_>>(), [&Hint::from("c")]);
    }

    #[test]
    fn a_row_seen_again_lives_on() {
        let mut hints = Hints::default();
        let (a, _) = hints.enqueue("a".into());
        hints.cache(a, W1, Day(1));
        hints.cache(a, W2, Day(1));
        assert!(!hints.cache(a, W2, Day(1)), "no news");
        assert!(hints.cache(a, W2, Day(5)));
        assert_eq!(hints.expire_before(Day(3)), [(Hint::from("a"), W1)]);
        assert_eq!(hints.preferred(a), [(W2, Day(5))]);
        assert_eq!(hints.expire_before(Day(3)), []);
    }
}
