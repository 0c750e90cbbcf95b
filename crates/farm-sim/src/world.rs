//! A simulated farm: what there is, and how one thing leads to the next. Each part's own conduct is in its own file.

use std::collections::BTreeSet;

use ocluster_scheduling::{JobId, Record, Timestamp};

use crate::chance::{Chance, HOUR, MINUTE, Ms, SECOND};
use crate::checker::Checker;
use crate::disk::{Disk, Write};
use crate::fault::{Fault, FaultCounts};
use crate::happening::{Call, Conn, FromWorker, Happening, ToWorker};
use crate::plan::{Plan, Work};
use crate::scheduler::Scheduler;
use crate::timeline::Timeline;
use crate::trace::Trace;
use crate::worker::Worker;

/// After the faults have ended, all that was accepted must end within this time.
const PATIENCE: Ms = 500 * HOUR;

/// Seconds after the Unix epoch at which histories begin.
const BEGIN: f64 = 1_767_225_600.0;

/// What a client wants done.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) client: usize,
    pub(crate) pool: usize,
    pub(crate) hint: String,
    pub(crate) urgent: bool,
    pub(crate) work: Work,
    /// The job it was accepted as.
    pub(crate) job: Option<JobId>,
    /// It may be cancelled by chance.
    pub(crate) may_be_cancelled: bool,
}

