//! The text of `show`, laid out as OCluster lays it out, because scripts and people read it.
//!
//! Renders a picture of a pool; never looks at a pool itself. Lines are wrapped as OCaml's `Format` does at its default
//! margin: within 77 columns, and continued just after the opening bracket.

use std::fmt::Write as _;

use crate::ids::{Hint, WorkerName};
use crate::reasons::Reason;
use crate::time::Timestamp;
use crate::view::{ClientView, MainView, PoolView, QueuedJob, WorkerView};

/// The last column an item may reach.
const WIDTH: usize = 77;

/// A worker's list that would begin further to the right begins on a line of its own.
const LAST_START: usize = 67;

/// A pool as text. No line break at the end.
pub fn show(view: &PoolView, now: Timestamp) -> String {
    let mut text = format!("capacity: {}\nqueue: ", view.capacity);
    match &view.main {
        MainView::Backlog(jobs) => {
            text.push_str("(backlog) ");
            bracketed(
                &mut text,
                jobs.iter().rev().map(|job| waiting_job(job, now)),
            );
        }
        MainView::Ready(workers) => {
            text.push_str("(ready) ");
            bracketed(&mut text, workers.iter().rev().map(ToString::to_string));
        }
    }
    if !view.held.is_empty() {
        text.push_str("\nheld: ");
        let held = view.held.iter().rev();
        bracketed(&mut text, held.map(|job| waiting_job(job, now)));
    }
    text.push_str("\nregistered:");
    for worker in &view.workers {
        text.push('\n');
        registered(&mut text, worker, now);
    }
    text.push_str("\ndisconnected:");
    for worker in &view.disconnected {
        text.push_str("\n  ");
        text.push_str(worker.name.as_str());
        if !worker.active {
            text.push_str(" (paused)");
        }
    }
    text.push_str("\nclients: ");
    wrapped(
        &mut text,
        view.clients.iter().map(|client| client_text(client, now)),
    );
    text
}

/// [`show`], followed by which hint is cached where.
pub fn dump(view: &PoolView, hints: &[(Hint, Vec<WorkerName>)], now: Timestamp) -> String {
    let mut text = show(view, now);
    text.push_str("\ncached: ");
    for (i, (hint, workers)) in hints.iter().enumerate() {
        let workers: Vec<&str> = workers.iter().map(WorkerName::as_str).collect();
        let comma = if i == 0 { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(text, "{comma}{hint}: [{}]", workers.join("; "));
    }
    text
}

fn registered(text: &mut String, worker: &WorkerView, now: Timestamp) {
    let mut line = format!("  {} ({}): ", worker.name, worker.workload);
    if worker.inactive.is_empty() {
        if line.chars().count() > LAST_START {
            line.push_str("\n  ");
        }
        let jobs = worker.queue.iter().rev();
        bracketed(&mut line, jobs.map(|job| local_job(job, now)));
    } else {
        let _ = write!(line, "(inactive: {})", inactive(worker));
    }
    let _ = write!(line, " ({} running)", worker.running);
    text.push_str(&line);
}

/// Upstream's words for the reasons; behind the first, in brackets, what the worker says of its own pause.
fn inactive(worker: &WorkerView) -> String {
    let reasons = worker
        .inactive
        .iter()
        .map(|reason| match (reason, &worker.pause_note) {
            (Reason::WorkerPause, Some(note)) => format!("{reason} ({note})"),
            _ => reason.to_string(),
        });
    reasons.collect::<Vec<_>>().join(", ")
}

fn job_text(job: &QueuedJob, now: Timestamp) -> String {
    format!(
        "{}:{}@{}",
        job.client,
        job.hint.shown(),
        rough(job.fair_start.since(now))
    )
}

fn waiting_job(job: &QueuedJob, now: Timestamp) -> String {
    job_text(job, now) + if job.urgent { "+urgent" } else { "" }
}

fn local_job(job: &QueuedJob, now: Timestamp) -> String {
    let cost = job.cost.unwrap_or(0);
    format!(
        "{}({cost}{})",
        job_text(job, now),
        if job.urgent { "+urgent" } else { "" }
    )
}

fn client_text(client: &ClientView, now: Timestamp) -> String {
    let mut text = format!("{}({:.0})", client.id, client.rate.get());
    if client.next_fair_start > now {
        let _ = write!(text, "+{}", rough(client.next_fair_start.since(now)));
    }
    text
}

/// A duration in whole seconds below two minutes (and when negative), in whole minutes from there on; rounded half to
/// even, as both C and Rust print.
fn rough(seconds: f64) -> String {
    if seconds < 120.0 {
        format!("{seconds:.0}s")
    } else {
        format!("{:.0}m", seconds / 60.0)
    }
}

fn bracketed(text: &mut String, items: impl Iterator<Item = String>) {
    text.push('[');
    wrapped(text, items);
    text.push(']');
}

/// Appends the items to the last line of `text`, separated by spaces or, where a line is full, by a break and an
/// indentation to where the first item stands. An item too long for any line stands alone on one.
fn wrapped(text: &mut String, items: impl Iterator<Item = String>) {
    let mut column = text
        .rsplit('\n')
        .next()
        .map_or(0, |line| line.chars().count());
    let indent = column;
    for (i, item) in items.enumerate() {
        let length = item.chars().count();
        if i > 0 {
            if column + 1 + length <= WIDTH {
                text.push(' ');
                column += 1;
            } else {
                text.push('\n');
                text.extend(std::iter::repeat_n(' ', indent));
                column = indent;
            }
        }
        text.push_str(&item);
        column += length;
    }
}
