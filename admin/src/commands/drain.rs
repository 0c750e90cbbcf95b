//! `drain`: pauses workers and waits for their jobs, though not for ever.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures::future::try_join_all;
use ocluster_cli::{ExitCode, Failure, OutputMode, output};
use ocluster_vat::Vat;
use serde::Serialize;

use super::pause::set_active;
use super::workers::candidates;
use super::{cluster, say};
use crate::args::{Afterwards, Drain};
use crate::cluster::{CallError, Cluster, Description, Evicted, Pool};
use crate::who::who;

/// How often a worker that is away, and may come back with its jobs, is looked for.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// How long the scheduler may take to say which jobs still run, once it is too late.
const LAST_LOOK: Duration = Duration::from_secs(10);

/// What became of the workers.
#[derive(Serialize)]
struct Drained<'a> {
    pool: &'a str,
    /// The workers which have finished their jobs.
    drained: &'a [&'a str],
    /// The workers whose jobs were taken from them at the deadline.
    evicted: Vec<Emptied<'a>>,
    /// The workers whose jobs go on.
    running: Vec<Stubborn<'a>>,
}

/// A worker whose jobs were taken from it.
#[derive(Serialize)]
struct Emptied<'a> {
    worker: &'a str,
    /// How many jobs were queued again.
    moved: u32,
    /// How many jobs were cancelled.
    cancelled: u32,
}

/// A worker that still runs jobs.
#[derive(Serialize)]
struct Stubborn<'a> {
    worker: &'a str,
    /// Their ids, where the scheduler tells them.
    jobs: Vec<String>,
}

pub(super) async fn drain(args: &Drain, vat: &Vat) -> Result<ExitCode, Failure> {
    let cluster = cluster(&args.cap, vat).await?;
    if args.then == Afterwards::Evict {
        // Rather now than after hours of waiting.
        check_that_jobs_can_be_moved(&cluster).await?;
    }
    let pool = cluster.pool(&args.pool);
    let workers = workers(&pool, args).await?;
    let draining = Draining {
        args,
        pool,
        mode: args.output.output,
        heard: Heard::default(),
    };
    draining.run(&workers).await
}

async fn check_that_jobs_can_be_moved(cluster: &Cluster) -> Result<(), Failure> {
    let features = cluster.features().await?;
    if features.iter().any(|feature| feature == "evict") {
        return Ok(());
    }
    Err(Failure::failed(
        "This scheduler cannot take jobs from workers; drain without \"--then evict\". Nothing was paused.",
    ))
}

/// The workers to drain, each once.
async fn workers(pool: &Pool, args: &Drain) -> Result<Vec<String>, Failure> {
    if !args.workers.is_empty() {
        let mut workers = args.workers.clone();
        workers.sort();
        workers.dedup();
        return Ok(workers);
    }
    let known = pool.workers().await?;
    if !args.all && !known.is_empty() {
        let sentence = "Specify which workers you want to drain (or use --all).";
        return Err(Failure::failed(candidates(sentence, &known)));
    }
    Ok(known.into_iter().map(|worker| worker.name).collect())
}

/// The scheduler's last word about each worker.
type Heard = Rc<RefCell<BTreeMap<String, String>>>;

struct Draining<'a> {
    args: &'a Drain,
    pool: Pool,
    mode: OutputMode,
    heard: Heard,
}

