//! What only our own schedulers tell of workers: as JSON, and as a table for people.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ocluster_cli::Table;
use ocluster_cli::jobs::printable;
use serde::Serialize;

use crate::cluster::Description;

/// The scheduler's words for a pause by an administrator.
const ADMIN_PAUSE: &str = "admin pause";

/// What only our own schedulers tell of a worker. Fields that are not known are left out.
#[derive(Debug, Serialize)]
pub(super) struct JsonDescription<'a> {
    /// Who paused it, if it is paused.
    #[serde(skip_serializing_if = "str::is_empty")]
    paused_by: &'a str,
    /// Why.
    #[serde(skip_serializing_if = "str::is_empty")]
    pause_reason: &'a str,
    /// When, in UTC, as RFC 3339 has it, to the millisecond.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<String>,
    /// Why it gets no jobs, while connected.
    inactive_reasons: &'a [String],
    /// What it says of its own pause.
    #[serde(skip_serializing_if = "str::is_empty")]
    note: &'a str,
    /// How many jobs it says it runs at once.
    capacity: u32,
    /// How many it runs.
    running: u32,
    /// How many wait for it alone.
    queued: u32,
    /// The ids of the jobs it runs.
    jobs: &'a [String],
    /// Milliseconds since its last sign of life, while connected.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_heard_ago_ms: Option<u64>,
    /// What it says of its machine and itself.
    facts: JsonFacts<'a>,
}

/// What a worker says of its machine and itself. Sizes are in bytes.
#[derive(Debug, Serialize)]
struct JsonFacts<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    os: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    arch: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    kernel: &'a str,
    #[serde(skip_serializing_if = "is_zero")]
    cpus: u64,
    #[serde(skip_serializing_if = "is_zero")]
    memory: u64,
    #[serde(skip_serializing_if = "is_zero")]
    disk: u64,
    #[serde(skip_serializing_if = "is_zero")]
    disk_free: u64,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    kinds: &'a [String],
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl<'a> From<&'a Description> for JsonDescription<'a> {
    fn from(worker: &'a Description) -> Self {
        let facts = &worker.facts;
        Self {
            paused_by: &worker.paused_by,
            pause_reason: &worker.pause_reason,
            paused_at: moment(worker.paused_at).map(|at| format!("{at:.3}")),
            inactive_reasons: &worker.inactive_reasons,
            note: &worker.note,
            capacity: worker.capacity,
            running: worker.running,
            queued: worker.queued,
            jobs: &worker.jobs,
            last_heard_ago_ms: worker.connected.then_some(worker.last_heard_ago),
            facts: JsonFacts {
                version: &facts.version,
                os: &facts.os,
                arch: &facts.arch,
                kernel: &facts.kernel,
                cpus: facts.cpus.into(),
                memory: facts.memory,
                disk: facts.disk,
                disk_free: facts.disk_free,
                kinds: &facts.kinds,
            },
        }
    }
}

/// A moment of the scheduler's clock, unless it is none.
fn moment(ms: u64) -> Option<Timestamp> {
    let ms = i64::try_from(ms).ok().filter(|ms| *ms > 0)?;
    Timestamp::from_millisecond(ms).ok()
}

/// The workers for people, one a line.
pub(super) fn table(workers: &[Description]) -> Table {
    let mut table = Table::new(["WORKER", "STATE", "JOBS", "VERSION", "MACHINE"]);
    for worker in workers {
        table.row([
            printable(&worker.name),
            printable(&state(worker)),
            load(worker),
            printable(&worker.facts.version),
            printable(&machine(worker)),
        ]);
    }
    table
}

/// Whether it is there and gets jobs, and if not, why not.
fn state(worker: &Description) -> String {
    let mut words = Vec::new();
    if !worker.connected {
        words.push("disconnected".to_owned());
    }
    let by_admin = worker
        .inactive_reasons
        .iter()
        .any(|reason| reason == ADMIN_PAUSE);
    // Of one that is away there is no other reason.
    if by_admin || (!worker.connected && !worker.active) {
        words.push(pause(worker));
    }
    for reason in &worker.inactive_reasons {
        match reason.as_str() {
            // Told in more words above.
            ADMIN_PAUSE => {}
            "worker pause" if !worker.note.is_empty() => {
                words.push(format!("worker pause ({})", worker.note));
            }
            reason => words.push(reason.to_owned()),
        }
    }
    if words.is_empty() {
        words.push("active".to_owned());
    }
    words.join(", ")
}

/// That an administrator paused it, who, when and why.
fn pause(worker: &Description) -> String {
    let mut words = "paused".to_owned();
    if !worker.paused_by.is_empty() {
        words.push_str(&format!(" by {}", worker.paused_by));
    }
    if let Some(at) = moment(worker.paused_at) {
        let at = at.to_zoned(TimeZone::system());
        words.push_str(&at.strftime(" since %Y-%m-%d %H:%M:%S").to_string());
    }
    if !worker.pause_reason.is_empty() {
        words.push_str(&format!(" ({})", worker.pause_reason));
    }
    words
}

/// How many jobs it runs, how many it could, and how many wait for it.
fn load(worker: &Description) -> String {
    let running = match worker.capacity {
        0 => worker.running.to_string(),
        capacity => format!("{}/{capacity}", worker.running),
    };
    match worker.queued {
        0 => running,
        queued => format!("{running} +{queued} queued"),
    }
}

/// What machine it is.
fn machine(worker: &Description) -> String {
    const GIB: u64 = 1 << 30;
    let facts = &worker.facts;
    let mut words = vec![
        [facts.os.as_str(), facts.arch.as_str()]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
            .join("/"),
        facts.kernel.clone(),
    ];
    if facts.cpus > 0 {
        words.push(format!("{} CPUs", facts.cpus));
    }
    if facts.memory > 0 {
        words.push(format!("{} GiB", facts.memory.div_ceil(GIB)));
    }
    if facts.disk > 0 {
        let (free, all) = (facts.disk_free / GIB, facts.disk.div_ceil(GIB));
        words.push(format!("{free} of {all} GiB disk free"));
    }
    words.push(facts.kinds.join(" "));
    words.retain(|word| !word.is_empty());
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(connected: bool, reasons: &[&str]) -> Description {
        Description {
            connected,
            active: connected && reasons.is_empty(),
            inactive_reasons: reasons.iter().map(|&reason| reason.to_owned()).collect(),
            ..Description::default()
        }
    }

    #[test]
    fn a_workers_own_pause_is_not_an_administrators() {
        assert_eq!(state(&worker(true, &[])), "active");
        assert_eq!(state(&worker(true, &["worker pause"])), "worker pause");
        let noted = Description {
            note: "the disk is full".to_owned(),
            pause_reason: "new disk".to_owned(),
            ..worker(true, &["worker pause", "admin pause", "shutting down"])
        };
        assert_eq!(
            state(&noted),
            "paused (new disk), worker pause (the disk is full), shutting down"
        );
        assert_eq!(state(&worker(false, &[])), "disconnected, paused");
    }
}
