//! What `ocluster-admin` does with our own schedulers beyond what OCluster's can do: jobs by id, draining by a deadline, pauses with a
//! reason; and what it says to schedulers that cannot.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod modern;
mod support;

use ocluster_cli::testing::{Shell, transcript};

use modern::start_modern;
use support::Scheduler;

/// A shell in whose directory `admin.cap` leads to the scheduler.
fn shell_at(scheduler: &Scheduler) -> Shell {
    let shell = Shell::new(env!("CARGO_BIN_EXE_ocluster-admin"));
    scheduler
        .server
        .cap
        .save(&shell.directory().join("admin.cap"))
        .unwrap();
    shell
}

/// Several runs, by somebody called "tester".
fn run_all<'a>(shell: &Shell, lines: impl IntoIterator<Item = &'a str>) -> String {
    let run = |line: &str| {
        let output = shell.command(line).env("USER", "tester").output().unwrap();
        transcript(&format!("ocluster-admin {line}"), &output)
    };
    let transcripts: Vec<String> = lines.into_iter().map(run).collect();
    transcripts.join("\n")
}

/// The events, with the user but without this machine's name.
fn events(scheduler: &Scheduler) -> Vec<String> {
    let host = rustix::system::uname();
    let by = format!("tester@{}", host.nodename().to_string_lossy());
    let events = scheduler.events().into_iter();
    events.map(|event| event.replace(&by, "TESTER")).collect()
}

#[test]
fn jobs_of_all_clients_are_listed() {
    let scheduler = start_modern(&["busy"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "jobs admin.cap --limit 1",
            "jobs admin.cap --all",
            "jobs admin.cap --all --output=json",
            "jobs -c admin.cap --pool linux --client alice --state queued,timed-out --limit 2000",
            "jobs admin.cap --client nobody",
            "jobs admin.cap --client nobody --output=json",
            "jobs admin.cap --state done",
            "jobs admin.cap --limit 0",
            "jobs admin.cap --limit 1 --all",
        ]
    ));
    let asked = events(&scheduler);
    assert_eq!(
        asked[0],
        "asked for 1 jobs before \"\" in [] of \"\" and \"\""
    );
    assert_eq!(
        asked[2],
        "asked for 1000 jobs before \"j31n03\" in [] of \"\" and \"\""
    );
    assert_eq!(
        asked[5],
        "asked for 1000 jobs before \"\" in [\"queued\", \"timed-out\"] of \"linux\" and \"alice\""
    );
}

#[test]
fn a_job_is_found_by_the_beginning_of_its_id() {
    let scheduler = start_modern(&["busy"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "status admin.cap j31n03",
            "status admin.cap j3 --output=json",
            "status -c admin.cap j1",
            "status admin.cap j",
            "status admin.cap k9",
            "explain admin.cap j12",
            "explain admin.cap j12 --output=json",
        ]
    ));
}

#[test]
fn jobs_are_cancelled_and_requeued_for_a_reason() {
    let scheduler = start_modern(&["busy"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "cancel admin.cap j31 --reason obsolete",
            "cancel admin.cap j12 --output=json",
            "requeue admin.cap j31 --reason flaky",
            "requeue admin.cap j31n03 --output=json",
            "requeue admin.cap j12",
        ]
    ));
    assert_eq!(
        events(&scheduler),
        [
            "j31n03 is stopped (TESTER: obsolete)",
            "j12 is stopped (TESTER)",
            "j31n03 is requeued (TESTER: flaky)",
            "j31n03 is requeued (TESTER)",
        ]
    );
}

#[test]
fn a_log_is_printed_whole_or_its_last_lines() {
    let scheduler = start_modern(&["busy"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "log admin.cap j31n03",
            "log admin.cap j31n03 -f",
            "log admin.cap j31n03 --tail 2",
            "log admin.cap j31n03 --tail 0",
            "log admin.cap j31n03 --tail 9 --follow --output=json",
            // What has not begun has printed nothing.
            "log admin.cap j12",
        ]
    ));
}

#[test]
fn a_pause_tells_who_and_why() {
    let scheduler = start_modern(&["a", "b"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "pause admin.cap linux a --reason disk",
            "pause admin.cap linux --all --reason disk",
            "unpause admin.cap linux a",
            "pause admin.cap linux z",
        ]
    ));
    assert_eq!(
        events(&scheduler),
        [
            "a is paused by tester: \"disk\"",
            "b is paused by tester: \"disk\"",
            "a is unpaused by tester: \"\"",
        ]
    );
}

#[test]
fn what_is_known_of_workers_is_shown() {
    let scheduler = start_modern(&["busy", "idle disconnected paused"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "show admin.cap linux",
            "show admin.cap linux --workers",
            "show admin.cap linux --output=json",
            "show admin.cap linux idle",
            "show admin.cap linux idle --output=json",
            "show admin.cap linux --workers --terse",
        ]
    ));
}

#[test]
fn draining_waits_for_jobs() {
    let scheduler = start_modern(&["a", "b", "c disconnected"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "drain admin.cap linux",
            "drain admin.cap linux a --reason disk",
            "drain admin.cap linux c --deadline 10m",
            "drain admin.cap linux c --output=json",
            "drain admin.cap linux a --all",
            "drain admin.cap linux a --then evict",
            "drain admin.cap linux a --deadline soon",
            "drain admin.cap linux z",
        ]
    ));
    assert_eq!(
        events(&scheduler)[..2],
        ["a is paused by tester: \"disk\"", "a is drained"]
    );
}

#[test]
fn what_is_not_drained_in_time_is_named_or_moved() {
    let scheduler = start_modern(&["busy"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "drain admin.cap linux busy --deadline 1s",
            "drain admin.cap linux --all --deadline 1s --then leave --output=json",
            "drain admin.cap linux --all --deadline 1s --then evict",
            "drain admin.cap linux busy --deadline 1s --then evict --reason disk --output=json",
        ]
    ));
    let emptied = events(&scheduler)
        .into_iter()
        .filter(|event| event == "busy is emptied");
    assert_eq!(emptied.count(), 2);
}

/// OCluster's own scheduler, or an older one of ours.
#[test]
fn with_a_scheduler_that_knows_only_the_frozen_protocol_nothing_else_changes() {
    let scheduler = Scheduler::start(&["a", "busy"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "jobs admin.cap",
            "status admin.cap j31n03",
            "cancel admin.cap j31n03",
            "requeue admin.cap j31n03",
            "explain admin.cap j31n03",
            "log admin.cap j31n03",
            "pause admin.cap linux a",
            "pause admin.cap linux --all --reason disk",
            "unpause admin.cap linux --all",
            "show admin.cap linux --workers",
            "drain admin.cap linux a",
            "drain admin.cap linux busy --deadline 1s",
            "drain admin.cap linux a --deadline 1m --then evict",
        ]
    ));
}
