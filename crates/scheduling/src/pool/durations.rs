//! How long the jobs of a hint take: learned from those that ended, and assumed as long as none has.
//!
//! Only `balanced` learns; `upstream` assumes the same of all jobs, always. What was learned is forgotten with the hint, and when
//! the process ends.

use crate::policy::Policy;

use super::hints::HintIndex;
use super::recent::Recent;
use super::state::Pool;
use super::worker::Seat;

/// By how much one job moves what is expected of the next: an eighth of the difference.
const WEIGHT: f32 = 0.125;
/// No job is expected to take longer, in seconds: a week.
const LONGEST: f32 = 604_800.0;

/// Seconds that jobs of a hint have taken, exponentially weighted. Zero stands for what has not been seen.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Durations {
    any: f32,
    warm: f32,
    cold: f32,
}

impl Durations {
    /// A job took so long; it was expected to find its hint cached, or not.
    pub(super) fn learn(&mut self, seconds: f64, warm: bool) {
        // What is over at once failed, and says nothing of those that will not.
        if seconds < 1.0 {
            return;
        }
        let seconds = (seconds as f32).min(LONGEST);
        let of_kind = if warm { &mut self.warm } else { &mut self.cold };
        for known in [&mut self.any, of_kind] {
            *known = match *known > 0.0 {
                true => *known + (seconds - *known) * WEIGHT,
                false => seconds,
            };
        }
    }
}

fn known(seconds: f32) -> Option<u32> {
    (seconds > 0.0).then(|| seconds.round() as u32)
}

impl Pool {
    fn durations(&self, hint: HintIndex) -> Durations {
        match self.policy {
            Policy::Balanced => self.hints.durations(hint),
            Policy::Upstream => Durations::default(),
        }
    }

    /// What a job with this hint costs its client, in seconds.
    pub(super) fn charge_for(&self, hint: HintIndex, expects_cache: bool) -> u32 {
        let seen = known(self.durations(hint).any);
        seen.unwrap_or(if expects_cache {
            self.costs.cached
        } else {
            self.costs.non_cached
        })
    }

    /// How long a job with this hint is expected to take, in seconds.
    pub(super) fn cost_of(&self, hint: HintIndex, cached: bool) -> u32 {
        let seen = self.durations(hint);
        match cached {
            true => known(seen.warm).unwrap_or(self.costs.cached),
            false => known(seen.cold).unwrap_or(self.costs.non_cached),
        }
    }

    /// The same on a worker.
    pub(super) fn cost_on(&self, hint: HintIndex, seat: Seat) -> u32 {
        self.cost_of(hint, self.is_warm(hint, seat))
    }

    /// Whether a job that ran on the worker has left the hint cached there: under `upstream` if it ever took one, under `balanced`
    /// if one of those it took last has ended.
    pub(super) fn is_warm(&self, hint: HintIndex, seat: Seat) -> bool {
        self.hints.prefers(hint, seat)
            && match self.policy {
                Policy::Upstream => true,
                Policy::Balanced => self.recent(seat).is_some_and(|recent| recent.is_warm(hint)),
            }
    }

    /// Whether a job with this hint should be placed on the worker for its cache: under `upstream` if it ever took one, under
    /// `balanced` if it did so lately, since a cache has no room for everything.
    pub(super) fn is_preferred(&self, hint: HintIndex, seat: Seat) -> bool {
        self.hints.prefers(hint, seat)
            && match self.policy {
                Policy::Upstream => true,
                Policy::Balanced => self.recent(seat).is_some_and(|recent| recent.has(hint)),
            }
    }

    fn recent(&self, seat: Seat) -> Option<&Recent> {
        self.workers.occupant(seat).map(|occupant| &occupant.recent)
    }

    /// What the cache is worth to a job with this hint, in seconds.
    pub(super) fn worth_of_cache(&self, hint: HintIndex) -> u32 {
        let (cold, warm) = (self.cost_of(hint, false), self.cost_of(hint, true));
        cold.saturating_sub(warm)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_expected_follows_what_is_seen() {
        let mut seen = Durations::default();
        assert_eq!((known(seen.any), known(seen.warm)), (None, None));
        seen.learn(800.0, false);
        seen.learn(0.3, true);
        assert_eq!(known(seen.warm), None, "what is over at once says nothing");
        seen.learn(80.0, true);
        let all = (known(seen.cold), known(seen.warm), known(seen.any));
        assert_eq!(all, (Some(800), Some(80), Some(710)));
        for _ in 0..100 {
            seen.learn(40.0, true);
        }
        assert_eq!((known(seen.warm), known(seen.cold)), (Some(40), Some(800)));
    }
}
