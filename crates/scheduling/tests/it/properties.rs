//! Random histories: `upstream` decides as the naive model does, and both policies keep their promises at every step.

use std::collections::{BTreeMap, BTreeSet};

use ocluster_scheduling::view::MainView;
use ocluster_scheduling::*;
use proptest::prelude::*;

use super::model::{Decision, Model};

/// One thing that happens. Numbers choose among what exists at that moment.
#[derive(Debug, Clone)]
enum Op {
    Submit {
        client: u8,
        hint: u8,
        urgent: bool,
    },
    Cancel(usize),
    Register {
        name: u8,
        capacity: u32,
    },
    Ask(usize),
    /// One woken request runs.
    Step,
    /// All of them do.
    Pump,
    Withdraw(usize),
    Finish(usize),
    Pause(usize),
    Resume(usize),
    ShutDown(usize),
    ClearShutDown(usize),
    Admin {
        name: u8,
        active: bool,
        create: bool,
    },
    Leave(usize),
    Forget(u8),
    Rate {
        client: u8,
        rate: u8,
    },
    RemoveClient(u8),
    Wait(u8),
    /// A running job comes to nothing, and is queued again.
    Retry {
        job: usize,
        avoid: u8,
    },
    /// Any job ever submitted is queued again.
    Requeue {
        job: usize,
        avoid: u8,
    },
    /// A worker says that it runs a job, which may be any ever submitted.
    Adopt {
        worker: usize,
        job: usize,
    },
    /// The scheduler dies and comes back.
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let one = 0..1000usize;
    prop_oneof![
        12 => (0..3u8, 0..4u8, prop::bool::weighted(0.2))
            .prop_map(|(client, hint, urgent)| Op::Submit { client, hint, urgent }),
        3 => one.clone().prop_map(Op::Cancel),
        3 => (0..4u8, 0..4u32).prop_map(|(name, capacity)| Op::Register { name, capacity }),
        12 => one.clone().prop_map(Op::Ask),
        5 => Just(Op::Step),
        5 => Just(Op::Pump),
        2 => one.clone().prop_map(Op::Withdraw),
        8 => one.clone().prop_map(Op::Finish),
        1 => one.clone().prop_map(Op::Pause),
        6 => one.clone().prop_map(Op::Resume),
        1 => one.clone().prop_map(Op::ShutDown),
        2 => one.clone().prop_map(Op::ClearShutDown),
        2 => (0..4u8, prop::bool::weighted(0.7), any::<bool>())
            .prop_map(|(name, active, create)| Op::Admin { name, active, create }),
        1 => one.clone().prop_map(Op::Leave),
        1 => (0..4u8).prop_map(Op::Forget),
        1 => (0..3u8, 1..6u8).prop_map(|(client, rate)| Op::Rate { client, rate }),
        1 => (0..3u8).prop_map(Op::RemoveClient),
        3 => (0..20u8).prop_map(Op::Wait),
        4 => (one.clone(), 0..16u8).prop_map(|(job, avoid)| Op::Retry { job, avoid }),
        1 => (one.clone(), 0..16u8).prop_map(|(job, avoid)| Op::Requeue { job, avoid }),
        2 => (one.clone(), one).prop_map(|(worker, job)| Op::Adopt { worker, job }),
        1 => Just(Op::Restart),
    ]
}

/// What a job's record would hold.
#[derive(Debug, Clone)]
struct Accepted {
    client: ClientId,
    hint: Hint,
    urgent: bool,
    fair_start: Option<Timestamp>,
}

/// The scheduler program, as far as the core can tell; and its bookkeeping of what must hold.
struct World {
    cluster: Cluster,
    pool: PoolName,
    config: Config,
    policy: Policy,
    now: f64,
    next: u64,
    /// Every job ever submitted.
    accepted: BTreeMap<JobId, Accepted>,
    /// What jobs avoid since they were queued last.
    avoid: BTreeMap<JobId, Vec<WorkerName>>,
    queued: BTreeSet<JobId>,
    requeued: u64,
    records: Vec<Record>,
    running: Vec<JobId>,
    ended: BTreeSet<JobId>,
    workers: Vec<WorkerId>,
    waiting: BTreeMap<PopId, WorkerId>,
    woken: Vec<(PopId, WorkerId)>,
    decisions: Vec<Decision>,
}

