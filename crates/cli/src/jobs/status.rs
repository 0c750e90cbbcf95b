//! All that is known of one job, for people.

use std::time::Duration;

use super::text::{duration, local_time};
use super::{Attempt, JobCause, JobInfo, JobLimits, printable};
use crate::ocaml_string;

/// The story of a job in a dozen lines, with a line feed at the end of each.
#[must_use]
pub fn status_text(job: &JobInfo) -> String {
    let mut text = format!("Job {} {}", printable(&job.id), printable(job.state.verb()));
    if let Some(cause) = &job.cause {
        text.push_str(&format!(": {}", because(cause)));
    }
    text.push('\n');
    for (name, value) in fields(job) {
        text.push_str(&format!("{:<11}{value}\n", format!("{name}:")));
    }
    if !job.attempts.is_empty() {
        text.push_str("Attempts:\n");
        for attempt in &job.attempts {
            text.push_str(&format!("  {}\n", attempt_line(attempt)));
        }
    }
    text
}

fn fields(job: &JobInfo) -> Vec<(&'static str, String)> {
    let urgent = if job.urgent { ", urgent" } else { "" };
    let mut fields = vec![
        ("Pool", printable(&job.pool)),
        ("Client", printable(&job.client)),
        ("Kind", format!("{}{urgent}", printable(&job.kind))),
    ];
    if !job.hint.is_empty() {
        fields.push(("Hint", printable(&job.hint)));
    }
    let lifetime = if job.durable {
        "durable: it outlives its client"
    } else {
        "attached: it ends with its client"
    };
    fields.push(("Lifetime", lifetime.to_owned()));
    if let Some(key) = &job.key {
        fields.push(("Key", printable(key)));
    }
    if let Some(limits) = limits(&job.limits) {
        fields.push(("Limits", limits));
    }
    if let Some(worker) = &job.worker {
        fields.push(("Worker", worker_line(job, worker)));
    }
    for (name, time) in [
        ("Submitted", job.queued_at),
        ("Assigned", job.assigned_at),
        ("Started", job.started_at),
    ] {
        if let Some(time) = time {
            fields.push((name, local_time(time)));
        }
    }
    if let Some(ended) = job.ended_at {
        let ran = job.ran_ms().map_or_else(String::new, |ms| {
            format!(", having run for {}", duration(Duration::from_millis(ms)))
        });
        fields.push(("Ended", format!("{}{ran}", local_time(ended))));
    }
    let digest = job.log_digest.as_ref().map_or_else(String::new, |digest| {
        format!(", SHA-256 {}", printable(digest))
    });
    fields.push(("Log", format!("{} bytes{digest}", job.log_length)));
    if !job.output.is_empty() {
        fields.push(("Result", ocaml_string(job.output.as_bytes())));
    }
    fields
}

fn worker_line(job: &JobInfo, worker: &str) -> String {
    let away = if job.waits_for_worker {
        ", which is not connected at present"
    } else {
        ""
    };
    format!("{}, attempt {}{away}", printable(worker), job.attempt)
}

fn limits(limits: &JobLimits) -> Option<String> {
    let told: Vec<String> = [
        ("running", limits.running),
        ("queued", limits.queued),
        ("silent", limits.silent),
    ]
    .into_iter()
    .filter_map(|(name, limit)| Some(format!("{name} {}", duration(limit?))))
    .collect();
    (!told.is_empty()).then(|| told.join(", "))
}

fn attempt_line(attempt: &Attempt) -> String {
    let time = |time: Option<u64>| time.map_or_else(|| "?".to_owned(), local_time);
    let why = attempt
        .cause
        .as_ref()
        .map_or_else(String::new, |cause| format!(": {}", because(cause)));
    format!(
        "{} on {}, {} to {}, log from byte {}{why}",
        attempt.number,
        printable(&attempt.worker),
        time(attempt.started_at),
        time(attempt.ended_at),
        attempt.log_start,
    )
}

fn because(cause: &JobCause) -> String {
    if cause.sentence.is_empty() || cause.code.is_empty() {
        printable(cause.words())
    } else {
        format!(
            "{} ({})",
            printable(&cause.sentence),
            printable(&cause.code)
        )
    }
}
