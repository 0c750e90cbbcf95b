//! What one decision costs while very many jobs are queued and very many workers are connected, in percentiles.
//!
//! The pool is held at its size: what is taken or cancelled is replaced. Only decisions are timed.

use std::collections::VecDeque;
use std::io::Write;
use std::process::ExitCode;

use clap::ValueEnum;
use ocluster_scheduling::{
    ClientId, Cluster, Config, Effect, Event, Hint, JobId, Policy, PoolConfig, PoolName, PopId,
    Timestamp, WorkerId,
};
use serde::Serialize;

use crate::chance::Chance;
use crate::stopwatch::{Cost, Stopwatch, write_table};

/// Jobs take this many seconds here; only the pace of simulated time depends on it.
const JOB_SECONDS: f64 = 200.0;
/// One worker leaves and returns after so many rounds.
const ROUNDS_PER_LEAVE: u64 = 20;

/// Which policies to look at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Policies {
    /// OCluster's.
    Upstream,
    /// Ours.
    Balanced,
    /// One after the other.
    #[default]
    Both,
}

impl Policies {
    pub(crate) fn list(self) -> &'static [Policy] {
        match self {
            Policies::Upstream => &[Policy::Upstream],
            Policies::Balanced => &[Policy::Balanced],
            Policies::Both => &[Policy::Upstream, Policy::Balanced],
        }
    }
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// A table.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Measures what single decisions cost in a pool of a given size.
#[derive(Debug, clap::Args)]
pub struct DecisionsArgs {
    /// Connected workers, all of them busy.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    workers: u64,
    /// Slots of each worker.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    slots: u32,
    /// Queued jobs.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    queued: u64,
    /// Clients that have submitted them.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    clients: u64,
    /// Different hints; small ones are the most popular.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    hints: u64,
    /// Rounds to measure. In each, two jobs are submitted, one is cancelled, and one ends and gives way to another.
    #[arg(long, default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..))]
    rounds: u64,
    /// What chance starts from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How the pool decides.
    #[arg(long, value_enum, default_value_t)]
    policy: Policies,
    /// Fails if 1 in 100 decisions of some kind takes longer than this, in microseconds. By default 20 with up to 1,000
    /// workers and 1,000,000 jobs, else 100.
    #[arg(long, value_name = "US")]
    p99: Option<f64>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

/// What was measured of one policy.
#[derive(Debug, Serialize)]
pub struct Measured {
    policy: &'static str,
    /// Resident memory of this process for each queued job, where the system tells.
    bytes_per_queued_job: Option<u64>,
    /// The same for each connected worker with as many running jobs as it has slots.
    bytes_per_worker: Option<u64>,
    decisions: Vec<Cost>,
}

impl Measured {
    /// What each kind of decision took.
    pub fn decisions(&self) -> &[Cost] {
        &self.decisions
    }
}

#[derive(Debug, Serialize)]
struct Report {
    workers: u64,
    slots: u32,
    queued: u64,
    p99_threshold_us: f64,
    policies: Vec<Measured>,
}

impl DecisionsArgs {
    fn threshold(&self) -> f64 {
        let small = self.workers <= 1_000 && self.queued <= 1_000_000;
        self.p99.unwrap_or(if small { 20.0 } else { 100.0 })
    }

    /// Measures, and prints.
    ///
    /// # Errors
    ///
    /// If the report cannot be written.
    pub fn run(&self, out: &mut impl Write) -> std::io::Result<ExitCode> {
        let policies = self.policy.list().iter();
        let report = Report {
            workers: self.workers,
            slots: self.slots,
            queued: self.queued,
            p99_threshold_us: self.threshold(),
            policies: policies.map(|policy| self.measure(*policy)).collect(),
        };
        if self.output == Format::Json {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)?;
        } else {
            for measured in &report.policies {
                self.write(out, measured)?;
            }
        }
        let costs = report.policies.iter().flat_map(|m| &m.decisions);
        let mut missed = false;
        for cost in costs.filter(|cost| cost.p99_us >= self.threshold()) {
            missed = true;
            if self.output == Format::Text {
                let (kind, p99, most) = (cost.kind.name(), cost.p99_us, self.threshold());
                writeln!(
                    out,
                    "missed: p99 of {kind} is {p99} us, not below {most} us"
                )?;
            }
        }
        Ok(match missed {
            true => ExitCode::FAILURE,
            false => ExitCode::SUCCESS,
        })
    }

    fn write(&self, out: &mut impl Write, measured: &Measured) -> std::io::Result<()> {
        writeln!(
            out,
            "{}: {} workers with {} slots, {} queued",
            measured.policy, self.workers, self.slots, self.queued
        )?;
        write_table(out, &measured.decisions)?;
        if let (Some(job), Some(worker)) =
            (measured.bytes_per_queued_job, measured.bytes_per_worker)
        {
            writeln!(
                out,
                "{job} bytes per queued job, {worker} bytes per busy worker"
            )?;
        }
        writeln!(out)
    }

    /// Measures a pool under one policy.
    pub fn measure(&self, policy: Policy) -> Measured {
        let empty = resident();
        let mut farm = Farm::new(self, policy);
        farm.join_all();
        let manned = resident();
        while farm.queued < self.queued {
            farm.submit();
        }
        let full = resident();
        farm.stopwatch = Stopwatch::default();
        for round in 0..self.rounds {
            farm.round(round);
        }
        let each = |from: Option<u64>, to: Option<u64>, of: u64| {
            Some(to?.saturating_sub(from?) / of.max(1))
        };
        Measured {
            policy: policy.as_str(),
            bytes_per_queued_job: each(manned, full, self.queued),
            bytes_per_worker: each(empty, manned, self.workers),
            decisions: farm.stopwatch.costs(),
        }
    }
}

