//! What happened last, to be shown if a promise is broken; and a digest of all that happened.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use ocluster_scheduling::Event;

use crate::chance::Ms;
use crate::happening::Happening;

/// So many entries are kept.
const KEPT: usize = 300;

#[derive(Debug)]
enum Entry {
    Happens(Happening),
    Decides(Event),
}

/// The end of a history.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    entries: VecDeque<(Ms, Entry)>,
    /// Fixed keys: the same history gives the same digest.
    digest: DefaultHasher,
}

impl Trace {
    pub(crate) fn happens(&mut self, now: Ms, what: &Happening) {
        (now, what).hash(&mut self.digest);
        self.keep(now, Entry::Happens(what.clone()));
    }

    pub(crate) fn decides(&mut self, now: Ms, event: &Event) {
        self.keep(now, Entry::Decides(event.clone()));
    }

    fn keep(&mut self, now: Ms, entry: Entry) {
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back((now, entry));
    }

    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// The last entries, one on each line.
    pub(crate) fn tail(&self) -> Vec<String> {
        let line = |(at, entry): &(Ms, Entry)| format!("{:>14} ms  {entry}", at);
        self.entries.iter().map(line).collect()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Entry::Happens(what) => write!(f, "{what:?}"),
            Entry::Decides(event) => write!(f, "    core: {event:?}"),
        }
    }
}
