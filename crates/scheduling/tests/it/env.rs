//! `TestEnv`: a pool, a clock and a handful of verbs, so that a scenario fits on a screen.
//!
//! Plays the part of the scheduler program: performs the core's effects, but wakes requests only when told to `pump`,
//! so that the state between an assignment and its taking can be looked at.

use std::collections::{BTreeMap, VecDeque};

use ocluster_scheduling::*;

pub(crate) const POOL: &str = "pool";

/// A registered worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct W(pub(crate) WorkerId);

/// A worker's request for a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct P(PopId);

pub(crate) struct TestEnv {
    pub(crate) cluster: Cluster,
    config: Config,
    /// The pool all verbs speak of.
    pub(crate) pool: PoolName,
    now: f64,
    next: u64,
    names: BTreeMap<JobId, String>,
    /// What a job's record would hold: client, hint, urgency and fair start.
    accepted: BTreeMap<JobId, (ClientId, Hint, bool, Timestamp)>,
    wakes: VecDeque<PopId>,
    answers: BTreeMap<PopId, String>,
    running: BTreeMap<WorkerId, Vec<JobId>>,
    /// What the store would hold: every record, in the order it was written.
    pub(crate) records: Vec<Record>,
    pub(crate) log: Vec<String>,
}

impl TestEnv {
    pub(crate) fn upstream() -> Self {
        Self::new(Policy::Upstream, 2, 10)
    }

    pub(crate) fn balanced() -> Self {
        Self::new(Policy::Balanced, 2, 10)
    }

    pub(crate) fn new(policy: Policy, cached: u32, non_cached: u32) -> Self {
        let pools = vec![PoolConfig {
            name: POOL.into(),
            policy,
        }];
        let costs = Costs { cached, non_cached };
        let config = Config {
            pools,
            costs,
            ..Config::default()
        };
        Self::of(config)
    }

    pub(crate) fn of(config: Config) -> Self {
        Self {
            cluster: Cluster::new(config.clone()),
            config,
            pool: POOL.into(),
            now: 1.0,
            next: 0,
            names: BTreeMap::new(),
            accepted: BTreeMap::new(),
            wakes: VecDeque::new(),
            answers: BTreeMap::new(),
            running: BTreeMap::new(),
            records: Vec::new(),
            log: Vec::new(),
        }
    }

    /// The scheduler dies and comes back with what it had remembered.
    pub(crate) fn restart(&mut self) {
        self.cluster = Cluster::new(self.config.clone());
        for record in self.records.clone() {
            self.cluster.restore(record);
        }
        self.wakes.clear();
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::from_secs(self.now)
    }

