//! The farm that lives through the day: workers with caches of their own ask the core for jobs and run them.
//!
//! Messages take no time, and nothing fails: what is looked at is what the policy decides.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use ocluster_scheduling::{
    ClientId, Cluster, Config, Effect, Event, Hint, JobId, Policy, PoolConfig, PoolName, PopId,
    Timestamp, WorkerId,
};

use crate::chance::Ms;
use crate::stopwatch::Stopwatch;

use super::args::DayArgs;
use super::cache::Cache;
use super::load::{Job, Load};
use super::report::Outcome;
use super::shares::Shares;

/// A worker; it has one request open while it has a free slot.
#[derive(Debug)]
struct Worker {
    running: u32,
    asks: bool,
    cache: Cache,
}

/// What is to be told to the core next, at the same time.
#[derive(Debug, Clone, Copy)]
enum Next {
    Resume(PopId),
    Ask(u32),
}

struct Farm<'a> {
    args: &'a DayArgs,
    load: &'a Load,
    cluster: Cluster,
    stopwatch: Stopwatch,
    now: Ms,
    clients: Vec<ClientId>,
    hints: Vec<Hint>,
    workers: Vec<Worker>,
    next: VecDeque<Next>,
    pops: u64,
    /// The ends of running jobs: when, a number that breaks ties, the job and its worker.
    ends: BinaryHeap<Reverse<(Ms, u64, u32, u32)>>,
    started: u64,
    queued: u64,
    most_queued: u64,
    /// Jobs with a hint, and those that found it cached.
    hinted: u64,
    hits: u64,
    work: Ms,
    makespan: Ms,
    shares: Shares,
}

/// Lives through the day, and on until all its jobs are over.
pub(crate) fn live(args: &DayArgs, load: &Load, policy: Policy) -> Outcome {
    let mut farm = Farm::new(args, load, policy);
    farm.open();
    for (number, job) in (0u32..).zip(&load.jobs) {
        farm.end_until(Ms::from(job.at));
        farm.arrive(number, job);
    }
    farm.end_until(Ms::MAX);
    let seconds = |ms: Ms| ms as f64 / 1000.0;
    let slots = u64::from(args.workers) * u64::from(args.slots);
    let [wait_mean_s, wait_p50_s, wait_p99_s, wait_max_s] = farm.shares.waits();
    let (longest_wait_small_half_s, longest_wait_smallest_s) = farm.shares.longest_waits_of_small();
    let lower_bound = load.lower_bound(slots);
    Outcome {
        policy: policy.as_str(),
        jobs_run: farm.started,
        most_queued: farm.most_queued,
        makespan_s: seconds(farm.makespan),
        makespan_to_bound: farm.makespan as f64 / lower_bound.max(1) as f64,
        hit_rate: farm.hits as f64 / farm.hinted.max(1) as f64,
        work_slot_s: seconds(farm.work),
        wait_mean_s,
        wait_p50_s,
        wait_p99_s,
        wait_max_s,
        jain_of_share: farm.shares.jain_of_share(),
        jain_of_slowdown: farm.shares.jain_of_slowdown(),
        longest_wait_small_half_s,
        longest_wait_smallest_s,
        decisions: farm.stopwatch.costs(),
    }
}

impl<'a> Farm<'a> {
    fn new(args: &'a DayArgs, load: &'a Load, policy: Policy) -> Self {
        let config = Config {
            pools: vec![PoolConfig {
                name: pool(),
                policy,
            }],
            ..Config::default()
        };
        let clients = (0..args.clients).map(|at| format!("client-{at}").into());
        let hints = (0..args.hints).map(|at| format!("repository-{at}").into());
        let workers = (0..args.workers).map(|_| Worker {
            running: 0,
            asks: false,
            cache: Cache::new(args.cache as usize),
        });
        Self {
            args,
            load,
            cluster: Cluster::new(config),
            stopwatch: Stopwatch::default(),
            now: 0,
            clients: clients.collect(),
            hints: hints.collect(),
            workers: workers.collect(),
            next: VecDeque::new(),
            pops: 0,
            ends: BinaryHeap::new(),
            started: 0,
            queued: 0,
            most_queued: 0,
            hinted: 0,
            hits: 0,
            work: 0,
            makespan: 0,
            shares: Shares::new(args.clients as usize),
        }
    }

