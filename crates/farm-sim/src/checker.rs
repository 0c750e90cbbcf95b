//! What must hold, whatever happens: sees what clients and workers see, and what the core decides.
//!
//! Knows nothing of how the scheduler keeps its promises. Remembers the first one that was broken.

use std::collections::BTreeMap;

use ocluster_scheduling::JobId;

use crate::chance::Ms;
use crate::disk::End;

/// A job takes no more attempts than this because of failures.
pub(crate) const MAX_FAILURES: u32 = 3;

/// What is known of a job from outside.
#[derive(Debug, Default)]
struct History {
    accepted: bool,
    /// The attempt a worker was given that no one has declared over.
    open: Option<u32>,
    last: u32,
    given: u32,
    evictions: u32,
    end: Option<End>,
}

/// The checker of one history.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    jobs: BTreeMap<JobId, History>,
    /// Under each key of a client, the job that was accepted.
    keys: BTreeMap<usize, JobId>,
    rush: Option<Rush>,
    rushes: u64,
    violation: Option<String>,
}

/// All clients submitted many like jobs at once; what each of them got since all were served once.
#[derive(Debug)]
struct Rush {
    /// By job: whose it is.
    jobs: BTreeMap<JobId, usize>,
    clients: Vec<Served>,
    is_measured: bool,
    /// Before, workers take what they had been waiting for, whoever came first.
    counts_from: Ms,
}

#[derive(Debug)]
struct Served {
    /// Seconds of its fair share which one job takes.
    step: f64,
    left: u32,
    served: u32,
}

impl Checker {
    /// Notes a broken promise, unless one was broken before.
    pub(crate) fn violated(&mut self, what: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(what());
        }
    }

    pub(crate) fn violation(&self) -> Option<&str> {
        self.violation.as_deref()
    }

    /// Jobs accepted.
    pub(crate) fn accepted_jobs(&self) -> u64 {
        self.keys.len() as u64
    }

    /// Rushes that were measured to their end.
    pub(crate) fn rushes(&self) -> u64 {
        self.rushes
    }

    /// A client was told that its job is accepted; or the scheduler found it on disk, and might tell it so at any time.
    pub(crate) fn accepted(&mut self, key: usize, job: JobId) {
        self.jobs.entry(job).or_default().accepted = true;
        let known = *self.keys.entry(key).or_insert(job);
        if known != job {
            self.violated(|| format!("request {key} was accepted as job {known} and as {job}"));
        }
    }

    /// A worker was sent this attempt.
    pub(crate) fn delivered(&mut self, job: JobId, attempt: u32, worker: usize) {
        let history = self.jobs.entry(job).or_default();
        let broken = if !history.accepted {
            Some("before it was accepted".to_owned())
        } else if let Some(end) = history.end {
            Some(format!("after it had ended as {end:?}"))
        } else if let Some(open) = history.open {
            Some(format!("while attempt {open} was not over"))
        } else if attempt <= history.last {
            Some(format!("after attempt {}", history.last))
        } else {
            None
        };
        history.open = Some(attempt);
        history.last = attempt;
        history.given += 1;
        let bound = MAX_FAILURES + history.evictions;
        let given = history.given;
        if let Some(why) = broken {
            self.violated(|| format!("worker {worker} got attempt {attempt} of job {job} {why}"));
        } else if given > bound {
            self.violated(|| format!("job {job} was given {given} times, {bound} are allowed"));
        }
    }

    /// A worker that came back was told to go on with this attempt.
    pub(crate) fn adopted(&mut self, job: JobId, attempt: u32) {
        let open = self.jobs.entry(job).or_default().open;
        if open != Some(attempt) {
            self.violated(|| format!("attempt {attempt} of job {job} was adopted, not {open:?}"));
        }
    }

    /// It is on disk that attempts up to this one are over.
    pub(crate) fn fenced(&mut self, job: JobId, attempt: u32) {
        let history = self.jobs.entry(job).or_default();
        history.open = history.open.filter(|open| *open > attempt);
    }

    /// An administrator took the job from its worker.
    pub(crate) fn evicted(&mut self, job: JobId) {
        self.jobs.entry(job).or_default().evictions += 1;
    }

    /// A client was told how its job ended.
    pub(crate) fn ended(&mut self, job: JobId, end: End) {
        let history = self.jobs.entry(job).or_default();
        let known = *history.end.get_or_insert(end);
        history.open = None;
        if known != end {
            self.violated(|| format!("job {job} ended as {known:?} and as {end:?}"));
        }
    }

    /// A client was told that its job is cancelled.
    pub(crate) fn cancelled(&mut self, job: JobId) {
        let end = self.jobs.entry(job).or_default().end;
        if end != Some(End::Cancelled) {
            self.violated(|| format!("the cancelled job {job} ended as {end:?}"));
        }
    }

    /// The jobs that have been accepted and not ended.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = JobId> {
        let open = self.jobs.iter().filter(|(_, h)| h.accepted);
        open.filter(|(_, h)| h.end.is_none()).map(|(job, _)| *job)
    }

    /// A rush begins: each client's jobs, and the share in seconds that one of them takes.
    pub(crate) fn rush(&mut self, counts_from: Ms, clients: Vec<(f64, Vec<JobId>)>) {
        let mut rush = Rush {
            jobs: BTreeMap::new(),
            clients: Vec::new(),
            is_measured: false,
            counts_from,
        };
        for (client, (step, jobs)) in clients.into_iter().enumerate() {
            rush.clients.push(Served {
                step,
                left: jobs.len() as u32,
                served: 0,
            });
            rush.jobs.extend(jobs.into_iter().map(|job| (job, client)));
        }
        self.rush = Some(rush);
    }

    /// The rush cannot be measured, because some of its jobs may have been lost before they were accepted.
    pub(crate) fn forget_rush(&mut self) {
        self.rush = None;
    }

    /// Whether a rush is on.
    pub(crate) fn is_rush(&self) -> bool {
        self.rush.is_some()
    }

    /// A worker took a job. While all clients of a rush wait for more, what they got must be even.
    pub(crate) fn taken(&mut self, now: Ms, job: JobId) {
        let Some(rush) = &mut self.rush else { return };
        let Some(client) = rush.jobs.remove(&job) else {
            return;
        };
        if let Some(client) = rush.clients.get_mut(client) {
            client.served += u32::from(now >= rush.counts_from);
            client.left = client.left.saturating_sub(1);
        }
        if !rush.is_measured {
            if rush.clients.iter().all(|client| client.served > 0) {
                rush.is_measured = true;
                rush.clients.iter_mut().for_each(|client| client.served = 0);
            }
        } else {
            let shares = rush.clients.iter();
            let shares = shares.map(|client| f64::from(client.served) * client.step);
            let (least, most) = shares.fold((f64::MAX, 0.0_f64), |(least, most), share| {
                (least.min(share), most.max(share))
            });
            let step = rush.clients.iter().map(|c| c.step).fold(0.0, f64::max);
            // One step each for the jobs they are at, and some for jobs that are about to be taken.
            if most - least > 4.0 * step {
                let clients = format!("{:?}", rush.clients);
                self.violated(|| {
                    format!("one got {least} s of its share, another {most} s: {clients}")
                });
                return;
            }
        }
        if rush.clients.iter().any(|client| client.left == 0) {
            self.rushes += u64::from(rush.is_measured);
            self.rush = None;
        }
    }
}