    pub(crate) fn advance(&mut self, seconds: f64) {
        self.now += seconds;
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Feeds any event and performs its effects, except for the wakes.
    pub(crate) fn event(&mut self, event: Event) -> Result<(), Refusal> {
        let effects = self.cluster.handle(self.now(), event);
        for effect in effects.list {
            match effect {
                Effect::Wake { pop } => self.wakes.push_back(pop),
                Effect::Give { pop, job, worker } => {
                    self.answers.insert(pop, self.names[&job].clone());
                    self.running.entry(worker).or_default().push(job);
                }
                Effect::EndPop { pop } => {
                    self.answers.insert(pop, "disconnected".into());
                }
                Effect::Persist(record) => self.records.push(record),
                Effect::Queued { job, fair_start } => {
                    self.accepted.get_mut(&job).unwrap().3 = fair_start;
                }
                Effect::JobCancelled { .. } | Effect::RunningChanged { .. } => {}
                Effect::Log(fact) => self.log.push(fact.to_string()),
            }
        }
        effects.outcome
    }

    /// Lets every woken request run, in order, until none is left.
    pub(crate) fn pump(&mut self) {
        while self.step() {}
    }

    /// Lets the first woken request run, if there is one.
    pub(crate) fn step(&mut self) -> bool {
        let Some(pop) = self.wakes.pop_front() else {
            return false;
        };
        // A request that ended since its wake is nobody's loss.
        let _ = self.event(Event::PopResumed { pop });
        true
    }

    pub(crate) fn register_with(&mut self, name: &str, capacity: u32) -> Result<W, Refusal> {
        let worker = WorkerId(self.number());
        let (pool, name) = (self.pool.clone(), name.into());
        self.event(Event::Registered {
            pool,
            worker,
            name,
            capacity,
        })?;
        Ok(W(worker))
    }

    pub(crate) fn register(&mut self, name: &str) -> W {
        self.register_with(name, 1).unwrap()
    }

    /// A worker that is registered and active.
    pub(crate) fn worker(&mut self, name: &str) -> W {
        self.worker_with(name, 1)
    }

    pub(crate) fn worker_with(&mut self, name: &str, capacity: u32) -> W {
        let worker = self.register_with(name, capacity).unwrap();
        self.resume(worker);
        worker
    }

    pub(crate) fn resume(&mut self, worker: W) {
        self.event(Event::WorkerResumed { worker: worker.0 })
            .unwrap();
    }

    pub(crate) fn pause(&mut self, worker: W) {
        self.event(Event::WorkerPaused {
            worker: worker.0,
            note: None,
        })
        .unwrap();
    }

    /// The worker pauses and says why.
    pub(crate) fn pause_because(&mut self, worker: W, why: &str) {
        self.event(Event::WorkerPaused {
            worker: worker.0,
            note: PauseNote::new(why),
        })
        .unwrap();
    }

    pub(crate) fn admin(&mut self, name: &str, active: bool) -> Result<(), Refusal> {
        let (pool, name) = (self.pool.clone(), name.into());
        self.event(Event::AdminActive {
            pool,
            name,
            active,
            auto_create: false,
            pause: None,
        })
    }

    /// An administrator pauses a worker, and says who and why.
    pub(crate) fn admin_pause(&mut self, name: &str, by: &str, why: &str) {
        let (pool, name) = (self.pool.clone(), name.into());
        let pause = Some(AdminPause {
            by: PauseNote::new(by),
            why: PauseNote::new(why),
            since_ms: (self.now * 1000.0) as u64,
        });
        self.event(Event::AdminActive {
            pool,
            name,
            active: false,
            auto_create: false,
            pause,
        })
        .unwrap();
    }

    pub(crate) fn leave(&mut self, worker: W) {
        self.event(Event::Left { worker: worker.0 }).unwrap();
    }

    pub(crate) fn forget(&mut self, name: &str) -> Result<(), Refusal> {
        self.event(Event::Forgotten {
            pool: self.pool.clone(),
            name: name.into(),
        })
    }

    pub(crate) fn rate(&mut self, client: &str, rate: f64) {
        let (pool, client) = (self.pool.clone(), client.into());
        self.event(Event::RateSet {
            pool,
            client,
            rate: Rate::new(rate).unwrap(),
        })
        .unwrap();
    }

    /// Submits a job. `of` is `client:job`, or `client:job!` for an urgent one.
    pub(crate) fn submit(&mut self, of: &str, hint: &str) {
        let (client, name) = of.split_once(':').unwrap();
        let (name, urgent) = match name.strip_suffix('!') {
            Some(name) => (name, true),
            None => (name, false),
        };
        let job = JobId(self.number());
        self.names.insert(job, name.to_owned());
        let (client, hint) = (ClientId::from(client), Hint::from(hint));
        let record = (client.clone(), hint.clone(), urgent, self.now());
        self.accepted.insert(job, record);
        self.event(Event::Submitted {
            pool: self.pool.clone(),
            client,
            job,
            hint,
            urgent,
        })
        .unwrap();
    }

    /// A job accepted earlier is queued again; it avoids these workers.
    pub(crate) fn requeue(&mut self, name: &str, avoid: &[&str]) -> Result<(), Refusal> {
        let job = self.job(name);
        let (client, hint, urgent, fair_start) = self.accepted[&job].clone();
        self.event(Event::Requeued {
            pool: self.pool.clone(),
            client,
            job,
            hint,
            urgent,
            fair_start,
            avoid: avoid.iter().map(|name| WorkerName::from(*name)).collect(),
        })
    }

    /// A running job ends.
    pub(crate) fn end(&mut self, name: &str) {
        let job = self.job(name);
        for jobs in self.running.values_mut() {
            jobs.retain(|running| *running != job);
        }
        self.event(Event::Finished { job }).unwrap();
    }

    /// What is said of a queued job.
    pub(crate) fn explain(&self, name: &str) -> Option<Explanation> {
        self.cluster.explain(self.job(name))
    }

    /// The job's attempt came to nothing: it is queued again, and avoids these workers.
    pub(crate) fn retry(&mut self, name: &str, avoid: &[&str]) {
        self.end(name);
        self.requeue(name, avoid).unwrap();
    }

    /// A worker that has just joined says that it runs this job.
    pub(crate) fn adopt(&mut self, worker: W, name: &str) -> Result<(), Refusal> {
        let job = self.job(name);
        let (client, hint, ..) = self.accepted[&job].clone();
        self.event(Event::Adopted {
            worker: worker.0,
            job,
            client,
            hint,
        })?;
        self.running.entry(worker.0).or_default().push(job);
        Ok(())
    }

    fn job(&self, name: &str) -> JobId {
        *self
            .names
            .iter()
            .rev()
            .find(|(_, known)| *known == name)
            .unwrap()
            .0
    }

    pub(crate) fn cancel(&mut self, name: &str) -> Result<(), Refusal> {
        self.event(Event::Cancelled {
            job: self.job(name),
        })
    }

    /// The worker asks for a job.
    pub(crate) fn pop(&mut self, worker: W) -> P {
        let pop = PopId(self.number());
        self.event(Event::Asked {
            worker: worker.0,
            pop,
        })
        .unwrap();
        P(pop)
    }

    pub(crate) fn withdraw(&mut self, pop: P) {
        self.event(Event::PopWithdrawn { pop: pop.0 }).unwrap();
    }

    /// The job this request was answered with, `waiting`, or `disconnected`.
    pub(crate) fn got(&self, pop: P) -> &str {
        self.answers.get(&pop.0).map_or("waiting", String::as_str)
    }

    /// The worker finishes everything it runs.
    pub(crate) fn finish(&mut self, worker: W) {
        for job in self.running.remove(&worker.0).unwrap_or_default() {
            self.event(Event::Finished { job }).unwrap();
        }
    }

    /// The worker takes and finishes jobs until it would have to wait; the jobs it got, in order.
    pub(crate) fn flush(&mut self, worker: W) -> String {
        let mut jobs = Vec::new();
        loop {
            let pop = self.pop(worker);
            self.pump();
            match self.got(pop) {
                "waiting" => {
                    self.withdraw(pop);
                    return jobs.join(" ");
                }
                job => jobs.push(job.to_owned()),
            }
            self.finish(worker);
        }
    }

    /// The pool as `dump` prints it, except that each job is shown by its name instead of its hint.
    pub(crate) fn dump(&self) -> String {
        let mut view = self.cluster.view(&self.pool).unwrap();
        let named = |jobs: &mut Vec<view::QueuedJob>| {
            for job in jobs {
                job.hint = self.names[&job.job].as_str().into();
            }
        };
        if let view::MainView::Backlog(jobs) = &mut view.main {
            named(jobs);
        }
        named(&mut view.held);
        for worker in &mut view.workers {
            named(&mut worker.queue);
        }
        let hints = self.cluster.cached_hints(&self.pool).unwrap();
        show::dump(&view, &hints, self.now())
    }

    /// Compares the whole pool with its expected picture, indented as the test likes it.
    #[track_caller]
    pub(crate) fn shows(&self, expected: &str) {
        // The first line stands behind the quotation mark; the others tell the indentation.
        let indents = expected
            .lines()
            .skip(1)
            .map(|line| line.len() - line.trim_start().len());
        let indent = indents.min().unwrap_or(0);
        let lines = expected.lines().enumerate();
        let lines = lines.map(|(i, line)| {
            if i == 0 {
                line
            } else {
                line[indent..].trim_end()
            }
        });
        let expected: Vec<&str> = lines.collect();
        let dump = self.dump();
        let actual: Vec<&str> = dump.lines().map(str::trim_end).collect();
        assert_eq!(
            actual.join(
                "
"
            ),
            expected.join(
                "
"
            ),
            "
{dump}"
        );
    }

    /// One line of the picture, with its continuations.
    pub(crate) fn line(&self, start: &str) -> String {
        let dump = self.dump();
        let mut lines = dump
            .lines()
            .skip_while(|line| !line.trim_start().starts_with(start));
        let first = lines.next().unwrap_or_default().trim().to_owned();
        let continued = lines.take_while(|line| line.starts_with("         "));
        continued.fold(first, |line, more| line + " " + more.trim_start())
    }

    pub(crate) fn stats(&self) -> view::PoolStats {
        self.cluster.pool_stats(&self.pool).unwrap()
    }
}
