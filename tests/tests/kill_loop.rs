//! Schedulers and workers that are killed at random moments, again and again, while several clients submit durable jobs: whatever was
//! accepted ends once, as it should, and no byte of any log is lost or there twice.
//!
//! A few kills for each run of the tests; `OCLUSTER_TESTS_KILLS` and `OCLUSTER_TESTS_WORKER_KILLS` set other numbers.

#[path = "customer/mod.rs"]
mod customer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use ocluster_api::TestStep;
use ocluster_client::{JobInfo, JobState};
use ocluster_tests::{Cluster, SOON, Story, Worker, WorkerOptions};
use sha2::{Digest as _, Sha256};

use customer::{Customer, common, counting, output, parts};

/// How often the scheduler is killed unless somebody says otherwise.
const KILLS: u32 = 6;
/// How often a worker is killed unless somebody says otherwise.
const WORKER_KILLS: u32 = 4;
/// The longest that a scheduler serves before it is killed, and that workers are left in peace.
const LIFE: Duration = Duration::from_millis(1500);
/// How many jobs a client has at once.
const AT_ONCE: usize = 10;

#[test]
fn a_scheduler_killed_at_any_moment_loses_nothing_and_repeats_nothing() -> Result<()> {
    Story::tell(&[], |story| {
        let kills = number("OCLUSTER_TESTS_KILLS", KILLS)?;
        let seed: u64 = rand::random();
        let mut cluster = Cluster::start(story)?;
        let _workers = [
            cluster.add_worker_with(WorkerOptions::named("w1").capacity(6).test_jobs())?,
            cluster.add_worker_with(WorkerOptions::named("w2").capacity(6).test_jobs())?,
        ];
        let caps = caps(&cluster)?;
        let done = under_load(&caps, seed, check_single_attempt, |random, done| {
            for kill in 0..kills {
                // Any moment is as good as any other: this waits for nothing.
                thread::sleep(LIFE.mul_f64(random.fraction()));
                cluster.kill_scheduler()?;
                cluster
                    .restart_scheduler()
                    .with_context(|| format!("after kill {kill}, seed {seed}"))?;
            }
            // Not all of that was idle time.
            some_progress(done)
        })?;
        // After the storm there is nothing but what was submitted.
        for (cap, jobs) in caps.iter().zip(&done) {
            let known = Customer::with(cap)?.all()?;
            same_jobs(&known, jobs).with_context(|| format!("seed {seed}"))?;
        }
        report("scheduler", kills, &done);
        Ok(())
    })
}

#[test]
fn workers_killed_at_any_moment_leave_prefixes_and_every_job_ends() -> Result<()> {
    Story::tell(&[], |story| {
        let kills = number("OCLUSTER_TESTS_WORKER_KILLS", WORKER_KILLS)?;
        let seed: u64 = rand::random();
        let mut cluster = Cluster::start(story)?;
        let mut workers: Vec<Worker<'_>> = ["w1", "w2", "w3"]
            .into_iter()
            .map(|name| cluster.add_worker_with(WorkerOptions::named(name).capacity(4).test_jobs()))
            .collect::<Result<_>>()?;
        let caps = caps(&cluster)?;
        let done = under_load(&caps, seed, check_prefixes, |random, done| {
            for kill in 0..kills {
                thread::sleep(LIFE.mul_f64(random.fraction()));
                let victim = random.below(3) as usize;
                let worker = workers.get_mut(victim).context("no such worker")?;
                let before = cluster.registrations(worker.name())?;
                worker.process().kill()?;
                worker.restart()?;
                cluster
                    .wait_until_registered(worker.name(), before)
                    .with_context(|| format!("after kill {kill}, seed {seed}"))?;
            }
            some_progress(done)
        })?;
        for (cap, jobs) in caps.iter().zip(&done) {
            let known = Customer::with(cap)?.all()?;
            same_jobs(&known, jobs).with_context(|| format!("seed {seed}"))?;
        }
        report("worker", kills, &done);
        Ok(())
    })
}

/// The caps of the clients.
fn caps(cluster: &Cluster<'_>) -> Result<Vec<PathBuf>> {
    ["alice", "bob", "carol"]
        .into_iter()
        .map(|name| Ok(cluster.add_client(name)?.cap().to_owned()))
        .collect()
}