impl World {
    fn new(policy: Policy, max_running: RunningQuota) -> Self {
        let pool = PoolName::from("pool");
        let pools = vec![PoolConfig {
            name: pool.clone(),
            policy,
        }];
        let config = Config {
            pools,
            costs: COSTS,
            max_running,
            ..Config::default()
        };
        Self {
            cluster: Cluster::new(config.clone()),
            config,
            pool,
            policy,
            now: 1.0,
            next: 0,
            accepted: BTreeMap::new(),
            avoid: BTreeMap::new(),
            queued: BTreeSet::new(),
            requeued: 0,
            records: Vec::new(),
            running: Vec::new(),
            ended: BTreeSet::new(),
            workers: Vec::new(),
            waiting: BTreeMap::new(),
            woken: Vec::new(),
            decisions: Vec::new(),
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Any job ever submitted.
    fn any_job(&self, at: usize) -> Option<JobId> {
        let all: Vec<JobId> = self.accepted.keys().copied().collect();
        all.get(at % all.len().max(1)).copied()
    }

    /// The bits of `avoid` stand for workers.
    fn requeue(&self, job: JobId, avoid: u8) -> Event {
        let accepted = self.accepted[&job].clone();
        let avoided = (0..4).filter(|name| avoid & (1 << name) != 0);
        Event::Requeued {
            pool: self.pool.clone(),
            client: accepted.client,
            job,
            hint: accepted.hint,
            urgent: accepted.urgent,
            fair_start: accepted.fair_start.expect("was announced"),
            avoid: avoided.map(|name| format!("w{name}").into()).collect(),
        }
    }

    /// Whether the job avoids this worker while others are there.
    fn is_kept_from(&self, job: JobId, worker: WorkerId, view: &view::PoolView) -> bool {
        let Some(avoid) = self.avoid.get(&job) else {
            return false;
        };
        let mut active = view.workers.iter().filter(|w| w.inactive.is_empty());
        let avoided = |w: &view::WorkerView| avoid.contains(&w.name);
        view.workers.iter().any(|w| w.id == worker && avoided(w)) && active.any(|w| !avoided(w))
    }

    /// The scheduler dies and comes back with what it had remembered; the jobs that ran are queued again too. Order and
    /// debts are the same as before.
    fn restart(&mut self) {
        let before = self.cluster.view(&self.pool).unwrap();
        self.cluster = Cluster::new(self.config.clone());
        for record in self.records.clone() {
            self.cluster.restore(record);
        }
        self.workers.clear();
        self.waiting.clear();
        self.woken.clear();
        self.requeued = 0;
        let queued = std::mem::take(&mut self.queued);
        let running = std::mem::take(&mut self.running);
        let avoid = std::mem::take(&mut self.avoid);
        for job in queued.iter().chain(&running).rev() {
            let Event::Requeued {
                pool,
                client,
                job,
                hint,
                urgent,
                fair_start,
                ..
            } = self.requeue(*job, 0)
            else {
                unreachable!()
            };
            let avoid = avoid.get(&job).cloned().unwrap_or_default();
            assert!(self.feed(Event::Requeued {
                pool,
                client,
                job,
                hint,
                urgent,
                fair_start,
                avoid
            }));
        }
        let after = self.cluster.view(&self.pool).unwrap();
        let debt = |client: &view::ClientView| {
            let debt = client.next_fair_start.since(Timestamp::from_secs(self.now));
            debt.max(0.0)
        };
        for client in &after.clients {
            let known = before.clients.iter().find(|known| known.id == client.id);
            // One that was removed while a job of it ran has nothing to be compared with.
            if let Some(known) = known {
                assert_eq!(debt(known), debt(client), "owes what it owed");
                assert_eq!(known.rate, client.rate);
            }
        }
    }

    /// The events an operation stands for now.
    fn events(&mut self, op: &Op) -> Vec<Event> {
        let pool = self.pool.clone();
        let pick = |list: &[WorkerId], at: usize| list.get(at % list.len().max(1)).copied();
        let of_worker = |at: &usize, event: fn(WorkerId) -> Event| {
            pick(&self.workers, *at).map(event).into_iter().collect()
        };
        match op {
            Op::Submit {
                client,
                hint,
                urgent,
            } => {
                let job = JobId(self.number());
                let hint = if *hint == 0 {
                    Hint::default()
                } else {
                    format!("h{hint}").into()
                };
                let client = format!("c{client}").into();
                vec![Event::Submitted {
                    pool,
                    client,
                    job,
                    hint,
                    urgent: *urgent,
                }]
            }
            Op::Cancel(at) => {
                // Any job ever submitted, so that late and double cancels are among them.
                self.any_job(*at)
                    .map(|job| Event::Cancelled { job })
                    .into_iter()
                    .collect()
            }
            Op::Register { name, capacity } => {
                let worker = WorkerId(self.number());
                let name = format!("w{name}").into();
                vec![Event::Registered {
                    pool,
                    worker,
                    name,
                    capacity: *capacity,
                }]
            }
            Op::Ask(at) => {
                let worker = pick(&self.workers, *at);
                let pop = PopId(self.number());
                worker
                    .map(|worker| Event::Asked { worker, pop })
                    .into_iter()
                    .collect()
            }
            Op::Step => {
                let first = self.woken.first();
                first
                    .map(|(pop, _)| Event::PopResumed { pop: *pop })
                    .into_iter()
                    .collect()
            }
            Op::Pump => self
                .woken
                .iter()
                .map(|(pop, _)| Event::PopResumed { pop: *pop })
                .collect(),
            Op::Withdraw(at) => {
                let woken = self.woken.iter().map(|(pop, _)| pop);
                let all: Vec<PopId> = self.waiting.keys().chain(woken).copied().collect();
                let pop = all.get(at % all.len().max(1)).copied();
                pop.map(|pop| Event::PopWithdrawn { pop })
                    .into_iter()
                    .collect()
            }
            Op::Finish(at) => {
                let job = self.running.get(at % self.running.len().max(1)).copied();
                job.map(|job| Event::Finished { job }).into_iter().collect()
            }
            Op::Pause(at) => of_worker(at, |worker| Event::WorkerPaused { worker, note: None }),
            Op::Resume(at) => of_worker(at, |worker| Event::WorkerResumed { worker }),
            Op::ShutDown(at) => of_worker(at, |worker| Event::ShuttingDown { worker }),
            Op::ClearShutDown(at) => of_worker(at, |worker| Event::ShutdownCleared { worker }),
            Op::Leave(at) => of_worker(at, |worker| Event::Left { worker }),
            Op::Admin {
                name,
                active,
                create,
            } => {
                let name = format!("w{name}").into();
                vec![Event::AdminActive {
                    pool,
                    name,
                    active: *active,
                    auto_create: *create,
                    pause: None,
                }]
            }
            Op::Forget(name) => vec![Event::Forgotten {
                pool,
                name: format!("w{name}").into(),
            }],
            Op::Rate { client, rate } => {
                let (client, rate) = (format!("c{client}").into(), Rate::new((*rate).into()));
                vec![Event::RateSet {
                    pool,
                    client,
                    rate: rate.unwrap(),
                }]
            }
            Op::RemoveClient(client) => {
                vec![Event::ClientRemoved {
                    client: format!("c{client}").into(),
                }]
            }
            Op::Wait(seconds) => {
                self.now += f64::from(*seconds);
                Vec::new()
            }
            Op::Retry { job, avoid } => {
                let job = self.running.get(job % self.running.len().max(1)).copied();
                let job = job.filter(|job| self.accepted.contains_key(job));
                let events = |job| vec![Event::Finished { job }, self.requeue(job, *avoid)];
                job.map_or_else(Vec::new, events)
            }
            Op::Requeue { job, avoid } => {
                let job = self.any_job(*job);
                let event = job.map(|job| self.requeue(job, *avoid));
                event.into_iter().collect()
            }
            Op::Adopt { worker, job } => {
                let worker = pick(&self.workers, *worker);
                let event = self.any_job(*job).zip(worker).map(|(job, worker)| {
                    let Accepted { client, hint, .. } = self.accepted[&job].clone();
                    Event::Adopted {
                        worker,
                        job,
                        client,
                        hint,
                    }
                });
                event.into_iter().collect()
            }
            Op::Restart => Vec::new(),
        }
    }

    /// Feeds the event, performs the effects and checks that they make sense. Tells whether the event was accepted.
    fn feed(&mut self, event: Event) -> bool {
        let effects = self
            .cluster
            .handle(Timestamp::from_secs(self.now), event.clone());
        let accepted = effects.outcome.is_ok();
        assert!(
            accepted || effects.list.is_empty(),
            "a refusal changes nothing"
        );
        if let Event::Cancelled { job } = event {
            assert_eq!(
                accepted,
                self.queued.contains(&job),
                "cancelled exactly while queued"
            );
        }
        match event {
            Event::Submitted {
                job,
                client,
                hint,
                urgent,
                ..
            } if accepted => {
                self.queued.insert(job);
                let fair_start = None;
                self.accepted.insert(
                    job,
                    Accepted {
                        client,
                        hint,
                        urgent,
                        fair_start,
                    },
                );
            }
            Event::Requeued { job, avoid, .. } => {
                let is_new = !self.queued.contains(&job) && !self.running.contains(&job);
                assert_eq!(accepted, is_new, "accepted unless it is there");
                if accepted {
                    self.requeued += 1;
                    self.ended.remove(&job);
                    self.queued.insert(job);
                    self.avoid.insert(job, avoid);
                }
            }
            Event::Adopted { job, .. } => {
                let is_new = !self.queued.contains(&job) && !self.running.contains(&job);
                assert_eq!(accepted, is_new, "accepted unless it is there");
                if accepted {
                    self.ended.remove(&job);
                    self.running.push(job);
                    let told = |effect: &Effect| matches!(effect, Effect::RunningChanged { .. });
                    assert!(effects.list.iter().any(told), "counts as running");
                }
            }
            Event::Registered { worker, .. } if accepted => self.workers.push(worker),
            Event::Asked { worker, pop } if accepted => {
                self.waiting.insert(pop, worker);
            }
            Event::PopResumed { pop } if accepted => {
                let at = self.woken.iter().position(|woken| woken.0 == pop).unwrap();
                let (pop, worker) = self.woken.remove(at);
                self.waiting.insert(pop, worker);
            }
            Event::PopWithdrawn { pop } => {
                self.waiting.remove(&pop);
                self.woken.retain(|woken| woken.0 != pop);
            }
            Event::Finished { job } if accepted => {
                self.running.retain(|running| *running != job);
                self.ended.insert(job);
            }
            Event::Left { worker } => self.workers.retain(|known| *known != worker),
            _ => {}
        }
        self.decisions.clear();
        for effect in effects.list {
            match effect {
                Effect::Wake { pop } => {
                    let worker = self.waiting.remove(&pop).expect("only who waits is woken");
                    self.woken.push((pop, worker));
                    self.decisions.push(Decision::Wake(pop));
                }
                Effect::Give { pop, job, worker } => {
                    assert_eq!(self.waiting.remove(&pop), Some(worker), "answered once");
                    assert!(self.queued.remove(&job), "given once");
                    let view = self.cluster.view(&self.pool).unwrap();
                    assert!(!self.is_kept_from(job, worker, &view), "others were there");
                    self.avoid.remove(&job);
                    self.running.push(job);
                    self.decisions.push(Decision::Give(pop, job));
                }
                Effect::EndPop { pop } => {
                    let waited = self.waiting.remove(&pop).is_some();
                    let woken = self.woken.len();
                    self.woken.retain(|known| known.0 != pop);
                    assert!(waited || self.woken.len() < woken);
                    self.decisions.push(Decision::End(pop));
                }
                Effect::JobCancelled { job } => {
                    assert!(self.queued.remove(&job), "cancelled once");
                    self.avoid.remove(&job);
                    self.ended.insert(job);
                    self.decisions.push(Decision::Cancelled(job));
                }
                Effect::RunningChanged {
                    worker, running, ..
                } => {
                    assert_eq!(running, self.cluster.running(worker));
                }
                Effect::Queued { job, fair_start } => {
                    let accepted = self.accepted.get_mut(&job).expect("was submitted");
                    assert_eq!(accepted.fair_start.replace(fair_start), None, "said once");
                }
                Effect::Persist(record) => self.records.push(record),
                Effect::Log(_) => {}
            }
        }
        accepted
    }

    /// What holds after every event.
    fn check(&mut self) {
        let view = self.cluster.view(&self.pool).unwrap();
        let stats = self.cluster.pool_stats(&self.pool).unwrap();

        let (backlog, ready) = match &view.main {
            MainView::Backlog(jobs) => (jobs.as_slice(), [].as_slice()),
            MainView::Ready(workers) => ([].as_slice(), workers.as_slice()),
        };
        let local = view.workers.iter().flat_map(|worker| &worker.queue);
        let mut seen = BTreeSet::new();
        for job in backlog.iter().chain(local).chain(&view.held) {
            assert!(seen.insert(job.job), "a job is on one queue at most");
            assert!(self.queued.contains(&job.job), "it is queued");
            let known = &self.accepted[&job.job];
            assert_eq!(
                (known.urgent, known.fair_start),
                (job.urgent, Some(job.fair_start)),
                "a job keeps its position for good"
            );
        }
        for worker in &view.workers {
            for job in &worker.queue {
                assert!(!self.is_kept_from(job.job, worker.id, &view), "{job:?}");
            }
        }
        assert_eq!(seen.len(), self.queued.len(), "no queued job is lost");

        self.check_quotas(&view);
        let is_active = |id: WorkerId| {
            view.workers
                .iter()
                .any(|w| w.id == id && w.inactive.is_empty())
        };
        let idle: BTreeSet<WorkerId> = self
            .waiting
            .values()
            .copied()
            .filter(|worker| is_active(*worker))
            .collect();
        for job in backlog {
            let mut takers = idle.iter();
            assert!(
                takers.all(|worker| self.is_kept_from(job.job, *worker, &view)),
                "no active worker idles while a job waits that it may have"
            );
        }
        let waiting = self
            .waiting
            .values()
            .filter(|worker| is_active(**worker))
            .count();
        assert_eq!(stats.ready, waiting as u64);
        assert!(ready.len() == waiting || !backlog.is_empty());

        for worker in &view.workers {
            let costs = worker
                .queue
                .iter()
                .map(|job| u64::from(job.cost.expect("has a cost")));
            assert_eq!(worker.workload, costs.sum::<u64>());
            assert!(worker.inactive.is_empty() || worker.queue.is_empty());
            let about_to_run = self.woken.iter().any(|woken| woken.1 == worker.id);
            if self.policy == Policy::Balanced && !about_to_run && !worker.queue.is_empty() {
                assert!(
                    idle.is_empty(),
                    "{idle:?} could start what waits on {}",
                    worker.name
                );
            }
        }

        let sorted =
            |jobs: &[view::QueuedJob]| jobs.is_sorted_by_key(|j| (!j.urgent, j.fair_start, j.job));
        assert!(sorted(backlog) && view.workers.iter().all(|worker| sorted(&worker.queue)));

        let urgent = |jobs: &[view::QueuedJob]| jobs.iter().filter(|job| job.urgent).count() as u64;
        assert_eq!(stats.incoming.high, urgent(backlog));
        assert_eq!(stats.incoming.total(), backlog.len() as u64);
        for (worker, (_, lengths)) in view.workers.iter().zip(&stats.local) {
            assert_eq!(lengths.high, urgent(&worker.queue));
            assert_eq!(lengths.total(), worker.queue.len() as u64);
        }
        let of_clients: u64 = stats
            .clients
            .iter()
            .map(|(_, lengths)| lengths.total())
            .sum();
        assert_eq!(of_clients, self.queued.len() as u64);
        assert_eq!(stats.running, self.running.len() as u64);
        assert_eq!(
            stats.accepted + stats.cancelled + of_clients,
            stats.submitted + self.requeued
        );
        let inactive = view
            .workers
            .iter()
            .filter(|worker| !worker.inactive.is_empty());
        assert_eq!(stats.paused, inactive.count() as u64);
        assert_eq!(
            stats.capacity,
            view.workers
                .iter()
                .map(|w| u64::from(w.capacity))
                .sum::<u64>()
        );
    }

    /// A client has no more jobs admitted than it may, and no fewer while any is held; and those held come last.
    fn check_quotas(&self, view: &view::PoolView) {
        let key = |job: &view::QueuedJob| (!job.urgent, job.fair_start, job.job);
        let backlog: &[view::QueuedJob] = match &view.main {
            MainView::Backlog(jobs) => jobs,
            MainView::Ready(_) => &[],
        };
        let local = view.workers.iter().flat_map(|worker| &worker.queue);
        let queued: Vec<&view::QueuedJob> = backlog.iter().chain(local).collect();
        assert!(view.held.is_sorted_by_key(key));
        for name in 0..3 {
            let client = ClientId::from(format!("c{name}"));
            let quota = &self.config.max_running;
            let bound = quota.of_client.get(&client).copied().or(quota.general);
            let held = view.held.iter().filter(|job| job.client == client);
            let held: Vec<_> = held.map(key).collect();
            let Some(bound) = bound else {
                assert!(held.is_empty(), "nothing is held without a bound");
                continue;
            };
            let own = queued.iter().filter(|job| job.client == client);
            let own: Vec<_> = own.map(|job| key(job)).collect();
            let running = self.running.iter();
            let running = running.filter(|job| self.accepted[job].client == client);
            let (running, bound) = (running.count(), bound as usize);
            assert!(own.is_empty() || running + own.len() <= bound, "too many");
            assert!(held.is_empty() || running + own.len() >= bound, "too few");
            assert!(own.iter().max() < held.first() || held.is_empty());
        }
    }

    /// Everything ends; every gauge must return to zero.
    fn empty(&mut self) {
        for worker in self.workers.clone() {
            assert!(self.feed(Event::Left { worker }));
            self.check();
        }
        for job in self.queued.clone() {
            assert!(self.feed(Event::Cancelled { job }));
            assert!(!self.feed(Event::Cancelled { job }));
        }
        for job in self.running.clone() {
            assert!(self.feed(Event::Finished { job }));
        }
        assert!(
            self.waiting.is_empty() && self.woken.is_empty(),
            "every request was answered"
        );
        let stats = self.cluster.pool_stats(&self.pool).unwrap();
        let totals = (stats.submitted, stats.accepted, stats.cancelled);
        let (submitted, accepted, cancelled) = totals;
        let clients: Vec<_> = stats
            .clients
            .iter()
            .map(|c| (c.0.clone(), view::Lengths::default()))
            .collect();
        let zero = view::PoolStats {
            submitted,
            accepted,
            cancelled,
            clients,
            ..Default::default()
        };
        assert_eq!(stats, zero);
    }
}

const COSTS: Costs = Costs {
    cached: 2,
    non_cached: 10,
};

fn histories() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(op(), 0..150)
}

/// Mostly none.
fn quotas() -> impl Strategy<Value = RunningQuota> {
    let bound = || prop::option::weighted(0.3, 0..4u32);
    (bound(), bound()).prop_map(|(general, of_one)| RunningQuota {
        general,
        of_client: of_one
            .map(|bound| ("c1".into(), bound))
            .into_iter()
            .collect(),
    })
}

fn keeps_its_promises(policy: Policy, max_running: RunningQuota, history: &[Op]) {
    let mut world = World::new(policy, max_running);
    for op in history {
        if matches!(op, Op::Restart) {
            world.restart();
            world.check();
        }
        for event in world.events(op) {
            world.feed(event);
            world.check();
        }
    }
    world.empty();
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn upstream_decides_as_the_model_does(quotas in quotas(), history in histories()) {
        let mut world = World::new(Policy::Upstream, quotas.clone());
        let mut model = Model::new(COSTS, quotas);
        for op in &history {
            for event in world.events(op) {
                let (expected, accepted) = model.handle(Timestamp::from_secs(world.now), event.clone());
                prop_assert_eq!(world.feed(event.clone()), accepted, "{:?}", event);
                prop_assert_eq!(&world.decisions, &expected, "{:?}", event);
                let view = world.cluster.view(&world.pool).unwrap();
                prop_assert_eq!(view, model.view(&world.pool), "{:?}", event);
            }
        }
    }

    #[test]
    fn upstream_keeps_its_promises(quotas in quotas(), history in histories()) {
        keeps_its_promises(Policy::Upstream, quotas, &history);
    }

    #[test]
    fn balanced_keeps_its_promises(quotas in quotas(), history in histories()) {
        keeps_its_promises(Policy::Balanced, quotas, &history);
    }
}
