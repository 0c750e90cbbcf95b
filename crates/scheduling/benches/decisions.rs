//! What one decision costs while 10^3 to 10^6 jobs are queued: submit, pop and cancel, under both policies, with 1000
//! workers connected.
//!
//! Each step is timed alone, between others that bring the queue back to its length.
#![allow(missing_docs, clippy::expect_used)]

use std::cell::{Cell, RefCell};

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
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

criterion_group!(benches, decisions);
criterion_main!(benches);
