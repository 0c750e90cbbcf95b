//! What becomes of jobs: accepted, cancelled, ended, tried again; and the disk that comes before every answer.

use std::collections::BTreeSet;

use ocluster_scheduling::{Event, JobId, Timestamp};

use crate::chance::SECOND;
use crate::checker::MAX_FAILURES;
use crate::disk::{End, Row, State, Write};
use crate::happening::{Happening, ToWorker};
use crate::plan::Outcome;
use crate::scheduler::{Batch, Live, Then};
use crate::world::World;

impl World {
    pub(crate) fn submit(&mut self, key: usize) {
        let number = self.number();
        let (Some(scheduler), Some(request)) = (&mut self.scheduler, self.requests.get(key)) else {
            return;
        };
        if let Some(job) = scheduler.job_of(key) {
            scheduler.then(Then::Accept { key, job });
            return;
        }
        let job = JobId(number);
        let row = Row {
            request: key,
            client: request.client,
            pool: request.pool,
            hint: request.hint.as_str().into(),
            urgent: request.urgent,
            fair_start: Timestamp::default(),
            attempts: 0,
            failures: 0,
            avoid: BTreeSet::new(),
            state: State::Queued,
        };
        let (client, pool, hint, urgent) = (row.client, row.pool, row.hint.clone(), row.urgent);
        let live = Live {
            row,
            conn: None,
            in_core: true,
        };
        scheduler.live.insert(job, live);
        scheduler.keys.insert(key, job);
        scheduler.then(Then::Accept { key, job });
        let (pool, client) = (self.pool_name(pool), self.client_id(client));
        self.must(Event::Submitted {
            pool,
            client,
            job,
            hint,
            urgent,
        });
    }

    pub(crate) fn cancel(&mut self, key: usize) {
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        let live = scheduler.job_of(key).and_then(|job| {
            let live = scheduler.live.get(&job)?;
            Some((job, live.row.state, live.conn, live.row.attempts))
        });
        let Some((job, state, conn, attempt)) = live else {
            scheduler.then(Then::AnswerCancel {
                key,
                cancelled: false,
            });
            return;
        };
        if state == State::Queued {
            self.must(Event::Cancelled { job });
        }
        self.end(job, End::Cancelled);
        if let Some(scheduler) = &mut self.scheduler {
            if let Some(conn) = conn {
                scheduler.then(Then::Stop { conn, job, attempt });
            }
            scheduler.then(Then::AnswerCancel {
                key,
                cancelled: true,
            });
        }
    }

    /// The job has ended; what the core still counted of it was taken off before, if it was queued.
    fn end(&mut self, job: JobId, end: End) {
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        let Some(live) = scheduler.live.get_mut(&job) else {
            return;
        };
        let was_running = live.in_core && live.row.state != State::Queued;
        live.row.state = State::Ended(end);
        scheduler.write_row(job);
        scheduler.then(Then::End { job, end });
        if was_running {
            scheduler.note_running(job, false);
        }
        scheduler.live.remove(&job);
        if was_running {
            self.must(Event::Finished { job });
        }
    }

    /// A worker says how an attempt ended; whether that is news of an attempt which counts.
    pub(crate) fn outcome(&mut self, at: usize, job: JobId, attempt: u32, outcome: Outcome) {
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        let Some(live) = scheduler.live.get(&job) else {
            return;
        };
        let same = live.row.state == State::Running { worker: at } && live.row.attempts == attempt;
        let Some(conn) = live.conn.filter(|_| same) else {
            return;
        };
        match outcome {
            Outcome::Passed => self.end(job, End::Passed),
            Outcome::Failed => self.end(job, End::Failed),
            Outcome::Broken | Outcome::Deadly => self.lose(job, true),
        }
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.then(Then::Settle { conn, job, attempt });
        }
    }

    /// An attempt came to nothing: the job is queued again, or given up. It does not count if it was taken away.
    pub(crate) fn lose(&mut self, job: JobId, counts: bool) {
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        let Some(live) = scheduler.live.get_mut(&job) else {
            return;
        };
        let State::Running { worker } = live.row.state else {
            return;
        };
        let conn = live.conn.take();
        let attempt = live.row.attempts;
        live.row.failures += u32::from(counts);
        live.row.avoid.insert(worker);
        let given_up = live.row.failures >= MAX_FAILURES;
        if let Some(conn) = conn {
            scheduler.then(Then::Stop { conn, job, attempt });
        }
        scheduler.then(Then::Fence { job, attempt });
        if given_up {
            self.end(job, End::Lost);
            return;
        }
        let Some(live) = scheduler.live.get_mut(&job) else {
            return;
        };
        live.row.state = State::Queued;
        let was_running = std::mem::replace(&mut live.in_core, true);
        scheduler.write_row(job);
        if was_running {
            scheduler.note_running(job, false);
            self.must(Event::Finished { job });
        }
        self.requeue(job);
    }

    /// Begins to flush what there is, unless a flush is under way.
    pub(crate) fn flush_soon(&mut self) {
        let epoch = self.epoch;
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        let batch = &scheduler.batch;
        let empty = batch.writes.is_empty() && batch.then.is_empty();
        if empty || scheduler.flushing.is_some() {
            return;
        }
        scheduler.flushing = Some(std::mem::take(&mut scheduler.batch));
        let takes = match self.now < self.disk_is_slow_until {
            true => self.chance.between(SECOND, 8 * SECOND),
            false => self.chance.between(1, 12),
        };
        self.after(takes, Happening::Flushed { epoch });
    }

    pub(crate) fn flushed(&mut self) {
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        let Some(Batch { writes, then }) = scheduler.flushing.take() else {
            return;
        };
        self.apply(writes);
        for then in then {
            self.follow(then);
        }
    }

    pub(crate) fn apply(&mut self, writes: Vec<Write>) {
        for write in writes {
            self.disk.apply(write);
        }
    }

    fn follow(&mut self, then: Then) {
        match then {
            Then::Accept { key, job } => self.submission_answered(key, job),
            Then::Give { conn, job, attempt } => {
                let Some(scheduler) = &self.scheduler else {
                    return;
                };
                let live = scheduler.live.get(&job);
                let same = live.is_some_and(|live| {
                    live.conn == Some(conn)
                        && live.row.attempts == attempt
                        && live.row.state != State::Queued
                });
                if let Some(session) = scheduler.sessions.get(&conn).filter(|_| same) {
                    let worker = session.worker;
                    self.checker.delivered(job, attempt, worker);
                    self.send_to_worker(worker, conn, ToWorker::Job { job, attempt });
                } else {
                    self.answer_empty(conn);
                }
            }
            Then::Fence { job, attempt } => self.checker.fenced(job, attempt),
            Then::Stop { conn, job, attempt } => {
                self.send(conn, ToWorker::Stop { job, attempt });
            }
            Then::Settle { conn, job, attempt } => {
                self.send(conn, ToWorker::Settled { job, attempt });
            }
            Then::End { job, end } => {
                self.disk.untold.remove(&job);
                self.checker.ended(job, end);
            }
            Then::AnswerCancel { key, cancelled } => self.cancel_answered(key, cancelled),
        }
    }
}
