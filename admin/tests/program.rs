//! The `ocluster-admin` program as its users and their scripts see it: what it prints, where, and how it exits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{BufRead, BufReader};

use ocluster_cli::testing::{Shell, transcript};
use ocluster_vat::SecretKey;
use rustix::process::{Pid, Signal, kill_process};

use support::Scheduler;

fn shell() -> Shell {
    Shell::new(env!("CARGO_BIN_EXE_ocluster-admin"))
}

/// A shell in whose directory `admin.cap` leads to the scheduler.
fn shell_at(scheduler: &Scheduler) -> Shell {
    let shell = shell();
    scheduler
        .server
        .cap
        .save(&shell.directory().join("admin.cap"))
        .unwrap();
    shell
}

#[test]
fn help() {
    let commands = [
        "--help",
        "add-client --help",
        "remove-client --help",
        "list-clients --help",
        "set-rate --help",
        "show --help",
        "exec --help",
        "pause --help",
        "unpause --help",
        "drain --help",
        "update --help",
        "forget --help",
        "jobs --help",
        "status --help",
        "cancel --help",
        "requeue --help",
        "explain --help",
        "log --help",
        "completions --help",
        "man --help",
    ];
    insta::assert_snapshot!(shell().run_all(commands));
}

#[test]
fn version_is_a_number() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        shell().run("--version"),
        format!("$ ocluster-admin --version\n--- stdout\n{version}\n--- exit status: 0\n")
    );
}

#[test]
fn mistakes_on_the_command_line() {
    let shell = shell();
    shell.write("admin.cap", "capnp://insecure@127.0.0.1:1/c2VjcmV0");
    insta::assert_snapshot!(shell.run_all([
        "",
        "-c admin.cap",
        "upgrade",
        "un admin.cap",
        "s admin.cap",
        "show",
        "show no.cap",
        "show -c no.cap",
        "show admin.cap linux w1 more",
        "show admin.cap --terse --terse",
        "add-client admin.cap",
        "set-rate admin.cap linux alice",
        "set-rate admin.cap linux alice fast",
        "set-rate admin.cap linux alice -1",
        "exec admin.cap linux",
        "pause admin.cap",
        "unpause admin.cap linux --wait",
    ]));
}

#[test]
fn clients() {
    let scheduler = Scheduler::start(&[]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "list-clients admin.cap",
        "list-clients admin.cap --output=json",
        "add-client admin.cap bob",
        "add-client -c admin.cap alice",
        "add-client admin.cap alice",
        "add-client admin.cap carol --output=json",
        "list-clients admin.cap",
        "list-clients admin.cap --output=json",
        "set-rate admin.cap linux alice 0.5",
        "set-rate admin.cap linux eve 2",
        "set-rate admin.cap nope alice 2",
        "remove-client admin.cap bob",
        "remove-client admin.cap bob",
    ]));
    assert_eq!(scheduler.events(), ["alice's rate in linux is 0.5"]);
}

#[test]
fn show() {
    let scheduler = Scheduler::start(&["a", "b disconnected", "c paused"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "show admin.cap",
        "show admin.cap --output=json",
        "show admin.cap linux",
        "show admin.cap linux --output=json",
        "show admin.cap linux --terse",
        "show admin.cap linux a",
        "show admin.cap linux b",
        "show admin.cap linux c",
        "show admin.cap linux z",
        "show admin.cap linux c --terse",
        "show admin.cap linux z --terse",
        "show admin.cap linux b --output=json",
        "show admin.cap linux z --output=json",
        "show admin.cap nope",
        "show admin.cap nope --terse",
        "show admin.cap nope a",
    ]));
}

#[test]
fn the_cap_may_be_given_in_many_ways_and_commands_be_abbreviated() {
    let scheduler = Scheduler::start(&["a"]);
    let shell = shell_at(&scheduler);
    let uri = scheduler.server.cap.to_uri();
    for line in [
        "show ./admin.cap linux --terse".to_owned(),
        "show linux -c admin.cap --terse".to_owned(),
        "show -c admin.cap linux --terse".to_owned(),
        "-c admin.cap show linux --terse".to_owned(),
        "--connect=admin.cap sho linux --te".to_owned(),
        format!("show {uri} linux --terse"),
        format!("show --connect {uri} linux --terse"),
    ] {
        let output = shell.command(&line).output().unwrap();
        assert_eq!(output.stdout, b"a\n", "{}", transcript(&line, &output));
    }
}

#[test]
fn pause_and_unpause_one() {
    let scheduler = Scheduler::start(&["a", "b disconnected"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "pause admin.cap linux a",
        "show admin.cap linux a",
        "unpause admin.cap linux a",
        "pause admin.cap linux a --wait",
        "pause admin.cap linux b --wait",
        "pause admin.cap linux z",
        "pause admin.cap linux z --auto-create",
        "unpause admin.cap linux z",
        "pause admin.cap nope a",
        "pause admin.cap linux a --wait --output=json",
    ]));
    assert_eq!(
        scheduler.events(),
        [
            "a is paused",
            "a is unpaused",
            "a is paused",
            "a is drained",
            "b is paused",
            "b is drained",
            "z is paused",
            "z is unpaused",
            "a is paused",
            "a is drained",
        ]
    );
}

#[test]
fn pause_and_unpause_all() {
    let scheduler = Scheduler::start(&["a", "b paused", "c disconnected"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "pause admin.cap linux",
        "unpause admin.cap linux",
        "pause admin.cap linux --all",
        "pause admin.cap linux --all",
        "unpause admin.cap linux --all --output=json",
        "unpause admin.cap linux --all --output=json",
    ]));
    assert_eq!(
        scheduler.events(),
        [
            "a is paused",
            "c is paused",
            "a is unpaused",
            "b is unpaused",
            "c is unpaused"
        ]
    );
}

