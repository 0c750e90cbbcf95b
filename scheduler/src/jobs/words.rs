//! Why a job stands where it stands, in words for whoever waits for it.

use ocluster_scheduling::{Explanation, Timestamp, Waits, WhyNot, WorkerName};
use ocluster_store::{JobRecord, JobState};

use super::{Explained, Shown};

/// Says why.
pub(crate) fn explain(
    shown: Shown,
    waiting: Option<&Explanation>,
    max_attempts: u32,
    now: Timestamp,
) -> Explained {
    let record = &shown.record;
    let mut details = Vec::new();
    let summary = match (record.state, waiting) {
        (JobState::Queued, Some(waiting)) => queued(waiting, now, &mut details),
        (JobState::Queued, None) => "It is about to be queued, or to be taken.".to_owned(),
        (JobState::Running, _) => running(record, shown.waits_for_worker),
        _ => ended(record),
    };
    if let Some(stop) = &record.stop {
        details.push(format!("It is being stopped: {}.", stop.sentence));
    }
    if !record.state.is_ended() && record.durable {
        let counting = record.attempts.iter().filter(|attempt| attempt.counts);
        let tried = counting.count();
        if tried > 0 {
            details.push(format!(
                "It was tried {tried} of at most {max_attempts} times on workers that failed."
            ));
        }
    }
    for attempt in &record.attempts {
        details.push(format!(
            "Attempt {} on \"{}\" came to nothing: {}.",
            attempt.number, attempt.worker, attempt.cause.sentence
        ));
    }
    Explained {
        summary,
        details,
        shown,
    }
}

fn queued(waiting: &Explanation, now: Timestamp, details: &mut Vec<String>) -> String {
    let ahead = match waiting.ahead {
        0 => "nothing is ahead of it".to_owned(),
        1 => "1 job is ahead of it".to_owned(),
        n => format!("{n} jobs are ahead of it"),
    };
    let can_ever = waiting
        .workers
        .iter()
        .any(|(_, why)| !matches!(why, WhyNot::Disconnected { .. }))
        || waiting.more_workers > 0;
    let place = match &waiting.waits {
        Waits::Main => "It waits in the pool's queue".to_owned(),
        Waits::Local(worker) => {
            format!("It waits for worker \"{worker}\", which was chosen for it")
        }
        Waits::Quota(quota) => format!(
            "It is held back: its client may have {quota} {} running at once in this pool",
            if *quota == 1 { "job" } else { "jobs" }
        ),
    };
    if !waiting.ahead_of.is_empty() {
        let whose = waiting
            .ahead_of
            .iter()
            .map(|(client, jobs)| format!("{jobs} of \"{client}\""));
        details.push(format!(
            "Ahead by fair share: {}.",
            whose.collect::<Vec<_>>().join(", ")
        ));
    }
    let until = waiting.fair_start.since(now);
    if until >= 1.0 {
        details.push(format!(
            "Its client has had its fair share until {} from now; others that have not go first.",
            span(until)
        ));
    }
    if waiting.workers.is_empty() {
        details.push("The pool has never had a worker.".to_owned());
    }
    for (worker, why) in &waiting.workers {
        details.push(why_not(worker, why));
    }
    if waiting.more_workers > 0 {
        details.push(format!("And {} more workers.", waiting.more_workers));
    }
    if can_ever {
        format!("{place}; {ahead}.")
    } else {
        format!("{place}; {ahead}, but no worker of the pool is connected, so nobody can take it.")
    }
}

fn why_not(worker: &WorkerName, why: &WhyNot) -> String {
    let rest = match why {
        WhyNot::Disconnected { paused: false } => "is not connected".to_owned(),
        WhyNot::Disconnected { paused: true } => {
            "is not connected, and an administrator has paused it".to_owned()
        }
        WhyNot::Inactive {
            reasons,
            note,
            pause,
        } => {
            let mut text = format!("is inactive ({reasons})");
            if let Some(note) = note {
                text.push_str(&format!("; it says: {note}"));
            }
            if let Some(pause) = pause {
                if let Some(by) = &pause.by {
                    text.push_str(&format!("; paused by {by}"));
                }
                if let Some(why) = &pause.why {
                    text.push_str(&format!("; because: {why}"));
                }
            }
            text
        }
        WhyNot::Busy {
            running,
            capacity: 0,
        } => format!("is busy with {running}"),
        WhyNot::Busy { running, capacity } => format!("is busy: it runs {running} of {capacity}"),
        WhyNot::Avoided => "is left out, because the job came to nothing there".to_owned(),
        WhyNot::HasOthers { queued } => format!("has {queued} other jobs to do first"),
        WhyNot::Free => "is about to take a job".to_owned(),
    };
    format!("Worker \"{worker}\" {rest}.")
}

fn running(record: &JobRecord, waits_for_worker: bool) -> String {
    let worker = record.worker.as_deref().unwrap_or("?");
    if waits_for_worker {
        return format!(
            "It runs on worker \"{worker}\" as attempt {}, which is not connected at present; if it does not come back soon, the job is tried elsewhere.",
            record.attempt
        );
    }
    format!(
        "It runs on worker \"{worker}\" as attempt {}.",
        record.attempt
    )
}

fn ended(record: &JobRecord) -> String {
    let how = match record.state {
        JobState::Passed => "It has passed".to_owned(),
        JobState::Failed => "It has failed".to_owned(),
        JobState::Cancelled => "It was cancelled".to_owned(),
        JobState::TimedOut => "It has timed out".to_owned(),
        JobState::Lost => "It was lost".to_owned(),
        JobState::Queued | JobState::Running => "It has ended".to_owned(),
    };
    match &record.cause {
        Some(cause) => format!("{how}: {}.", cause.sentence),
        None => format!("{how}."),
    }
}

/// A number of seconds as people say it.
fn span(seconds: f64) -> String {
    let seconds = std::time::Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or_default();
    ocluster_cli::show_duration(seconds)
}
