//! One seed: builds the cluster, lets time go by, breaks what the plan says, puts everything right, and has the history checked.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use turmoil::Sim;

use crate::check;
use crate::clock::SimClock;
use crate::determinism;
use crate::disk::{Platter, Speed};
use crate::faults::{Action, Counts, HEALTHY_DISK, SCHEDULER};
use crate::history::History;
use crate::hosts::{Auditor, ClientHost, SchedulerHost, Site, WorkerHost};
use crate::plan::Plan;

/// How finely time passes.
const TICK: Duration = Duration::from_millis(10);
/// How long a message takes at most when nothing is wrong.
const LATENCY: Duration = Duration::from_millis(40);
/// How long a cluster in good order may take to finish everything.
const SETTLING: Duration = Duration::from_secs(3 * 3600);
/// How long the auditor may take.
const AUDIT: Duration = Duration::from_secs(600);

/// What became of one seed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The seed.
    pub seed: u64,
    /// SHA-256 of the history.
    pub digest: String,
    /// How many events it has.
    pub events: u64,
    /// Simulated seconds.
    pub seconds: f64,
    /// Jobs that were submitted.
    pub jobs: usize,
    /// Runs of jobs on workers.
    pub executions: usize,
    /// How often a client read on in a log after a loss.
    pub resumed_reads: u64,
    /// Faults of each kind.
    pub faults: Counts,
    /// Durable jobs by how they ended.
    pub ended: Counts,
    /// Broken promises.
    pub violations: Vec<String>,
}

struct Cluster<'a> {
    sim: Sim<'a>,
    history: History,
    platter: Rc<RefCell<Platter>>,
    disk: Speed,
    spools: BTreeMap<String, Speed>,
    clock: SimClock,
    stops: BTreeMap<String, Rc<RefCell<CancellationToken>>>,
    down: BTreeSet<String>,
    others: Vec<String>,
    counts: Counts,
    graveyard: tokio::runtime::Runtime,
}

/// Runs the plan in a directory that is empty. The thread must be under control (see [`determinism::take_control`]), and not have run
/// another plan before.
///
/// # Errors
/// When the directory cannot be used. Everything else is a violation in the outcome.
pub fn run(plan: &Plan, dir: &std::path::Path, trace: bool) -> anyhow::Result<Outcome> {
    let history = History::new(trace);
    note_panics(history.clone());
    let site = Site {
        dir: dir.to_owned(),
    };
    std::fs::create_dir(dir.join("secrets"))?;
    let begin = Rc::new(Cell::new(false));
    let done = Rc::new(Cell::new(false));
    let found = Rc::new(RefCell::new(BTreeMap::new()));
    let auditor = Auditor {
        begin: begin.clone(),
        done: done.clone(),
        clients: plan.clients.iter().map(|one| one.name.clone()).collect(),
        history: history.clone(),
        found: found.clone(),
    };
    let mut cluster = Cluster::build(plan, &site, &history, auditor)?;
    let mut faults = plan.faults.iter().peekable();
    while cluster.elapsed() < plan.troubled {
        while let Some((_, action)) = faults.next_if(|(at, _)| *at <= cluster.elapsed()) {
            cluster.act(action);
        }
        cluster.step();
    }
    cluster.put_right();
    let deadline = cluster.elapsed() + SETTLING;
    while cluster.elapsed() < deadline && !(all_told(plan, &history) && nothing_runs(&history)) {
        cluster.steps(100);
    }
    // The last words of everybody to everybody.
    cluster.steps(1_000);
    for execution in history.executions() {
        if execution.ended.is_none() {
            history.violation(format_args!(
                "{} still runs {} as execution {}",
                execution.worker, execution.job, execution.number
            ));
        }
    }
    begin.set(true);
    let deadline = cluster.elapsed() + AUDIT;
    while cluster.elapsed() < deadline && !done.get() {
        cluster.steps(10);
    }
    if !done.get() {
        history.violation("the scheduler does not answer the auditor");
    }
    let found = found.borrow().clone();
    check::check(plan, &history, &found);
    let seconds = cluster.elapsed().as_secs_f64();
    let counts = cluster.end();
    let mut ended = Counts::new();
    for audited in found.values() {
        *ended
            .entry(audited.info.state.name().to_owned())
            .or_default() += 1;
    }
    let (digest, events) = history.digest();
    Ok(Outcome {
        seed: plan.seed,
        digest,
        events,
        seconds,
        jobs: plan.jobs().count(),
        executions: history.executions().len(),
        resumed_reads: history
            .jobs()
            .values()
            .map(|job| u64::from(job.resumed_reads))
            .sum(),
        faults: counts,
        ended,
        violations: history.violations(),
    })
}