/// Runs `storm` while clients submit jobs and check them, and gives all jobs when they have ended.
fn under_load(
    caps: &[PathBuf],
    seed: u64,
    check: fn(&Order, &JobInfo, &[u8]) -> Result<()>,
    storm: impl FnOnce(&mut Random, &AtomicU32) -> Result<()>,
) -> Result<Vec<Vec<JobInfo>>> {
    let (over, done) = (AtomicBool::new(false), AtomicU32::new(0));
    let result = thread::scope(|scope| {
        let (over, done) = (&over, &done);
        let customers: Vec<_> = (1..)
            .zip(caps)
            .map(|(number, cap)| {
                let random = Random(seed.wrapping_add(number));
                scope.spawn(move || {
                    let jobs = shop(cap, &format!("c{number}"), random, over, done, check);
                    // If one finds something wrong, the others need not go on.
                    over.fetch_or(jobs.is_err(), Ordering::Relaxed);
                    jobs
                })
            })
            .collect();
        let storm = storm(&mut Random(seed), done);
        over.store(true, Ordering::Relaxed);
        let jobs: Vec<Result<Vec<JobInfo>>> = customers
            .into_iter()
            .map(|customer| {
                customer
                    .join()
                    .unwrap_or_else(|_| bail!("a client panicked"))
            })
            .collect();
        storm?;
        jobs.into_iter().collect::<Result<Vec<_>>>()
    });
    result.with_context(|| format!("seed {seed}"))
}

/// Waits until something has been done at all.
fn some_progress(done: &AtomicU32) -> Result<()> {
    ocluster_tests::wait_for("jobs to end", SOON, || {
        Ok((done.load(Ordering::Relaxed) > 0).then_some(()))
    })
}

/// A job that somebody wants, and what is to become of it.
struct Order {
    id: String,
    key: String,
    steps: Vec<TestStep>,
    end: JobState,
}

/// Submits jobs until it is `over`, and checks each when it has ended.
fn shop(
    cap: &Path,
    name: &str,
    mut random: Random,
    over: &AtomicBool,
    done: &AtomicU32,
    check: fn(&Order, &JobInfo, &[u8]) -> Result<()>,
) -> Result<Vec<JobInfo>> {
    let customer = Customer::with(cap)?;
    let mut open: Vec<Order> = Vec::new();
    let mut ended = Vec::new();
    let mut number = 0;
    loop {
        let closing = over.load(Ordering::Relaxed);
        if !closing && open.len() < AT_ONCE {
            number += 1;
            let key = format!("{name}-{number}");
            let (steps, end) = wish(&key, &mut random);
            let hint = format!("hint-{}", random.below(5));
            let id = customer.submit(&key, &hint, &steps)?;
            if end == JobState::Cancelled {
                thread::sleep(Duration::from_millis(u64::from(random.below(300))));
                customer.stop(&id, "not wanted any more")?;
            }
            open.push(Order {
                id,
                key,
                steps,
                end,
            });
            continue;
        }
        if open.is_empty() {
            break;
        }
        let order = open.remove(0);
        // Followed from its beginning, across whatever happens.
        let log = customer.log(&order.id)?;
        let job = customer.ended(&order.id)?;
        let story = || {
            format!(
                "{} ({}), wanted {}: {job:?}\nits log:\n{}",
                order.id,
                order.key,
                order.end,
                String::from_utf8_lossy(&log)
            )
        };
        check(&order, &job, &log).with_context(story)?;
        let again = customer.log(&order.id)?;
        ensure!(again == log, "another log the second time: {}", story());
        whole(&job, &log).with_context(story)?;
        done.fetch_add(1, Ordering::Relaxed);
        ended.push(job);
    }
    // How a job has ended does not change any more.
    for before in &ended {
        let now = customer.info(&before.id)?;
        ensure!(now == *before, "{before:?} became {now:?}");
    }
    Ok(ended)
}

/// One of the kinds of jobs.
fn wish(key: &str, random: &mut Random) -> (Vec<TestStep>, JobState) {
    let pause = Duration::from_millis(u64::from(random.below(80)));
    let mut steps = counting(key, 5 + random.below(10), pause);
    let end = match random.below(6) {
        0 => {
            steps.push(TestStep::Exit(3));
            JobState::Failed
        }
        1 => {
            steps.push(TestStep::Hang);
            JobState::Cancelled
        }
        2 => {
            steps.insert(3, TestStep::FloodBytes(64 * 1024 * 3 + 640));
            JobState::Passed
        }
        _ => JobState::Passed,
    };
    (steps, end)
}

/// What holds when no worker was lost: one attempt that a worker knows of, which did and wrote what it should.
fn check_single_attempt(order: &Order, job: &JobInfo, log: &[u8]) -> Result<()> {
    ensure!(job.state == order.end, "it ended otherwise");
    let Some(worker) = job.worker.as_deref().filter(|_| job.attempt > 0) else {
        // Nobody had taken it when it was cancelled.
        ensure!(order.end == JobState::Cancelled && !contains(log, order.key.as_bytes()));
        return Ok(());
    };
    let parts = parts(job, log)?;
    let (_, log) = parts.last().context("no attempt is told of")?;
    // A scheduler that is killed may have written an attempt down of which the worker never heard.
    let unheard = parts.iter().rev().skip(1);
    ensure!(
        unheard
            .into_iter()
            .all(|(_, part)| part.is_empty() || part.starts_with(b"\n[attempt ")),
        "it was done more than once"
    );
    let expected = output(worker, &order.steps);
    if order.end == JobState::Cancelled {
        stopped_part(log, &expected, &order.key)
    } else {
        ensure!(*log == expected, "not what it should have written");
        Ok(())
    }
}

