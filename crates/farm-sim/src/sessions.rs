//! Workers join, are lost and come back; the scheduler starts with what the disk has, and dies.

use ocluster_scheduling::{Cluster, Event, JobId, PopId, WorkerId};

use crate::chance::{MINUTE, Ms, SECOND};
use crate::disk::State;
use crate::happening::{Conn, FromWorker, Happening, ToWorker};
use crate::plan::Outcome;
use crate::scheduler::{Live, Scheduler, Session};
use crate::world::World;

/// A worker that was silent for so long is lost.
const LEASE: Ms = 12 * SECOND;

/// After a start, workers may take so long to come back.
const READOPT_GRACE: Ms = 120 * SECOND;

impl World {
    /// The scheduler dies. Of the batch on its way to the disk all arrives or nothing; what was not yet on its way is lost.
    pub(crate) fn kill_scheduler(&mut self) {
        let Some(mut scheduler) = self.scheduler.take() else {
            return;
        };
        if let Some(batch) = scheduler.flushing.take()
            && self.chance.permille(500)
        {
            self.apply(batch.writes);
        }
        self.epoch += 1;
        self.checker.forget_rush();
        self.calls_are_lost();
        for session in scheduler.sessions.into_values() {
            self.worker_sees_close(session.worker);
        }
        // Those that were about to join.
        for at in 0..self.workers.len() {
            if self.workers.get(at).is_some_and(|w| w.conn.is_some()) {
                self.worker_sees_close(at);
            }
        }
        let away = match self.chance.permille(30) {
            true => self.chance.between(5 * MINUTE, 25 * MINUTE),
            false => self.chance.between(SECOND, MINUTE),
        };
        self.after(away, Happening::SchedulerStarts);
    }

    /// The worker's connection was closed at the other end, which it notices when it can.
    fn worker_sees_close(&mut self, at: usize) {
        let Some(conn) = self.workers.get(at).and_then(|worker| worker.conn) else {
            return;
        };
        match self.workers.get(at).is_some_and(|w| w.stall.is_some()) {
            true => self.tell(at, conn, ToWorker::Closed),
            false => self.disconnected(at),
        }
    }

    pub(crate) fn start_scheduler(&mut self) {
        let mut cluster = Cluster::new(self.config());
        for record in self.disk.records() {
            cluster.restore(record);
        }
        let mut scheduler = Scheduler::new(cluster);
        let mut queued = Vec::new();
        for (job, row) in &self.disk.rows {
            scheduler.keys.insert(row.request, *job);
            // What earlier processes had written and could tell nobody.
            let over = match row.state {
                State::Running { .. } => row.attempts.saturating_sub(1),
                State::Queued | State::Ended(_) => row.attempts,
            };
            if row.state == State::Queued {
                queued.push(*job);
            }
            if let State::Ended(_) = row.state {
                continue;
            }
            self.checker.fenced(*job, over);
            self.checker.accepted(row.request, *job);
            let live = Live {
                row: row.clone(),
                conn: None,
                in_core: false,
            };
            scheduler.live.insert(*job, live);
        }
        self.scheduler = Some(scheduler);
        for job in std::mem::take(&mut self.disk.untold) {
            if let Some(State::Ended(end)) = self.disk.rows.get(&job).map(|row| row.state) {
                self.checker.ended(job, end);
            }
        }
        for job in queued {
            self.requeue(job);
        }
        let epoch = self.epoch;
        self.after(READOPT_GRACE, Happening::Grace { epoch });
    }

    /// Workers had their time to come back: what none has brought along is tried again.
    pub(crate) fn grace_over(&mut self) {
        let Some(scheduler) = &self.scheduler else {
            return;
        };
        let left = scheduler.live.iter().filter(|(_, live)| !live.in_core);
        let left: Vec<JobId> = left.map(|(job, _)| *job).collect();
        for job in left {
            self.lose(job, true);
        }
    }

