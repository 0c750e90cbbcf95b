//! Why a job waits, found out on request. Changes nothing.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::explain::{Explanation, Waits, WhyNot};
use crate::ids::JobId;

use super::avoid::{Seats, is_among};
use super::job::{Key, Place};
use super::state::Pool;
use super::worker::{Occupant, Worker};

impl Pool {
    /// What is to be said of a job; `None` if it is not queued.
    pub(crate) fn explain(&self, job: JobId) -> Option<Explanation> {
        let ticket = self.jobs.get(&job)?;
        let key = ticket.key(job);
        let (waits, ahead) = match ticket.place {
            Place::Main => {
                let wary = self.avoidance.on_main_before(key);
                let ahead = self.backlog.range(..key).copied().chain(wary);
                (Waits::Main, self.count(ahead))
            }
            Place::Local { seat, .. } => {
                let worker = self.workers.get(seat);
                let ahead = worker.into_iter().flat_map(|w| w.local.range(..key));
                let ahead = self.count(ahead.copied());
                (Waits::Local(self.workers.name(seat)), ahead)
            }
            Place::Held => {
                let client = self.clients.id(ticket.client);
                let held = self.quotas.held_of(&client);
                let ahead = held.into_iter().flat_map(|held| held.range(..key));
                let bound = self.quotas.bound(&client).unwrap_or_default();
                (Waits::Quota(bound), self.count(ahead.copied()))
            }
        };
        let kept_from = self.kept_from(key);
        let mut workers = Vec::new();
        let mut more_workers = 0;
        for occupant in self.workers.iter() {
            if occupant.paused.is_none() && occupant.worker.is_none() {
                continue;
            }
            if workers.len() < Explanation::MOST_WORKERS {
                let why = self.why_not(occupant, key, kept_from.as_ref());
                workers.push((occupant.name.clone(), why));
            } else {
                more_workers += 1;
            }
        }
        Some(Explanation {
            waits,
            ahead: ahead.jobs,
            more_ahead: ahead.more,
            ahead_of: ahead.of,
            fair_start: ticket.fair_start,
            workers,
            more_workers,
        })
    }

    fn count(&self, mut ahead: impl Iterator<Item = Key>) -> Ahead {
        let mut by_client = BTreeMap::new();
        let mut jobs = 0;
        for key in ahead.by_ref().take(Explanation::MOST_AHEAD) {
            jobs += 1;
            if let Some(ticket) = self.jobs.get(&key.job()) {
                *by_client.entry(ticket.client).or_insert(0) += 1;
            }
        }
        let named = by_client.into_iter();
        let mut of: Vec<_> = named.map(|(at, n)| (self.clients.id(at), n)).collect();
        of.sort_by(|(a, m), (b, n)| (Reverse(m), a).cmp(&(Reverse(n), b)));
        of.truncate(Explanation::MOST_CLIENTS);
        let more = ahead.next().is_some();
        Ahead { jobs, more, of }
    }

    fn why_not(&self, occupant: &Occupant, key: Key, kept_from: Option<&Seats>) -> WhyNot {
        let Some(worker) = &occupant.worker else {
            let paused = occupant.paused.unwrap_or_default();
            return WhyNot::Disconnected { paused };
        };
        if !worker.is_active() {
            return WhyNot::Inactive {
                reasons: worker.reasons,
                note: worker.pause_note.clone(),
                pause: occupant.pause.clone(),
            };
        }
        let seat = self.workers.find(&occupant.name);
        if seat.is_some_and(|seat| is_among(seat, kept_from)) {
            return WhyNot::Avoided;
        }
        self.why_not_active(worker, key)
    }

    fn why_not_active(&self, worker: &Worker, key: Key) -> WhyNot {
        let asks = !worker.parked.is_empty() || !worker.woken.is_empty();
        let others = worker.local.range(..key).count() as u64;
        if !asks {
            WhyNot::Busy {
                running: worker.running,
                capacity: worker.capacity,
            }
        } else if others > 0 {
            WhyNot::HasOthers { queued: others }
        } else {
            WhyNot::Free
        }
    }
}

struct Ahead {
    jobs: u64,
    more: bool,
    of: Vec<(crate::ids::ClientId, u64)>,
}
