//! What administrators decide: pauses that last, rates, and what to forget. And what time makes us forget.

use crate::effect::Refusal;
use crate::ids::{ClientId, WorkerName};
use crate::rate::Rate;
use crate::reasons::{AdminPause, Reason};
use crate::record::Record;
use crate::time::{Day, Timestamp};

use super::job::Place;
use super::out::Out;
use super::state::Pool;

impl Pool {
    pub(crate) fn admin_active(
        &mut self,
        out: &mut Out,
        name: WorkerName,
        active: bool,
        auto_create: bool,
        pause: Option<AdminPause>,
    ) -> Result<(), Refusal> {
        let seat = self.workers.find(&name);
        let occupant = seat.and_then(|seat| self.workers.occupant(seat));
        let known = occupant.and_then(|o| o.paused);
        let pause = pause.filter(|_| !active);
        let said_before = occupant.and_then(|o| o.pause.as_ref());
        let is_news = pause.is_some() && pause.as_ref() != said_before;
        if known.is_none() && !auto_create {
            return Err(Refusal::UnknownWorker);
        }
        if known != Some(!active) || is_news {
            self.remember(&name, Some(!active), pause.clone());
            let (pool, name) = (self.name.clone(), name.clone());
            out.persist(Record::KnownWorker {
                pool,
                name,
                paused: !active,
                pause,
            });
        }
        match self.connected(&name) {
            Some(worker) if active => self.activate(out, worker, Reason::AdminPause),
            Some(worker) => self.deactivate(out, worker, Reason::AdminPause),
            None => Ok(()),
        }
    }

    pub(crate) fn forget(&mut self, out: &mut Out, name: WorkerName) -> Result<(), Refusal> {
        let occupant = self
            .workers
            .find(&name)
            .and_then(|seat| self.workers.occupant(seat));
        match occupant {
            Some(occupant) if occupant.worker.is_some() => Err(Refusal::StillConnected(name)),
            Some(occupant) if occupant.paused.is_some() => {
                self.remember(&name, None, None);
                out.persist(Record::ForgottenWorker {
                    pool: self.name.clone(),
                    name,
                });
                Ok(())
            }
            _ => Err(Refusal::UnknownWorker),
        }
    }

    /// Notes whether a worker is known and, if so, whether an administrator paused it, and what is known of that.
    pub(super) fn remember(
        &mut self,
        name: &WorkerName,
        paused: Option<bool>,
        pause: Option<AdminPause>,
    ) {
        let seat = self.workers.seat(name);
        if let Some(occupant) = self.workers.occupant_mut(seat) {
            occupant.paused = paused;
            occupant.pause = pause;
        }
    }

    pub(crate) fn set_rate(
        &mut self,
        out: &mut Out,
        client: ClientId,
        rate: Rate,
    ) -> Result<(), Refusal> {
        self.clients.set_rate(out.now, client.clone(), rate);
        out.persist(Record::Rate {
            pool: self.name.clone(),
            client,
            rate,
        });
        Ok(())
    }

    /// The client's queued jobs are cancelled rather than left to run for nobody. One that comes back under its name
    /// begins without debts.
    pub(crate) fn remove_client(
        &mut self,
        out: &mut Out,
        client: &ClientId,
    ) -> Result<(), Refusal> {
        let mut jobs = self.clients.jobs(client);
        // Those first that others would else make room for.
        jobs.sort_by_key(|job| self.jobs.get(job).map(|ticket| ticket.place) != Some(Place::Held));
        for job in jobs {
            self.cancel(out, job)?;
        }
        if self.clients.remove(client) {
            out.persist(Record::Debt {
                pool: self.name.clone(),
                client: client.clone(),
                next_fair_start: Timestamp::default(),
            });
        }
        if self.clients.delete_rate(client) {
            let (pool, client) = (self.name.clone(), client.clone());
            out.persist(Record::RateDeleted { pool, client });
        }
        Ok(())
    }

    pub(crate) fn tick(&mut self, out: &mut Out) {
        let Some(age) = self.hint_max_age else { return };
        let age = i32::try_from(age).unwrap_or(i32::MAX);
        let oldest_kept = Day(out.now.day().0.saturating_sub(age));
        for (hint, seat) in self.hints.expire_before(oldest_kept) {
            let (pool, worker) = (self.name.clone(), self.workers.name(seat));
            out.persist(Record::ExpiredHint { pool, hint, worker });
        }
    }
}
