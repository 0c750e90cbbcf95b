//! What goes wrong in a simulated cluster, when, and when it is put right again.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng as _;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;

/// The host on which the scheduler runs.
pub const SCHEDULER: &str = "scheduler";

/// Something that is done to the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// What is sent between the host and the scheduler is lost.
    Cut(String),
    /// What the host sends to the scheduler is lost, but not what comes back.
    CutOutward(String),
    /// What the scheduler sends to the host is lost, but not what comes back.
    CutInward(String),
    /// What is sent between the host and the scheduler waits.
    Hold(String),
    /// The link is as it should be. What was held comes through.
    Mend(String),
    /// The link is slow: a message takes up to this long.
    Slow(String, Duration),
    /// The programs of the host are killed. The network is there, so that the others hear of it.
    Kill(String),
    /// The host loses its power: nobody hears of it.
    PowerOff(String),
    /// The program of the host is asked to end.
    Stop(String),
    /// The host's program is started again.
    Start(String),
    /// Each write to the scheduler's disks takes this long.
    SlowDisk(Duration),
    /// Each write to the disk of the worker takes this long.
    SlowSpool(String, Duration),
    /// The scheduler's clock is so many milliseconds ahead.
    Skew(i64),
}

impl Action {
    /// What kind of fault this begins, if it begins one.
    #[must_use]
    pub fn fault(&self) -> Option<&'static str> {
        Some(match self {
            Self::Cut(_) => "partition",
            Self::CutOutward(_) | Self::CutInward(_) => "one-way partition",
            Self::Hold(_) => "stalled link",
            Self::Slow(..) => "slow link",
            Self::Kill(host) | Self::PowerOff(host) if host == SCHEDULER => "scheduler crash",
            Self::Kill(host) | Self::PowerOff(host) if host.starts_with("worker") => "worker crash",
            Self::Kill(_) | Self::PowerOff(_) => "client crash",
            Self::Stop(host) if host == SCHEDULER => "scheduler restart",
            Self::Stop(_) => "worker restart",
            Self::SlowDisk(_) | Self::SlowSpool(..) => "slow disk",
            Self::Skew(_) => "clock jump",
            Self::Mend(_) | Self::Start(_) => return None,
        })
    }
}

/// What is done when, in order.
pub type Schedule = Vec<(Duration, Action)>;

/// How long a write takes when nothing is wrong.
pub const HEALTHY_DISK: Duration = Duration::from_micros(1_500);

/// Makes trouble for all hosts until `end`; by then everything is put right.
#[must_use]
pub fn schedule(
    rng: &mut StdRng,
    workers: &[String],
    clients: &[String],
    end: Duration,
) -> Schedule {
    let mut schedule = Schedule::new();
    // Some clusters are calm, some are at war.
    let mean = Duration::from_secs(*[60, 180, 600].choose(rng).unwrap_or(&180));
    for host in workers {
        trouble(rng, &mut schedule, end, mean * 2, |rng| {
            of_worker(rng, host)
        });
    }
    for host in clients {
        trouble(rng, &mut schedule, end, mean * 2, |rng| {
            of_client(rng, host)
        });
    }
    trouble(rng, &mut schedule, end, mean, of_scheduler);
    schedule.sort_by_key(|(at, _)| *at);
    schedule
}

/// One fault after the other: each is made, lasts, and is put right.
fn trouble(
    rng: &mut StdRng,
    schedule: &mut Schedule,
    end: Duration,
    mean: Duration,
    mut fault: impl FnMut(&mut StdRng) -> (Vec<Action>, Duration, Vec<Action>),
) {
    let mut at = Duration::from_secs(10);
    loop {
        at += mean.mul_f64(rng.random_range(0.05..2.0));
        let (made, lasts, mended) = fault(rng);
        if at + lasts >= end {
            return;
        }
        schedule.extend(made.into_iter().map(|action| (at, action)));
        at += lasts;
        schedule.extend(mended.into_iter().map(|action| (at, action)));
    }
}

/// How long a fault lasts: seconds mostly, minutes at times, and seldom longer than anybody's patience.
fn lasting(rng: &mut StdRng) -> Duration {
    let millis = match rng.random_range(0..100) {
        0..50 => rng.random_range(200..8_000),
        50..80 => rng.random_range(8_000..40_000),
        80..97 => rng.random_range(40_000..240_000),
        _ => rng.random_range(240_000..1_500_000),
    };
    Duration::from_millis(millis)
}

fn of_link(rng: &mut StdRng, host: &str) -> (Vec<Action>, Duration, Vec<Action>) {
    let name = host.to_owned();
    let made = match rng.random_range(0..5) {
        0 => Action::Cut(name),
        1 => Action::CutOutward(name),
        2 => Action::CutInward(name),
        3 => Action::Hold(name),
        _ => Action::Slow(name, Duration::from_millis(rng.random_range(100..6_000))),
    };
    (
        vec![made],
        lasting(rng),
        vec![Action::Mend(host.to_owned())],
    )
}

fn of_worker(rng: &mut StdRng, host: &str) -> (Vec<Action>, Duration, Vec<Action>) {
    let name = host.to_owned();
    match rng.random_range(0..10) {
        0..5 => of_link(rng, host),
        5 | 6 => {
            let start = vec![Action::Start(name.clone())];
            (vec![Action::Kill(name)], lasting(rng), start)
        }
        7 => {
            let start = vec![Action::Start(name.clone())];
            (vec![Action::PowerOff(name)], lasting(rng), start)
        }
        8 => {
            let start = vec![Action::Start(name.clone())];
            (vec![Action::Stop(name)], lasting(rng), start)
        }
        _ => {
            let slow = Duration::from_millis(rng.random_range(20..3_000));
            let healthy = vec![Action::SlowSpool(name.clone(), HEALTHY_DISK)];
            (vec![Action::SlowSpool(name, slow)], lasting(rng), healthy)
        }
    }
}

fn of_client(rng: &mut StdRng, host: &str) -> (Vec<Action>, Duration, Vec<Action>) {
    let name = host.to_owned();
    if rng.random_bool(0.7) {
        return of_link(rng, host);
    }
    let start = vec![Action::Start(name.clone())];
    (vec![Action::Kill(name)], lasting(rng), start)
}

fn of_scheduler(rng: &mut StdRng) -> (Vec<Action>, Duration, Vec<Action>) {
    let name = SCHEDULER.to_owned();
    match rng.random_range(0..10) {
        0..4 => {
            let start = vec![Action::Start(name.clone())];
            (vec![Action::Kill(name)], lasting(rng), start)
        }
        4 => {
            let start = vec![Action::Start(name.clone())];
            (vec![Action::PowerOff(name)], lasting(rng), start)
        }
        5 | 6 => {
            let start = vec![Action::Start(name.clone())];
            (vec![Action::Stop(name)], lasting(rng), start)
        }
        7 => {
            let ahead = rng.random_range(-600_000..600_000);
            (
                vec![Action::Skew(ahead)],
                lasting(rng),
                vec![Action::Skew(0)],
            )
        }
        _ => {
            let slow = Duration::from_millis(rng.random_range(20..3_000));
            let healthy = vec![Action::SlowDisk(HEALTHY_DISK)];
            (vec![Action::SlowDisk(slow)], lasting(rng), healthy)
        }
    }
}

/// How many faults of each kind there were.
pub type Counts = BTreeMap<String, u64>;