/// Whether every client has been told of every end.
fn all_told(plan: &Plan, history: &History) -> bool {
    let jobs = history.jobs();
    plan.jobs().filter(|job| !job.attached).all(|job| {
        jobs.get(&job.work.key)
            .is_some_and(|seen| !seen.verdicts.is_empty() || seen.refused.is_some())
    })
}

/// Whether no worker runs anything.
fn nothing_runs(history: &History) -> bool {
    history.executions().iter().all(|run| run.ended.is_some())
}

/// A panic anywhere is a broken promise, unless its host is being crashed: then nobody is there to see it.
fn note_panics(history: History) {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if DYING.get() {
            return;
        }
        history.violation(format_args!("a panic: {panic}"));
        usual(panic);
    }));
}

thread_local! {
    /// Whether a host is being crashed.
    static DYING: Cell<bool> = const { Cell::new(false) };
}

impl Cluster<'_> {
    fn build(
        plan: &Plan,
        site: &Site,
        history: &History,
        auditor: Auditor,
    ) -> anyhow::Result<Self> {
        let mut sim = turmoil::Builder::new()
            .epoch(SystemTime::UNIX_EPOCH + determinism::EPOCH)
            .simulation_duration(Duration::MAX)
            .tick_duration(TICK)
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(LATENCY)
            .tcp_capacity(4096)
            // The simulated network never takes back the port of a dial that failed.
            .ephemeral_ports(1024..=65_535)
            .rng_seed(plan.seed)
            .build();
        let mut stops = BTreeMap::new();
        let platter = Rc::new(RefCell::new(Platter::default()));
        let disk = Speed::new(HEALTHY_DISK);
        let clock = SimClock::default();
        let stop = Rc::new(RefCell::new(CancellationToken::new()));
        stops.insert(SCHEDULER.to_owned(), stop.clone());
        let scheduler = SchedulerHost {
            site: site.clone(),
            clients: plan.clients.iter().map(|one| one.name.clone()).collect(),
            clock: clock.clone(),
            platter: platter.clone(),
            speed: disk.clone(),
            stop,
        };
        sim.host(SCHEDULER, move || scheduler.clone().live());
        let mut spools = BTreeMap::new();
        let mut others = Vec::new();
        for planned in &plan.workers {
            let speed = Speed::new(HEALTHY_DISK);
            spools.insert(planned.name.clone(), speed.clone());
            let stop = Rc::new(RefCell::new(CancellationToken::new()));
            stops.insert(planned.name.clone(), stop.clone());
            others.push(planned.name.clone());
            let worker = WorkerHost {
                site: site.clone(),
                plan: planned.clone(),
                speed,
                history: history.clone(),
                stop,
            };
            sim.host(planned.name.as_str(), move || worker.clone().live());
        }
        for planned in &plan.clients {
            others.push(planned.name.clone());
            let client = ClientHost {
                plan: Rc::new(planned.clone()),
                history: history.clone(),
            };
            sim.host(planned.name.as_str(), move || client.clone().live());
        }
        sim.host("auditor", move || auditor.clone().live());
        Ok(Self {
            sim,
            history: history.clone(),
            platter,
            disk,
            spools,
            clock,
            stops,
            down: BTreeSet::new(),
            others,
            counts: Counts::new(),
            graveyard: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()?,
        })
    }

    fn elapsed(&self) -> Duration {
        self.sim.elapsed()
    }

    fn step(&mut self) {
        determinism::set_elapsed(self.sim.elapsed());
        if let Err(error) = self.sim.step() {
            self.history
                .violation(format_args!("a program ended by itself: {error}"));
        }
    }

    fn steps(&mut self, count: u32) {
        for _ in 0..count {
            self.step();
        }
    }

    fn act(&mut self, action: &Action) {
        if let Some(kind) = action.fault() {
            *self.counts.entry(kind.to_owned()).or_default() += 1;
        }
        self.history.note(format_args!("== {action:?}"));
        match action {
            Action::Cut(host) => self.sim.partition(host.as_str(), SCHEDULER),
            Action::CutOutward(host) => self.sim.partition_oneway(host.as_str(), SCHEDULER),
            Action::CutInward(host) => self.sim.partition_oneway(SCHEDULER, host.as_str()),
            Action::Hold(host) => self.sim.hold(host.as_str(), SCHEDULER),
            Action::Slow(host, most) => {
                self.sim
                    .set_link_max_message_latency(host.as_str(), SCHEDULER, *most);
            }
            Action::Mend(host) => self.mend(host),
            Action::Kill(host) => self.kill(host),
            Action::PowerOff(host) => {
                self.cut_all(host);
                self.kill(host);
                self.mend_all(host);
            }
            Action::Stop(host) => {
                if let Some(stop) = self.stops.get(host) {
                    stop.borrow().cancel();
                }
            }
            Action::Start(host) => self.start(host),
            Action::SlowDisk(write) => self.disk.set(*write),
            Action::SlowSpool(host, write) => {
                if let Some(spool) = self.spools.get(host) {
                    spool.set(*write);
                }
            }
            Action::Skew(ahead) => self.clock.set_skew(*ahead),
        }
    }

    fn mend(&mut self, host: &str) {
        self.sim.repair(host, SCHEDULER);
        self.sim.release(host, SCHEDULER);
        self.sim
            .set_link_max_message_latency(host, SCHEDULER, LATENCY);
    }

    fn partners(&self, host: &str) -> Vec<String> {
        if host == SCHEDULER {
            self.others.clone()
        } else {
            vec![SCHEDULER.to_owned()]
        }
    }

    fn cut_all(&mut self, host: &str) {
        for other in self.partners(host) {
            self.sim.partition(host, other.as_str());
        }
    }

    fn mend_all(&mut self, host: &str) {
        for other in self.partners(host) {
            self.sim.repair(host, other.as_str());
        }
    }

    fn kill(&mut self, host: &str) {
        if !self.down.insert(host.to_owned()) {
            return;
        }
        if host == SCHEDULER {
            self.platter.borrow().detach();
        }
        // What is dropped may want to start tasks; they will never run.
        let local = tokio::task::LocalSet::new();
        let _runtime = self.graveyard.enter();
        let _local = local.enter();
        DYING.set(true);
        self.sim.crash(host);
        DYING.set(false);
    }

    fn start(&mut self, host: &str) {
        // Whatever is left of it goes first.
        if !self.down.contains(host) {
            self.kill(host);
        }
        self.down.remove(host);
        self.sim.bounce(host);
    }

    fn put_right(&mut self) {
        self.history.note("== everything is put right");
        for host in self.others.clone() {
            self.mend(&host);
        }
        for host in self.down.clone() {
            self.start(&host);
        }
        self.disk.set(HEALTHY_DISK);
        for spool in self.spools.values() {
            spool.set(HEALTHY_DISK);
        }
        self.clock.set_skew(0);
    }

    /// Crashes everything, so that nothing is left behind. Gives the faults that there were.
    fn end(mut self) -> Counts {
        for host in self.others.clone() {
            self.kill(&host);
        }
        self.kill(SCHEDULER);
        self.kill("auditor");
        std::mem::take(&mut self.counts)
    }
}