/// The pool, and as much of the world as it takes to keep it busy.
struct Farm {
    cluster: Cluster,
    stopwatch: Stopwatch,
    chance: Chance,
    pool: PoolName,
    clients: Vec<ClientId>,
    hints: Vec<Hint>,
    slots: u32,
    now: f64,
    /// How much later the next round begins.
    pace: f64,
    next: u64,
    queued: u64,
    /// The registration of each worker, and what it runs.
    workers: Vec<(WorkerId, VecDeque<JobId>)>,
}

impl Farm {
    fn new(args: &DecisionsArgs, policy: Policy) -> Self {
        let pool = PoolName::from("pool");
        let config = Config {
            pools: vec![PoolConfig {
                name: pool.clone(),
                policy,
            }],
            ..Config::default()
        };
        let named = |what: &str, count: u64| -> Vec<String> {
            (0..count).map(|at| format!("{what}-{at}")).collect()
        };
        let clients = named("client", args.clients).into_iter();
        let hints = named("repository", args.hints).into_iter();
        Self {
            cluster: Cluster::new(config),
            stopwatch: Stopwatch::default(),
            chance: Chance::new(args.seed),
            pool,
            clients: clients.map(ClientId::from).collect(),
            hints: hints.map(Hint::from).collect(),
            slots: args.slots,
            now: 1.0,
            pace: JOB_SECONDS / (args.workers * u64::from(args.slots)) as f64,
            next: 0,
            queued: 0,
            workers: vec![(WorkerId(0), VecDeque::new()); args.workers as usize],
        }
    }

    fn feed(&mut self, event: Event) -> Vec<Effect> {
        let now = Timestamp::from_secs(self.now);
        let effects = self.stopwatch.handle(&mut self.cluster, now, event);
        for effect in &effects.list {
            match effect {
                Effect::Queued { .. } => self.queued += 1,
                Effect::Give { .. } | Effect::JobCancelled { .. } => self.queued -= 1,
                _ => {}
            }
        }
        effects.list
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn submit(&mut self) {
        let job = JobId(self.number());
        let client = self.chance.skewed(self.clients.len());
        let hint = self.chance.skewed(self.hints.len());
        let (Some(client), Some(hint)) = (self.clients.get(client), self.hints.get(hint)) else {
            return;
        };
        let event = Event::Submitted {
            pool: self.pool.clone(),
            client: client.clone(),
            job,
            hint: hint.clone(),
            urgent: self.chance.permille(10),
        };
        self.feed(event);
    }

    /// Cancels some queued job.
    fn cancel(&mut self) {
        // Some numbers are not those of queued jobs; nearly all of a long queue's are.
        for _ in 0..100 {
            let job = JobId(self.chance.between(1, self.next));
            let cancelled = |effect: &Effect| matches!(effect, Effect::JobCancelled { .. });
            if self.feed(Event::Cancelled { job }).iter().any(cancelled) {
                return;
            }
        }
    }

    /// The worker asks for a job. Under `upstream` all jobs may be on other workers' queues; then it gives up.
    fn ask(&mut self, at: usize) {
        let Some((worker, _)) = self.workers.get(at) else {
            return;
        };
        let worker = *worker;
        let pop = PopId(self.number());
        let effects = self.feed(Event::Asked { worker, pop });
        let given = effects.iter().find_map(|effect| match effect {
            Effect::Give { job, .. } => Some(*job),
            _ => None,
        });
        match (given, self.workers.get_mut(at)) {
            (Some(job), Some((_, running))) => running.push_back(job),
            _ => drop(self.feed(Event::PopWithdrawn { pop })),
        }
    }

    fn join(&mut self, at: usize) {
        let worker = WorkerId(self.number());
        let (pool, name) = (self.pool.clone(), format!("worker-{at}").into());
        let capacity = self.slots;
        self.feed(Event::Registered {
            pool,
            worker,
            name,
            capacity,
        });
        self.feed(Event::WorkerResumed { worker });
        if let Some(slot) = self.workers.get_mut(at) {
            *slot = (worker, VecDeque::new());
        }
    }

    /// All workers join, and get as many jobs as they can run.
    fn join_all(&mut self) {
        for at in 0..self.workers.len() {
            self.join(at);
            for _ in 0..self.slots {
                self.submit();
                self.ask(at);
            }
        }
    }

    /// One job ends on some worker, which asks for the next.
    fn go_on(&mut self) {
        let at = self.chance.index(self.workers.len());
        let ended = self
            .workers
            .get_mut(at)
            .and_then(|(_, jobs)| jobs.pop_front());
        if let Some(job) = ended {
            self.feed(Event::Finished { job });
        }
        self.ask(at);
    }

    /// A worker leaves with all it runs, and returns.
    fn come_and_go(&mut self) {
        let at = self.chance.index(self.workers.len());
        let Some((worker, running)) = self.workers.get_mut(at) else {
            return;
        };
        let (worker, running) = (*worker, std::mem::take(running));
        self.feed(Event::Left { worker });
        for job in running {
            self.feed(Event::Finished { job });
        }
        self.join(at);
        for _ in 0..self.slots {
            self.submit();
            self.ask(at);
        }
    }

    fn round(&mut self, round: u64) {
        self.now += self.pace;
        self.submit();
        self.submit();
        self.cancel();
        self.go_on();
        if round.is_multiple_of(ROUNDS_PER_LEAVE) {
            self.come_and_go();
        }
    }
}

/// The resident memory of this process in bytes; `None` where `/proc` does not tell.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}
