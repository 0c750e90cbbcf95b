//! What one decision costs while 10^3 to 10^6 jobs are queued: submit, pop and cancel, under both policies, with 1000
//! workers connected.
//!
//! Each step is timed alone, between others that bring the queue back to its length.
//!
//! And what it costs to take 10^6 queued jobs back after a restart, in time and, on Linux, in memory.
#![allow(missing_docs, clippy::expect_used)]

use std::cell::{Cell, RefCell};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use ocluster_scheduling::*;

const WORKERS: u64 = 1_000;
const HINTS: u64 = 10_000;
const CLIENTS: u64 = 50;

/// A pool with busy workers and a long main queue.
struct Farm {
    cluster: Cluster,
    pool: PoolName,
    next: u64,
    clients: Vec<ClientId>,
    hints: Vec<Hint>,
}

impl Farm {
    fn new(policy: Policy, queued: u64) -> Self {
        let pool = PoolName::from("pool");
        let pools = vec![PoolConfig {
            name: pool.clone(),
            policy,
        }];
        let config = Config {
            pools,
            costs: Costs::default(),
            hint_max_age: None,
            ..Config::default()
        };
        let mut farm = Self {
            cluster: Cluster::new(config),
            pool,
            next: WORKERS,
            clients: (0..CLIENTS)
                .map(|client| format!("client-{client}").into())
                .collect(),
            hints: (0..HINTS)
                .map(|hint| format!("repository-{hint}").into())
                .collect(),
        };
        for worker in 0..WORKERS {
            let (pool, name) = (farm.pool.clone(), format!("worker-{worker}").into());
            let worker = WorkerId(worker);
            let _ = farm.feed(Event::Registered {
                pool,
                worker,
                name,
                capacity: 4,
            });
            let _ = farm.feed(Event::WorkerResumed { worker });
            for _ in 0..4 {
                farm.submit();
                farm.ask(worker.0);
            }
        }
        while farm.queued() < queued {
            farm.submit();
        }
        farm
    }

    fn feed(&mut self, event: Event) -> Effects {
        self.cluster.handle(Timestamp::from_secs(1.0), event)
    }

    fn queued(&self) -> u64 {
        self.cluster
            .pool_stats(&self.pool)
            .expect("exists")
            .incoming
            .total()
    }

    fn submit(&mut self) -> JobId {
        self.next += 1;
        let job = JobId(self.next);
        // A fixed multiplier scatters hints and clients without chance.
        let at = self.next.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let client = self.clients[(at % CLIENTS) as usize].clone();
        let hint = self.hints[(at % HINTS) as usize].clone();
        let (pool, urgent) = (self.pool.clone(), at.is_multiple_of(100));
        let effects = self.feed(Event::Submitted {
            pool,
            client,
            job,
            hint,
            urgent,
        });
        std::hint::black_box(effects.list.len());
        job
    }

    /// The worker asks for a job. Under `upstream` all jobs may be on other workers' queues; then it gives up.
    fn ask(&mut self, worker: u64) -> Option<JobId> {
        self.next += 1;
        let pop = PopId(self.next);
        let effects = self.feed(Event::Asked {
            worker: WorkerId(worker),
            pop,
        });
        let given = effects.list.iter().find_map(|effect| match effect {
            Effect::Give { job, .. } => Some(*job),
            _ => None,
        });
        if given.is_none() {
            let _ = self.feed(Event::PopWithdrawn { pop });
        }
        given
    }

    fn finish(&mut self, job: JobId) {
        let effects = self.feed(Event::Finished { job });
        std::hint::black_box(effects.list.len());
    }

    fn cancel(&mut self, job: JobId) {
        let effects = self.feed(Event::Cancelled { job });
        std::hint::black_box(effects.list.len());
    }
}

fn decisions(criterion: &mut Criterion) {
    for policy in [Policy::Upstream, Policy::Balanced] {
        let mut group = criterion.benchmark_group(policy.as_str());
        for queued in [1_000, 10_000, 100_000, 1_000_000] {
            let farm = RefCell::new(Farm::new(policy, queued));
            group.bench_function(BenchmarkId::new("submit", queued), |bencher| {
                let last = Cell::new(None);
                bencher.iter_batched(
                    || {
                        last.take()
                            .into_iter()
                            .for_each(|job| farm.borrow_mut().cancel(job))
                    },
                    |()| last.set(Some(farm.borrow_mut().submit())),
                    BatchSize::PerIteration,
                );
                last.take()
                    .into_iter()
                    .for_each(|job| farm.borrow_mut().cancel(job));
            });
            group.bench_function(BenchmarkId::new("cancel", queued), |bencher| {
                bencher.iter_batched(
                    || farm.borrow_mut().submit(),
                    |job| farm.borrow_mut().cancel(job),
                    BatchSize::PerIteration,
                );
            });
            group.bench_function(BenchmarkId::new("pop", queued), |bencher| {
                let (worker, taken) = (Cell::new(0), Cell::new(None));
                bencher.iter_batched(
                    || {
                        taken
                            .take()
                            .into_iter()
                            .for_each(|job| farm.borrow_mut().finish(job));
                        farm.borrow_mut().submit();
                        worker.set((worker.get() + 1) % WORKERS);
                    },
                    |()| taken.set(farm.borrow_mut().ask(worker.get())),
                    BatchSize::PerIteration,
                );
                taken
                    .take()
                    .into_iter()
                    .for_each(|job| farm.borrow_mut().finish(job));
            });
        }
        group.finish();
    }
}

const RESTORED: u64 = 1_000_000;

/// The queued jobs as a store would give them back: by number, each with texts of its own.
fn requeued(pool: &PoolName) -> impl Iterator<Item = Event> {
    (1..=RESTORED).map(|job| {
        let at = job.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        Event::Requeued {
            pool: pool.clone(),
            client: format!("client-{}", at % CLIENTS).into(),
            job: JobId(job),
            hint: format!("repository-{}", at % HINTS).into(),
            urgent: at.is_multiple_of(100),
            fair_start: Timestamp::from_secs((job / CLIENTS * 600 + at % 600) as f64),
            avoid: Vec::new(),
        }
    })
}

fn restored(events: impl Iterator<Item = Event>, pool: &PoolName) -> Cluster {
    let mut cluster = Cluster::new(Config {
        pools: vec![PoolConfig {
            name: pool.clone(),
            policy: Policy::Balanced,
        }],
        ..Config::default()
    });
    for event in events {
        let effects = cluster.handle(Timestamp::from_secs(1.0), event);
        std::hint::black_box(effects.list.len());
    }
    cluster
}

/// The resident memory of this process in bytes; `None` where `/proc` does not tell.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[expect(
    clippy::print_stdout,
    reason = "a benchmark talks to the person who runs it"
)]
fn restore(criterion: &mut Criterion) {
    let pool = PoolName::from("pool");
    let before = resident();
    let cluster = restored(requeued(&pool), &pool);
    if let (Some(before), Some(after)) = (before, resident()) {
        let each = after.saturating_sub(before) / RESTORED;
        println!("restore/memory          {each} bytes per queued job");
    }
    drop(cluster);
    let mut group = criterion.benchmark_group("restore");
    group
        .throughput(Throughput::Elements(RESTORED))
        .sample_size(10);
    group.bench_function(BenchmarkId::from_parameter(RESTORED), |bencher| {
        bencher.iter_batched(
            || requeued(&pool).collect::<Vec<Event>>(),
            |events| restored(events.into_iter(), &pool),
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

// The memory is measured first, while the process has not yet had any to use again.
criterion_group!(benches, restore, decisions);
criterion_main!(benches);