#[test]
fn pause_all_and_wait() {
    let scheduler = Scheduler::start(&["a"]);
    insta::assert_snapshot!(shell_at(&scheduler).run("pause admin.cap linux --all --wait"));
    assert_eq!(scheduler.events(), ["a is paused", "a is drained"]);
}

#[test]
fn a_signal_ends_the_waiting_but_the_worker_stays_paused() {
    let scheduler = Scheduler::start(&["busy"]);
    let shell = shell_at(&scheduler);
    let mut child = shell
        .command("pause admin.cap linux busy --wait")
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.any(|line| line == "busy: Running jobs: 2"));
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(lines.next(), None, "nothing was said after the signal");
    assert_eq!(scheduler.events(), ["busy is paused"]);
}

#[test]
fn a_reader_that_goes_away_is_no_reason_for_words() {
    let scheduler = Scheduler::start(&["a"]);
    let shell = shell_at(&scheduler);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = shell
        .command("show admin.cap linux")
        .stdout(writer)
        .output()
        .unwrap();
    insta::assert_snapshot!(transcript(
        "ocluster-admin show admin.cap linux | true",
        &output
    ));
}

#[test]
fn pools_without_workers() {
    let scheduler = Scheduler::start(&[]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "show admin.cap linux --terse",
        "pause admin.cap linux",
        "pause admin.cap linux --all",
        "unpause admin.cap linux --output=json",
        "forget admin.cap linux",
        "exec admin.cap linux -- echo {}",
    ]));
}

#[test]
fn forget() {
    let scheduler = Scheduler::start(&["a", "b disconnected", "c disconnected paused"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "forget admin.cap linux",
        "forget admin.cap linux a",
        "forget admin.cap linux z",
        "forget admin.cap linux b",
        "forget admin.cap linux c",
        "forget admin.cap linux",
        "forget admin.cap nope a",
    ]));
}

#[test]
fn update_one() {
    let scheduler = Scheduler::start(&["a", "b disconnected", "bad"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "update admin.cap linux a",
        "update admin.cap linux b",
        "update admin.cap linux bad",
        "update admin.cap nope a",
    ]));
    assert_eq!(scheduler.events(), ["a is updated"]);
}

#[test]
fn update_all_starts_with_one() {
    let scheduler = Scheduler::start(&["a", "b disconnected", "c"]);
    insta::assert_snapshot!(shell_at(&scheduler).run("update admin.cap linux"));
    assert_eq!(scheduler.events(), ["a is updated", "c is updated"]);
}

#[test]
fn update_all_when_some_do_not_come_back() {
    let scheduler = Scheduler::start(&["a", "bad"]);
    insta::assert_snapshot!(shell_at(&scheduler).run("update admin.cap linux"));
    assert_eq!(scheduler.events(), ["a is updated"]);
}

#[test]
fn when_the_first_worker_does_not_come_back_the_others_are_spared() {
    let scheduler = Scheduler::start(&["bad", "good"]);
    insta::assert_snapshot!(shell_at(&scheduler).run("update admin.cap linux"));
    assert!(scheduler.events().is_empty());
}

#[test]
fn update_without_connected_workers() {
    let scheduler = Scheduler::start(&["a disconnected"]);
    insta::assert_snapshot!(shell_at(&scheduler).run("update admin.cap linux"));
}

#[test]
fn exec() {
    let scheduler = Scheduler::start(&["a"]);
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "exec admin.cap linux -- echo {} is {}, not x{}",
        "exec -c admin.cap linux -- echo -c {}",
        "exec admin.cap linux echo {}",
        "exec admin.cap linux -- false",
        "exec admin.cap linux -- no-such-program {}",
        "exec admin.cap nope -- echo {}",
    ]));
    shell.write("die.sh", "kill -TERM $$\n");
    insta::assert_snapshot!(
        "exec_signal",
        shell.run("exec admin.cap linux -- sh die.sh")
    );
}

#[test]
fn exec_runs_once_for_every_worker_even_if_one_fails() {
    let scheduler = Scheduler::start(&["a", "b disconnected", "c paused"]);
    let shell = shell_at(&scheduler);
    shell.write("run.sh", "touch ran-for-$1; test $1 != b\n");
    let shown = shell.run("exec admin.cap linux -- sh run.sh {}");
    assert!(
        shown.contains("Sub-process failed with exit code 1\n--- exit status: 1"),
        "{shown}"
    );
    for worker in ["a", "b", "c"] {
        assert!(
            shell.directory().join(format!("ran-for-{worker}")).exists(),
            "{worker}"
        );
    }
}

#[test]
fn caps_that_lead_nowhere() {
    let scheduler = Scheduler::start_with(&[], Some(SecretKey::ephemeral().unwrap()));
    let shell = shell_at(&scheduler);
    shell.write("junk.cap", "hello");
    shell.write("wrong-id.cap", scheduler.server.wrong_id().to_uri());
    shell.write(
        "wrong-key.cap",
        scheduler
            .server
            .wrong_digest(SecretKey::ephemeral().unwrap().digest())
            .to_uri(),
    );
    insta::assert_snapshot!(shell.run_all([
        "show admin.cap",
        "show junk.cap",
        "show wrong-id.cap",
        "show wrong-key.cap",
        "show -c missing.cap",
    ]));
}