/// What holds when workers are lost: the job ends, each attempt wrote a beginning of what it should, and the last one all of it if the
/// job came to an end of its own.
fn check_prefixes(order: &Order, job: &JobInfo, log: &[u8]) -> Result<()> {
    ensure!(job.state.is_ended(), "it has not ended");
    ensure!(
        job.state == order.end || job.state == JobState::Lost,
        "it ended otherwise"
    );
    ensure!(job.attempt <= 3, "it was tried too often");
    let parts = parts(job, log)?;
    let last = parts.len().saturating_sub(1);
    for (place, (worker, part)) in parts.iter().enumerate() {
        let expected = output(worker, &order.steps);
        if place == last && matches!(job.state, JobState::Passed | JobState::Failed) {
            ensure!(*part == expected, "attempt {} is not whole", place + 1);
        } else {
            stopped_part(part, &expected, &order.key)
                .with_context(|| format!("attempt {}", place + 1))?;
        }
    }
    Ok(())
}

/// Checks that what an attempt wrote is a beginning of what it should, and that what follows are nothing but somebody else's last words.
fn stopped_part(part: &[u8], expected: &[u8], key: &str) -> Result<()> {
    let (_, rest) = part.split_at(common(part, expected));
    ensure!(
        !contains(rest, b" says ") && !contains(rest, b"####") && !contains(rest, key.as_bytes()),
        "what follows the common beginning is not the scheduler's: {:?}",
        String::from_utf8_lossy(rest)
    );
    let words = rest
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    // The worker's, if it was told to stop, and the scheduler's.
    ensure!(
        words.count() <= 2,
        "too many last words: {:?}",
        String::from_utf8_lossy(rest)
    );
    Ok(())
}

/// Checks that a log is as long and has the digest that the job's record says.
fn whole(job: &JobInfo, log: &[u8]) -> Result<()> {
    ensure!(
        job.log_length == log.len() as u64,
        "the record says {} bytes, and there are {}",
        job.log_length,
        log.len()
    );
    let digest: String = Sha256::digest(log)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let told = job.log_digest.as_deref();
    ensure!(
        told == Some(digest.as_str()) || (told.is_none() && log.is_empty()),
        "the record's digest is another: {told:?}"
    );
    Ok(())
}

/// Checks that the scheduler has these jobs and no others, each under a key of its own.
fn same_jobs(known: &[JobInfo], submitted: &[JobInfo]) -> Result<()> {
    let sorted = |jobs: &[JobInfo]| {
        let mut names: Vec<(Option<String>, String, String)> = jobs
            .iter()
            .map(|job| (job.key.clone(), job.id.clone(), job.state.to_string()))
            .collect();
        names.sort();
        names
    };
    let (known, submitted) = (sorted(known), sorted(submitted));
    ensure!(
        known == submitted,
        "the scheduler has {known:?}\nand there were {submitted:?}"
    );
    let twice = known.windows(2).any(|two| match two {
        [(one, ..), (other, ..)] => one == other,
        _ => false,
    });
    ensure!(!twice, "a key has two jobs: {known:?}");
    Ok(())
}

/// Says what was gone through, for whoever runs this by hand with `--nocapture`.
#[expect(clippy::print_stderr, reason = "for people who run this by hand")]
fn report(what: &str, kills: u32, done: &[Vec<JobInfo>]) {
    let jobs = || done.iter().flatten();
    let ended = |state: JobState| jobs().filter(|job| job.state == state).count();
    eprintln!(
        "{kills} kills of a {what}: {} jobs, of which {} passed, {} failed, {} were cancelled, {} were lost; {} attempts more than jobs; {} bytes of logs",
        jobs().count(),
        ended(JobState::Passed),
        ended(JobState::Failed),
        ended(JobState::Cancelled),
        ended(JobState::Lost),
        jobs().map(|job| job.attempt.saturating_sub(1)).sum::<u32>(),
        jobs().map(|job| job.log_length).sum::<u64>(),
    );
}

fn number(variable: &str, default: u32) -> Result<u32> {
    match std::env::var(variable) {
        Ok(number) => number.parse().with_context(|| variable.to_owned()),
        Err(_) => Ok(default),
    }
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// A small generator of numbers, so that a seed tells which run it was.
struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: u32) -> u32 {
        // Knuth's MMIX generator; its high bits are good enough.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(bound)).unwrap_or_default()
    }

    /// A number between 0 and 1.
    fn fraction(&mut self) -> f64 {
        f64::from(self.below(1000)) / 1000.0
    }
}
