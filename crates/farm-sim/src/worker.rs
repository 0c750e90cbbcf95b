//! Workers: they run what they are given, keep it while they cannot reach the scheduler, and come back.

use std::collections::BTreeMap;

use ocluster_scheduling::JobId;

use crate::chance::{MINUTE, Ms, SECOND};
use crate::fault::Fault;
use crate::happening::{Conn, FromWorker, Happening, ToWorker};
use crate::plan::{Outcome, WorkerPlan};
use crate::world::World;

/// A worker without a scheduler keeps its jobs for so long.
const RECONNECT_GRACE: Ms = 15 * MINUTE;

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    capacity: usize,
    /// Grows whenever its process is started or dies.
    pub(crate) life: u64,
    pub(crate) is_up: bool,
    pub(crate) stall: Option<Stall>,
    pub(crate) conn: Option<Conn>,
    /// Since when it has no connection.
    lonely_since: Ms,
    /// It has joined on this connection and heard what to go on with.
    has_joined: bool,
    /// Requests for jobs that were not answered.
    asked: usize,
    jobs: BTreeMap<JobId, Holding>,
    /// What came while it was stalled.
    inbox: Vec<(Conn, ToWorker)>,
    /// What it said while nothing passed.
    pub(crate) outbox: Vec<(Conn, FromWorker)>,
    pub(crate) heard_until: Ms,
    pub(crate) said_until: Ms,
}

/// Nothing passes between it and the scheduler.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stall {
    pub(crate) number: u64,
    /// It stands still altogether.
    pub(crate) is_frozen: bool,
}

/// A job a worker has.
#[derive(Debug)]
struct Holding {
    attempt: u32,
    left: Ms,
    /// Since when it goes on; `None` while the worker is frozen.
    since: Option<Ms>,
    token: u64,
    outcome: Outcome,
    is_over: bool,
}

impl Worker {
    pub(crate) fn new(plan: &WorkerPlan) -> Self {
        Self {
            capacity: plan.capacity as usize,
            life: 0,
            is_up: false,
            stall: None,
            conn: None,
            lonely_since: 0,
            has_joined: false,
            asked: 0,
            jobs: BTreeMap::new(),
            inbox: Vec::new(),
            outbox: Vec::new(),
            heard_until: 0,
            said_until: 0,
        }
    }

    fn is_frozen(&self) -> bool {
        self.stall.is_some_and(|stall| stall.is_frozen)
    }

    fn running(&self) -> usize {
        self.jobs.values().filter(|job| !job.is_over).count()
    }
}

