//! The commands about jobs that were submitted before: what they print, as people and as programs read it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use ocluster_cli::testing::transcript;
use rustix::process::Signal;

use support::Scheduler;
use support::durable::{FakeJob, Keeper};
use support::process::{read_until, signal};

/// A scheduler with jobs in several states.
fn keeper() -> Keeper {
    let keeper = Keeper::start();
    let job = |id: &str, state| FakeJob {
        id: id.to_owned(),
        pool: "linux".to_owned(),
        state,
        log: b"one\ntwo\nthree\n".to_vec(),
        ..FakeJob::default()
    };
    keeper.add(job("j1x", "passed"));
    keeper.add(FakeJob {
        pool: "arm".to_owned(),
        cause: Some(("build-failed", "the build ended with exit code 2")),
        key: "nightly".to_owned(),
        // Six bytes of a first attempt, and a line about its end.
        log: b"first\n--\nsecond\nlast\n".to_vec(),
        attempts: vec![0],
        log_start: 9,
        ..job("j24", "failed")
    });
    keeper.add(FakeJob {
        log: Vec::new(),
        limits: [60_000, 0, 0],
        ..job("j25", "queued")
    });
    keeper
}

#[test]
fn lists() {
    let keeper = keeper();
    insta::assert_snapshot!(keeper.shell().run_all([
        "jobs submission.cap",
        "jobs -c submission.cap --state=queued,running",
        "jobs submission.cap --pool=arm",
        "jobs submission.cap --state=lost",
        "jobs submission.cap --limit=2",
        "jobs submission.cap --all --output=json",
        "jobs submission.cap --limit=1 --output=json",
        "jobs submission.cap --state=lost --output=json",
    ]));
}

#[test]
fn a_list_of_many_pages_is_one_list() {
    let keeper = Keeper::start();
    for number in 0..2500 {
        keeper.add(FakeJob {
            id: format!("j{number:04}"),
            state: "passed",
            ..FakeJob::default()
        });
    }
    let shell = keeper.shell();
    let listed = |args: &str| {
        let output = shell.command(args).output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().count() - 1
    };
    assert_eq!(listed("jobs submission.cap"), 50);
    assert_eq!(listed("jobs submission.cap --limit=1200"), 1200);
    assert_eq!(listed("jobs submission.cap --all"), 2500);
}

#[test]
fn one_job() {
    let keeper = keeper();
    insta::assert_snapshot!(keeper.shell().run_all([
        "status submission.cap j1",
        "status -c submission.cap j24",
        "status submission.cap j25",
        "status submission.cap j24 --output=json",
        "explain submission.cap j25",
        "explain submission.cap j25 --output=json",
    ]));
}

#[test]
fn ids_that_lead_to_no_job() {
    let keeper = keeper();
    let commands = ["status", "log", "cancel", "wait", "explain"];
    let lines: Vec<String> = commands
        .iter()
        .flat_map(|command| ["j9", "j2"].map(|id| format!("{command} submission.cap {id}")))
        .collect();
    insta::assert_snapshot!(keeper.shell().run_all(lines.iter().map(String::as_str)));
}

#[test]
fn logs() {
    let keeper = keeper();
    insta::assert_snapshot!(keeper.shell().run_all([
        "log submission.cap j1",
        "log submission.cap j1 --tail=2",
        "log submission.cap j1 --tail=0",
        "log submission.cap j1 --tail=99",
        "log submission.cap j25",
        "log submission.cap j1 -f",
        "log submission.cap j24 -f --tail 1",
        "log submission.cap j1 --output=json",
        "log submission.cap j24 --since=2023-11-14T22:14:09Z",
        "log submission.cap j24 --since=2023-11-14T22:14:11Z",
        "log submission.cap j24 --since=2023-11-14T22:14:11Z --tail=5",
        "log submission.cap j24 --since=10m",
    ]));
}

#[test]
fn a_log_that_is_not_followed_ends_where_it_is_at_present() {
    let keeper = keeper();
    keeper.print("j25", b"so far");
    let output = keeper
        .shell()
        .command("log submission.cap j25")
        .output()
        .unwrap();
    assert_eq!(output.stdout, b"so far");
    assert!(output.status.success());
}

#[test]
fn a_followed_log_goes_on_through_a_restart() {
    let mut keeper = keeper();
    let shell = keeper.shell();
    keeper.print("j25", b"so far\n");
    let mut child = shell.command("log submission.cap j25 -f").spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), b"so far\n");
    keeper.stop();
    read_until(child.stderr.as_mut().unwrap(), "reconnecting…\n".as_bytes());
    keeper.print("j25", b"and on\n");
    keeper.start_again();
    keeper.end("j25", "passed");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, b"and on\n");
    assert!(keeper.reads().contains(&7), "{:?}", keeper.reads());
    assert!(output.status.success());
}

#[test]
fn interrupting_a_followed_log_does_nothing_to_the_job() {
    let keeper = keeper();
    let shell = keeper.shell();
    keeper.print("j25", b"so far\n");
    let mut child = shell.command("log submission.cap j25 -f").spawn().unwrap();
    read_until(child.stdout.as_mut().unwrap(), b"so far\n");
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(keeper.jobs()[2].stopped.len(), 0);
}

#[test]
fn cancelling() {
    let keeper = keeper();
    let shell = keeper.shell();
    keeper.add(FakeJob {
        id: "j3x".to_owned(),
        state: "running",
        ..FakeJob::default()
    });
    insta::assert_snapshot!(shell.run_all([
        "cancel submission.cap j25 --reason=superseded",
        "cancel submission.cap j3 --output=json",
        "cancel submission.cap j1",
    ]));
    assert_eq!(keeper.jobs()[2].stopped, ["superseded"]);
}

#[test]
fn waiting_for_jobs_that_have_ended() {
    let keeper = keeper();
    insta::assert_snapshot!(keeper.shell().run_all([
        "wait submission.cap j1",
        "wait submission.cap j24 j24",
        "wait submission.cap j24 --output=json",
    ]));
}

#[test]
fn waiting_takes_restarts_and_tells_each_end_once() {
    let mut keeper = keeper();
    let shell = keeper.shell();
    keeper.print("j25", b"");
    let mut child = shell
        .command("wait submission.cap j25 j1x")
        .spawn()
        .unwrap();
    read_until(child.stdout.as_mut().unwrap(), b"j1x passed\n");
    keeper.stop();
    read_until(child.stderr.as_mut().unwrap(), "reconnecting…\n".as_bytes());
    keeper.start_again();
    keeper.end("j25", "passed");
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        transcript("", &output),
        "$ \n--- stdout\nj25 passed\n--- stderr\nReconnected.\n--- exit status: 0\n"
    );
}

#[test]
fn a_scheduler_without_records_says_what_is_missing() {
    let scheduler = Scheduler::start();
    let shell = ocluster_cli::testing::Shell::new(env!("CARGO_BIN_EXE_ocluster-client"));
    let file = shell.directory().join("submission.cap");
    scheduler.server.cap.save(&file).unwrap();
    insta::assert_snapshot!(shell.run_all([
        "jobs submission.cap",
        "status submission.cap j12",
        "log submission.cap j12",
        "cancel submission.cap j12",
        "wait submission.cap j12",
        "explain submission.cap j12",
    ]));
}