    /// A worker's message arrives.
    pub(crate) fn hear(&mut self, conn: Conn, says: FromWorker) {
        if let FromWorker::Joins { worker, holds } = says {
            self.join(conn, worker, holds);
            return;
        }
        let Some(scheduler) = &self.scheduler else {
            return;
        };
        let Some(session) = scheduler.sessions.get(&conn) else {
            return;
        };
        let (at, worker) = (session.worker, session.id);
        match says {
            FromWorker::Joins { .. } => {}
            FromWorker::Active => self.must(Event::WorkerResumed { worker }),
            FromWorker::Asks => self.asks(worker),
            FromWorker::Ended {
                job,
                attempt,
                outcome,
            } => self.outcome(at, job, attempt, outcome),
        }
    }

    fn asks(&mut self, worker: WorkerId) {
        let pop = PopId(self.number());
        if let Some(scheduler) = &mut self.scheduler {
            scheduler.pops.insert(pop, worker);
        }
        self.must(Event::Asked { worker, pop });
    }

    /// What a request was to be answered with is gone: it asks anew.
    pub(crate) fn answer_empty(&mut self, conn: Conn) {
        let session = self.scheduler.as_ref().and_then(|s| s.sessions.get(&conn));
        if let Some(worker) = session.map(|session| session.id) {
            self.asks(worker);
        }
    }

    fn join(&mut self, conn: Conn, at: usize, holds: Vec<(JobId, u32, Option<Outcome>)>) {
        let alive = self.workers.get(at).is_some_and(|w| w.conn == Some(conn));
        let Some(scheduler) = self.scheduler.as_ref().filter(|_| alive) else {
            return;
        };
        // It supersedes its ghost.
        let ghosts = scheduler.sessions.iter().filter(|(_, s)| s.worker == at);
        let ghosts: Vec<Conn> = ghosts.map(|(conn, _)| *conn).collect();
        for ghost in ghosts {
            self.close(ghost);
        }
        let id = WorkerId(self.number());
        let Some(plan) = self.plan.workers.get(at) else {
            return;
        };
        let (pool, capacity) = (self.pool_name(plan.pool), plan.capacity);
        self.must(Event::Registered {
            pool,
            worker: id,
            name: self.worker_name(at),
            capacity,
        });
        let Some(scheduler) = &mut self.scheduler else {
            return;
        };
        scheduler.sessions.insert(conn, Session { worker: at, id });
        scheduler.conns.insert(id, conn);
        let mut verdicts = Vec::new();
        let mut outcomes = Vec::new();
        for (job, attempt, outcome) in holds {
            let go_on = self.adopt(conn, at, id, job, attempt);
            verdicts.push((job, attempt, go_on));
            outcomes.extend(outcome.filter(|_| go_on).map(|o| (job, attempt, o)));
        }
        self.send(conn, ToWorker::Verdicts(verdicts));
        for (job, attempt, outcome) in outcomes {
            self.outcome(at, job, attempt, outcome);
        }
        // It came back without what it had been given.
        for job in self.running_on(at, |live| live.conn.is_none()) {
            self.lose(job, true);
        }
    }

    /// Whether the worker may go on with this attempt.
    fn adopt(&mut self, conn: Conn, at: usize, id: WorkerId, job: JobId, attempt: u32) -> bool {
        let Some(scheduler) = &mut self.scheduler else {
            return false;
        };
        let Some(live) = scheduler.live.get_mut(&job) else {
            return false;
        };
        if live.row.state != (State::Running { worker: at }) || live.row.attempts != attempt {
            return false;
        }
        live.conn = Some(conn);
        let was_running = std::mem::replace(&mut live.in_core, true);
        let (client, hint) = (live.row.client, live.row.hint.clone());
        scheduler.note_running(job, !was_running);
        self.checker.adopted(job, attempt);
        if was_running {
            // In the core's eyes it ran on the old registration until now.
            self.must(Event::Finished { job });
            if let Some(scheduler) = &mut self.scheduler {
                scheduler.note_running(job, true);
            }
        }
        let client = self.client_id(client);
        self.must(Event::Adopted {
            worker: id,
            job,
            client,
            hint,
        });
        true
    }