impl World {
    pub(crate) fn start_worker(&mut self, at: usize) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        worker.life += 1;
        worker.is_up = true;
        worker.lonely_since = now;
        let life = worker.life;
        self.after(1, Happening::Connects { worker: at, life });
    }

    /// The process dies; it is started again after a while.
    pub(crate) fn kill_worker(&mut self, at: usize) {
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        if !worker.is_up {
            return;
        }
        worker.life += 1;
        worker.is_up = false;
        worker.stall = None;
        worker.jobs.clear();
        worker.inbox.clear();
        worker.outbox.clear();
        worker.has_joined = false;
        worker.asked = 0;
        let conn = worker.conn.take();
        let wait = self.chance.between(2 * SECOND, 4 * MINUTE);
        self.after(wait, Happening::Starts { worker: at });
        // With its machine, it leaves without a word.
        let is_silent = self.chance.permille(400);
        if let Some(conn) = conn {
            match is_silent {
                true => self.watch_lease(conn),
                false => self.connection_broke(conn),
            }
        }
    }

    pub(crate) fn connect(&mut self, at: usize, life: u64) {
        let is_up = self.scheduler.is_some();
        let conn = self.number();
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        if worker.life != life || worker.conn.is_some() {
            return;
        }
        if worker.stall.is_some() || !is_up {
            self.connect_later(at);
            return;
        }
        worker.conn = Some(conn);
        let holds = worker.jobs.iter().map(|(job, holding)| {
            let outcome = holding.is_over.then_some(holding.outcome);
            (*job, holding.attempt, outcome)
        });
        let holds = holds.collect();
        self.send_to_scheduler(at, FromWorker::Joins { worker: at, holds });
    }

    fn connect_later(&mut self, at: usize) {
        if let Some(worker) = self.workers.get(at) {
            let life = worker.life;
            let wait = self.chance.between(SECOND, 5 * SECOND);
            self.after(wait, Happening::Connects { worker: at, life });
        }
    }

    /// The worker notices that its connection is gone.
    pub(crate) fn disconnected(&mut self, at: usize) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        worker.conn = None;
        worker.has_joined = false;
        worker.asked = 0;
        worker.outbox.clear();
        worker.lonely_since = now;
        let life = worker.life;
        let since = now;
        self.connect_later(at);
        self.after(
            RECONNECT_GRACE,
            Happening::GivesUp {
                worker: at,
                life,
                since,
            },
        );
    }

    /// It was without a scheduler for too long, and stops what it runs.
    pub(crate) fn give_up(&mut self, at: usize, life: u64, since: Ms) {
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        let same = worker.life == life && worker.conn.is_none() && worker.lonely_since == since;
        if same && worker.is_frozen() {
            // Once it can.
            self.after(
                SECOND,
                Happening::GivesUp {
                    worker: at,
                    life,
                    since,
                },
            );
        } else if same {
            worker.jobs.clear();
        }
    }

    /// A message arrives at the worker's machine.
    pub(crate) fn tell(&mut self, at: usize, conn: Conn, says: ToWorker) {
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        if worker.conn != Some(conn) {
            return;
        }
        if worker.stall.is_some() {
            worker.inbox.push((conn, says));
            return;
        }
        match says {
            ToWorker::Verdicts(verdicts) => {
                for (job, attempt, go_on) in verdicts {
                    if !go_on {
                        worker.forget(job, attempt);
                    }
                }
                worker.has_joined = true;
                self.send_to_scheduler(at, FromWorker::Active);
            }
            ToWorker::Job { job, attempt } => {
                worker.asked = worker.asked.saturating_sub(1);
                self.begin_attempt(at, job, attempt);
            }
            ToWorker::Stop { job, attempt } | ToWorker::Settled { job, attempt } => {
                worker.forget(job, attempt);
            }
            ToWorker::Closed => self.disconnected(at),
        }
        self.ask_for_more(at);
    }

    fn ask_for_more(&mut self, at: usize) {
        while let Some(worker) = self.workers.get_mut(at)
            && worker.has_joined
            && worker.asked + worker.running() < worker.capacity
        {
            worker.asked += 1;
            self.send_to_scheduler(at, FromWorker::Asks);
        }
    }

    fn begin_attempt(&mut self, at: usize, job: JobId, attempt: u32) {
        let row = self.scheduler.as_ref().and_then(|s| s.request_of(job));
        let key = row.or_else(|| self.disk.rows.get(&job).map(|row| row.request));
        let Some(work) = key.and_then(|key| self.requests.get(key)).map(|r| r.work) else {
            return;
        };
        let token = self.number();
        let outcome = work.attempt(attempt);
        let left = match outcome {
            Outcome::Passed | Outcome::Failed => work.duration,
            Outcome::Broken | Outcome::Deadly => self.chance.wait(MINUTE),
        };
        let now = self.now;
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        let holding = Holding {
            attempt,
            left,
            since: Some(now),
            token,
            outcome,
            is_over: false,
        };
        worker.jobs.insert(job, holding);
        let done = Happening::Done {
            worker: at,
            job,
            token,
        };
        self.after(left, done);
    }

    pub(crate) fn attempt_done(&mut self, at: usize, job: JobId, token: u64) {
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        let found = worker.jobs.get_mut(&job);
        let Some(holding) = found.filter(|holding| holding.token == token) else {
            return;
        };
        if holding.outcome == Outcome::Deadly {
            self.faults.count(Fault::PoisonJob);
            self.kill_worker(at);
            return;
        }
        if holding.outcome == Outcome::Broken {
            self.faults.count(Fault::BrokenAttempt);
        }
        holding.is_over = true;
        let ended = FromWorker::Ended {
            job,
            attempt: holding.attempt,
            outcome: holding.outcome,
        };
        if worker.has_joined {
            self.send_to_scheduler(at, ended);
            self.ask_for_more(at);
        }
    }

    /// Nothing passes between the worker and the scheduler for a while; a frozen worker does nothing at all.
    pub(crate) fn stall(&mut self, at: usize, is_frozen: bool, lasts: Ms) {
        let (number, now) = (self.number(), self.now);
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        if !worker.is_up || worker.stall.is_some() {
            return;
        }
        worker.stall = Some(Stall { number, is_frozen });
        if is_frozen {
            for holding in worker.jobs.values_mut() {
                let since = holding.since.take().unwrap_or(now);
                holding.left = holding.left.saturating_sub(now - since);
                holding.token = 0;
            }
        }
        if let Some(conn) = worker.conn {
            self.watch_lease(conn);
        }
        let stall = number;
        self.after(lasts, Happening::Recovers { worker: at, stall });
    }

    pub(crate) fn recover(&mut self, at: usize, stall: u64) {
        let now = self.now;
        let Some(worker) = self.workers.get_mut(at) else {
            return;
        };
        if worker.stall.is_none_or(|known| known.number != stall) {
            return;
        }
        let was_frozen = worker.is_frozen();
        worker.stall = None;
        let inbox = std::mem::take(&mut worker.inbox);
        let outbox = std::mem::take(&mut worker.outbox);
        if was_frozen {
            self.thaw(at, now);
        }
        for (conn, says) in outbox {
            if self.workers.get(at).and_then(|worker| worker.conn) == Some(conn) {
                self.send_to_scheduler(at, says);
            }
        }
        for (conn, says) in inbox {
            self.tell(at, conn, says);
        }
    }

    fn thaw(&mut self, at: usize, now: Ms) {
        let jobs = self.workers.get(at).map(|worker| &worker.jobs);
        let jobs: Vec<JobId> = jobs.into_iter().flatten().map(|(job, _)| *job).collect();
        for job in jobs {
            let token = self.number();
            let holding = self.workers.get_mut(at).and_then(|w| w.jobs.get_mut(&job));
            let Some(holding) = holding else { continue };
            holding.since = Some(now);
            holding.token = token;
            let left = holding.left;
            if !holding.is_over {
                let done = Happening::Done {
                    worker: at,
                    job,
                    token,
                };
                self.after(left, done);
            }
        }
    }
}

impl Worker {
    fn forget(&mut self, job: JobId, attempt: u32) {
        if self
            .jobs
            .get(&job)
            .is_some_and(|held| held.attempt <= attempt)
        {
            self.jobs.remove(&job);
        }
    }
}
