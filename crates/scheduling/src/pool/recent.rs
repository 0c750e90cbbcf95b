//! The hints that a worker used last: those it probably still has cached. What it has not used for long is forgotten, as its own
//! cache does sooner or later.

use super::hints::HintIndex;

/// How many hints are remembered of each worker.
const MOST: usize = 32;

/// Some hints, the one used last at the end, each with whether a job with it has ended since it was remembered.
#[derive(Debug, Default)]
pub(super) struct Recent(Vec<(HintIndex, bool)>);

impl Recent {
    /// The worker takes a job with this hint (`ended`: such a job has ended there).
    pub(super) fn note(&mut self, hint: HintIndex, ended: bool) {
        let known = self.0.iter().position(|(known, _)| *known == hint);
        let was_warm = match known {
            Some(at) => self.0.remove(at).1,
            None => {
                if self.0.len() >= MOST {
                    self.0.remove(0);
                }
                false
            }
        };
        self.0.push((hint, was_warm || ended));
    }

    /// Whether the worker has lately taken a job with this hint.
    pub(super) fn has(&self, hint: HintIndex) -> bool {
        self.0.iter().any(|(known, _)| *known == hint)
    }

    /// Whether one of those has ended.
    pub(super) fn is_warm(&self, hint: HintIndex) -> bool {
        self.0.contains(&(hint, true))
    }

    /// The hints of which that is so.
    pub(super) fn warm(&self) -> impl Iterator<Item = HintIndex> {
        let warm = self.0.iter().filter(|(_, ended)| *ended);
        warm.map(|(hint, _)| *hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::hints::Hints;

    #[test]
    fn the_hint_not_used_for_longest_is_forgotten() {
        let mut hints = Hints::default();
        let mut recent = Recent::default();
        let all: Vec<HintIndex> = (0..=MOST)
            .map(|at| hints.enqueue(format!("h{at}").as_str().into()).0)
            .collect();
        let (first, others) = all.split_at(1);
        recent.note(first[0], true);
        for hint in others.iter().take(MOST - 1) {
            recent.note(*hint, false);
        }
        recent.note(first[0], false);
        recent.note(others[MOST - 1], false);
        assert!(recent.is_warm(first[0]), "used again, and ended once");
        assert!(!recent.has(others[0]), "gone");
        assert!(recent.has(others[1]) && !recent.is_warm(others[1]));
        assert_eq!(recent.warm().collect::<Vec<_>>(), [first[0]]);
    }
}