/// A farm, and the checker that watches it.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) chance: Chance,
    pub(crate) plan: Plan,
    pub(crate) now: Ms,
    pub(crate) timeline: Timeline<Happening>,
    /// How far the scheduler's clock is off, in milliseconds.
    pub(crate) clock_error: i64,
    /// `None` while it is down.
    pub(crate) scheduler: Option<Scheduler>,
    pub(crate) disk: Disk,
    /// Until when flushes take long.
    pub(crate) disk_is_slow_until: Ms,
    /// How often the scheduler was started.
    pub(crate) epoch: u64,
    numbers: u64,
    pub(crate) workers: Vec<Worker>,
    pub(crate) requests: Vec<Request>,
    /// Calls that were not answered yet.
    pub(crate) unanswered: BTreeSet<Call>,
    pub(crate) checker: Checker,
    pub(crate) faults: FaultCounts,
    pub(crate) trace: Trace,
    /// No more jobs come, and no more faults.
    pub(crate) is_ending: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::draw(&mut chance);
        let mut disk = Disk::default();
        for pool in &plan.pools {
            for client in &plan.clients {
                disk.apply(Write::Record(Record::Rate {
                    pool: pool.name.as_str().into(),
                    client: client.name.as_str().into(),
                    rate: client.rate,
                }));
            }
        }
        let workers = plan.workers.iter().map(Worker::new).collect();
        let mut world = Self {
            chance,
            plan,
            now: 0,
            timeline: Timeline::new(),
            clock_error: 0,
            scheduler: None,
            disk,
            disk_is_slow_until: 0,
            epoch: 0,
            numbers: 0,
            workers,
            requests: Vec::new(),
            unanswered: BTreeSet::new(),
            checker: Checker::default(),
            faults: FaultCounts::default(),
            trace: Trace::default(),
            is_ending: false,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        self.timeline.plan(0, Happening::SchedulerStarts);
        for worker in 0..self.workers.len() {
            let at = self.chance.between(0, MINUTE);
            self.timeline.plan(at, Happening::Starts { worker });
        }
        for client in 0..self.plan.clients.len() {
            self.plan_job(client);
        }
        for fault in Fault::ALL {
            self.plan_fault(fault);
        }
        self.after_chance(6 * HOUR, Happening::Rush);
        self.timeline.plan(HOUR, Happening::Tick);
    }

    /// Lives for `hours` with jobs and faults, and then until all has ended, or a promise is broken.
    pub(crate) fn live(&mut self, hours: u64) {
        let ends = hours * HOUR;
        while self.checker.violation().is_none() {
            let Some((at, what)) = self.timeline.next() else {
                break;
            };
            self.now = at;
            if at >= ends && !self.is_ending {
                self.is_ending = true;
            }
            if self.is_ending && self.is_done() {
                break;
            }
            if at > ends + PATIENCE {
                let left: Vec<JobId> = self.checker.unfinished().take(5).collect();
                self.checker
                    .violated(|| format!("these jobs and perhaps others never ended: {left:?}"));
                break;
            }
            self.trace.happens(at, &what);
            self.happens(what);
            self.flush_soon();
        }
        self.check_end();
    }

    fn is_done(&self) -> bool {
        let idle = self.scheduler.as_ref().is_some_and(Scheduler::is_idle);
        idle && self.unanswered.is_empty()
    }

    fn check_end(&mut self) {
        let left: Vec<JobId> = self.checker.unfinished().take(5).collect();
        if !left.is_empty() {
            self.checker
                .violated(|| format!("these jobs were accepted and never ended: {left:?}"));
        }
    }

    fn happens(&mut self, what: Happening) {
        match what {
            Happening::NewJob { client } => self.new_job(client),
            Happening::Rush => self.rush(),
            Happening::Call(call) => self.call(call),
            Happening::FromWorker { conn, says } => self.hear(conn, says),
            Happening::ToWorker { worker, conn, says } => self.tell(worker, conn, says),
            Happening::Resumes { epoch, pop } if epoch == self.epoch => self.resume_pop(pop),
            Happening::Flushed { epoch } if epoch == self.epoch => self.flushed(),
            Happening::Lease { epoch, conn } if epoch == self.epoch => self.lease_over(conn),
            Happening::Away {
                epoch,
                job,
                attempt,
                conn,
            } if epoch == self.epoch => self.away_over(job, attempt, conn),
            Happening::Grace { epoch } if epoch == self.epoch => self.grace_over(),
            // Of an earlier life of the scheduler.
            Happening::Resumes { .. }
            | Happening::Flushed { .. }
            | Happening::Lease { .. }
            | Happening::Away { .. }
            | Happening::Grace { .. } => {}
            Happening::Done { worker, job, token } => self.attempt_done(worker, job, token),
            Happening::Connects { worker, life } => self.connect(worker, life),
            Happening::GivesUp {
                worker,
                life,
                since,
            } => self.give_up(worker, life, since),
            Happening::Strikes(fault) => self.strike(fault),
            Happening::Recovers { worker, stall } => self.recover(worker, stall),
            Happening::Starts { worker } => self.start_worker(worker),
            Happening::SchedulerStarts => self.start_scheduler(),
            Happening::AdminResumes { worker } => self.admin_active(worker, true),
            Happening::Tick => {
                self.decide(ocluster_scheduling::Event::Tick);
                self.after(HOUR, Happening::Tick);
            }
        }
    }

    /// Plans something `wait` from now.
    pub(crate) fn after(&mut self, wait: Ms, what: Happening) {
        self.timeline.plan(self.now + wait, what);
    }

    /// Plans something some time from now, `mean` on average.
    pub(crate) fn after_chance(&mut self, mean: Ms, what: Happening) {
        let wait = self.chance.wait(mean);
        self.after(wait, what);
    }

    /// A number never given before.
    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    /// What the scheduler's clock shows.
    pub(crate) fn clock(&self) -> Timestamp {
        let shown = self.now as i64 + self.clock_error;
        Timestamp::from_secs(BEGIN + shown as f64 / 1000.0)
    }

    /// The time a message takes.
    pub(crate) fn latency(&mut self) -> Ms {
        match self.chance.permille(20) {
            true => self.chance.between(1, SECOND),
            false => self.chance.between(1, 20),
        }
    }

    /// Sends a message to a worker; messages on a connection do not overtake each other.
    pub(crate) fn send_to_worker(&mut self, worker: usize, conn: Conn, says: ToWorker) {
        let latency = self.latency();
        let Some(to) = self.workers.get_mut(worker) else {
            return;
        };
        let at = (self.now + latency).max(to.heard_until);
        to.heard_until = at;
        self.timeline
            .plan(at, Happening::ToWorker { worker, conn, says });
    }

    /// Sends a message of a worker on its connection, if it has one.
    pub(crate) fn send_to_scheduler(&mut self, worker: usize, says: FromWorker) {
        let latency = self.latency();
        let Some(from) = self.workers.get_mut(worker) else {
            return;
        };
        let Some(conn) = from.conn else { return };
        if from.stall.is_some() {
            from.outbox.push((conn, says));
            return;
        }
        let at = (self.now + latency).max(from.said_until);
        from.said_until = at;
        self.timeline.plan(at, Happening::FromWorker { conn, says });
    }

    /// The share in seconds that a job without a hint takes of a client's.
    pub(crate) fn step(&self, client: usize) -> f64 {
        let rate = self.plan.clients.get(client).map(|client| client.rate);
        f64::from(crate::scheduler::COSTS.non_cached) / rate.unwrap_or_default().get()
    }
}