    /// All workers join and ask.
    fn open(&mut self) {
        for at in 0..self.args.workers {
            let worker = WorkerId(u64::from(at));
            self.feed(Event::Registered {
                pool: pool(),
                worker,
                name: format!("worker-{at}").into(),
                capacity: self.args.slots,
            });
            self.feed(Event::WorkerResumed { worker });
            self.next.push_back(Next::Ask(at));
        }
        self.pump();
    }

    fn feed(&mut self, event: Event) {
        let now = Timestamp::from_secs(self.now as f64 / 1000.0);
        let effects = self.stopwatch.handle(&mut self.cluster, now, event);
        for effect in effects.list {
            match effect {
                Effect::Wake { pop } => self.next.push_back(Next::Resume(pop)),
                Effect::Give { job, worker, .. } => self.start(job, worker),
                _ => {}
            }
        }
    }

    /// Tells the core what follows from what it said, until nothing does.
    fn pump(&mut self) {
        while let Some(next) = self.next.pop_front() {
            match next {
                Next::Resume(pop) => self.feed(Event::PopResumed { pop }),
                Next::Ask(at) => self.ask(at),
            }
        }
    }

    fn ask(&mut self, at: u32) {
        let Some(worker) = self.workers.get_mut(at as usize) else {
            return;
        };
        if worker.asks || worker.running >= self.args.slots {
            return;
        }
        worker.asks = true;
        self.pops += 1;
        self.feed(Event::Asked {
            worker: WorkerId(u64::from(at)),
            pop: PopId(self.pops),
        });
    }

    fn arrive(&mut self, number: u32, job: &Job) {
        self.now = Ms::from(job.at);
        self.shares.advance(self.now);
        self.shares.queued(job.client);
        self.queued += 1;
        self.most_queued = self.most_queued.max(self.queued);
        let Some(client) = self.clients.get(job.client as usize) else {
            return;
        };
        let hint = job.hint.and_then(|hint| self.hints.get(hint as usize));
        let event = Event::Submitted {
            pool: pool(),
            client: client.clone(),
            job: JobId(u64::from(number)),
            hint: hint.cloned().unwrap_or_default(),
            urgent: job.urgent,
        };
        self.feed(event);
        self.pump();
    }

    /// A worker got a job.
    fn start(&mut self, id: JobId, worker: WorkerId) {
        let (at, load) = (worker.0 as u32, self.load);
        let (Some(job), Some(worker)) = (
            load.jobs.get(id.0 as usize),
            self.workers.get_mut(at as usize),
        ) else {
            return;
        };
        worker.asks = false;
        worker.running += 1;
        self.next.push_back(Next::Ask(at));
        let hit = job.hint.is_some_and(|hint| worker.cache.has(hint));
        let duration = self.load.duration(job, hit);
        self.hinted += u64::from(job.hint.is_some());
        self.hits += u64::from(hit);
        self.work += duration;
        self.started += 1;
        self.queued -= 1;
        let waited = self.now - Ms::from(job.at);
        self.shares.started(job.client, self.now, waited, duration);
        let end = (self.now + duration, self.started, id.0 as u32, at);
        self.ends.push(Reverse(end));
    }

    /// Lets all jobs end that do so by then.
    fn end_until(&mut self, until: Ms) {
        while let Some(&Reverse((due, _, number, at))) = self.ends.peek()
            && due <= until
        {
            self.ends.pop();
            self.now = due;
            self.makespan = due;
            self.shares.advance(due);
            let load = self.load;
            let (Some(job), Some(worker)) = (
                load.jobs.get(number as usize),
                self.workers.get_mut(at as usize),
            ) else {
                continue;
            };
            worker.running -= 1;
            if let Some(hint) = job.hint {
                worker.cache.use_now(hint);
            }
            self.shares.ended(job.client, due);
            self.feed(Event::Finished {
                job: JobId(u64::from(number)),
            });
            self.next.push_back(Next::Ask(at));
            self.pump();
        }
    }
}

fn pool() -> PoolName {
    PoolName::from("pool")
}