    /// The jobs whose last attempt is with this worker.
    pub(crate) fn running_on(&self, at: usize, matches: impl Fn(&Live) -> bool) -> Vec<JobId> {
        let live = self.scheduler.iter().flat_map(|s| &s.live);
        let there = live
            .filter(|(_, live)| live.row.state == (State::Running { worker: at }) && matches(live));
        there.map(|(job, _)| *job).collect()
    }

    pub(crate) fn send(&mut self, conn: Conn, says: ToWorker) {
        let session = self.scheduler.as_ref().and_then(|s| s.sessions.get(&conn));
        if let Some(worker) = session.map(|session| session.worker) {
            self.send_to_worker(worker, conn, says);
        }
    }

    /// The scheduler notices that a connection broke: the jobs there have until the end of their lease.
    pub(crate) fn connection_broke(&mut self, conn: Conn) {
        let epoch = self.epoch;
        for (job, attempt) in self.close(conn) {
            let away = Happening::Away {
                epoch,
                job,
                attempt,
                conn,
            };
            self.after(LEASE, away);
        }
    }

    /// Ends a registration; what was given on it.
    fn close(&mut self, conn: Conn) -> Vec<(JobId, u32)> {
        let Some(scheduler) = &mut self.scheduler else {
            return Vec::new();
        };
        let Some(session) = scheduler.sessions.remove(&conn) else {
            return Vec::new();
        };
        scheduler.conns.remove(&session.id);
        let mut left = Vec::new();
        for (job, live) in &mut scheduler.live {
            if live.conn == Some(conn) {
                live.conn = None;
                left.push((*job, live.row.attempts));
            }
        }
        self.must(Event::Left { worker: session.id });
        left
    }

    pub(crate) fn away_over(&mut self, job: JobId, attempt: u32, _conn: Conn) {
        let live = self.scheduler.as_ref().and_then(|s| s.live.get(&job));
        let gone = live.is_some_and(|live| {
            live.conn.is_none()
                && live.row.attempts == attempt
                && matches!(live.row.state, State::Running { .. })
        });
        if gone {
            self.lose(job, true);
        }
    }

    /// The worker gives no sign of life from now on.
    pub(crate) fn watch_lease(&mut self, conn: Conn) {
        let epoch = self.epoch;
        let late = self.chance.between(0, 2 * SECOND);
        self.after(LEASE + late, Happening::Lease { epoch, conn });
    }

    pub(crate) fn lease_over(&mut self, conn: Conn) {
        let session = self.scheduler.as_ref().and_then(|s| s.sessions.get(&conn));
        let Some(at) = session.map(|session| session.worker) else {
            return;
        };
        let worker = self.workers.get(at);
        let lives = worker.is_some_and(|w| w.conn == Some(conn) && w.stall.is_none());
        if lives {
            return;
        }
        self.send(conn, ToWorker::Closed);
        for (job, _) in self.close(conn) {
            self.lose(job, true);
        }
    }

    /// An administrator takes all jobs from a worker.
    pub(crate) fn evict(&mut self, at: usize) {
        for job in self.running_on(at, |_| true) {
            self.checker.evicted(job);
            self.lose(job, false);
        }
    }

    pub(crate) fn admin_active(&mut self, at: usize, active: bool) {
        let Some(plan) = self.plan.workers.get(at) else {
            return;
        };
        if self.scheduler.is_none() {
            // The administrator tries again.
            if active {
                self.after(MINUTE, Happening::AdminResumes { worker: at });
            }
            return;
        }
        let (pool, name) = (self.pool_name(plan.pool), self.worker_name(at));
        self.must(Event::AdminActive {
            pool,
            name,
            active,
            auto_create: true,
            pause: None,
        });
    }
}