impl Draining<'_> {
    async fn run(&self, workers: &[String]) -> Result<ExitCode, Failure> {
        if workers.is_empty() {
            say(self.mode, "No workers in the pool (nothing to do).")?;
            return self.report(&[], Vec::new(), Vec::new());
        }
        set_active(&self.pool, workers, false, false, &self.args.reason).await?;
        say(self.mode, "Waiting for jobs to finish…")?;
        let ends = try_join_all(workers.iter().map(|worker| self.in_time(worker))).await?;
        let ends = || workers.iter().map(String::as_str).zip(&ends);
        let drained: Vec<&str> = ends()
            .filter_map(|(name, end)| end.then_some(name))
            .collect();
        let late: Vec<&str> = ends()
            .filter_map(|(name, end)| (!end).then_some(name))
            .collect();
        if late.is_empty() {
            say(self.mode, "Success.")?;
            return self.report(&drained, Vec::new(), Vec::new());
        }
        match self.args.then {
            Afterwards::Evict => {
                let evicted = try_join_all(late.iter().map(|worker| self.evict(worker))).await?;
                self.report(&drained, evicted, Vec::new())
            }
            Afterwards::Leave => {
                let running = self.running(&late).await;
                self.report(&drained, Vec::new(), running)
            }
        }
    }

    /// Whether the worker has finished its jobs by the deadline.
    async fn in_time(&self, worker: &str) -> Result<bool, CallError> {
        let emptied = self.until_empty(worker);
        match self.args.deadline {
            None => emptied.await.map(|()| true),
            Some(deadline) => match tokio::time::timeout(deadline, emptied).await {
                Ok(result) => result.map(|()| true),
                Err(_) => Ok(false),
            },
        }
    }

    /// Waits until the worker runs nothing any more, nor is away with jobs that it may bring back.
    async fn until_empty(&self, worker: &str) -> Result<(), CallError> {
        loop {
            let (name, mode, heard) = (worker.to_owned(), self.mode, self.heard.clone());
            self.pool
                .drain(worker, move |status| hear(&heard, mode, &name, status))
                .await?;
            let jobs = match self.described(&[worker]).await?.pop() {
                Some(description) => description.jobs,
                None => Vec::new(),
            };
            if jobs.is_empty() {
                return Ok(());
            }
            let status = format!("Not done with jobs: {}", jobs.join(", "));
            hear(&self.heard, self.mode, worker, &status);
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }

    /// What the scheduler knows of some workers; nothing if it knows only the frozen protocol.
    async fn described(&self, workers: &[&str]) -> Result<Vec<Description>, CallError> {
        let mut described = self.pool.describe().await?.unwrap_or_default();
        described.retain(|description| workers.contains(&description.name.as_str()));
        Ok(described)
    }

    async fn evict<'a>(&self, worker: &'a str) -> Result<Emptied<'a>, CallError> {
        let reason = match self.args.reason.text.as_deref() {
            None | Some("") => format!("{} drained worker {worker}", who()),
            Some(reason) => format!("{} drained worker {worker}: {reason}", who()),
        };
        let Evicted { moved, cancelled } = self.pool.evict(worker, &reason).await?;
        Ok(Emptied {
            worker,
            moved,
            cancelled,
        })
    }

    /// What the late workers still run, as far as the scheduler tells.
    async fn running<'a>(&self, late: &[&'a str]) -> Vec<Stubborn<'a>> {
        // Whatever keeps the answer back, the workers are late.
        let described = tokio::time::timeout(LAST_LOOK, self.described(late)).await;
        let described = described.ok().and_then(Result::ok).unwrap_or_default();
        let jobs_of = |worker: &str| {
            let mut known = described.iter().filter(|known| known.name == worker);
            known.next().map(|known| known.jobs.clone())
        };
        late.iter()
            .map(|worker| Stubborn {
                worker,
                jobs: jobs_of(worker).unwrap_or_default(),
            })
            .collect()
    }

    fn report(
        &self,
        drained: &[&str],
        evicted: Vec<Emptied<'_>>,
        running: Vec<Stubborn<'_>>,
    ) -> Result<ExitCode, Failure> {
        for Emptied {
            worker,
            moved,
            cancelled,
        } in &evicted
        {
            say(
                self.mode,
                &format!(
                    "{worker}: {} moved, {cancelled} cancelled",
                    count(*moved, "job")
                ),
            )?;
        }
        let late = !running.is_empty();
        let words: Vec<String> = running.iter().map(|late| self.words(late)).collect();
        if self.mode == OutputMode::Json {
            output::json(Drained {
                pool: &self.args.pool,
                drained,
                evicted,
                running,
            })?;
        }
        if late {
            return Err(Failure::failed(words.join("\n")));
        }
        Ok(ExitCode::Success)
    }

    /// What there is to say of a worker that is late.
    fn words(&self, late: &Stubborn<'_>) -> String {
        let worker = late.worker;
        if !late.jobs.is_empty() {
            return format!("{worker} still runs {}", late.jobs.join(", "));
        }
        match self.heard.borrow().get(worker) {
            Some(status) => format!("{worker} is not done: {status}"),
            None => format!("{worker} is not done"),
        }
    }
}

/// Passes on a worker's status, unless that is what was said last.
fn hear(heard: &Heard, mode: OutputMode, worker: &str, status: &str) {
    let before = heard
        .borrow_mut()
        .insert(worker.to_owned(), status.to_owned());
    if before.as_deref() != Some(status) {
        // If nobody reads it any more, the command's last line will find out.
        drop(say(mode, &format!("{worker}: {status}")));
    }
}

/// "1 job", "2 jobs".
fn count(number: u32, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{ending}")
}
