//! Durable jobs as users of the program see them: followed through restarts, left alone, cancelled.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Output, Stdio};

use ocluster_cli::testing::{Shell, transcript};
use rustix::process::Signal;

use support::durable::Keeper;
use support::process::{read_until, rest, signal, terminal};

/// A program that is ended with its test.
struct Running(Option<Child>);

impl Running {
    fn child(&mut self) -> &mut Child {
        self.0.as_mut().unwrap()
    }

    fn read_stdout(&mut self, end: &[u8]) -> Vec<u8> {
        read_until(self.child().stdout.as_mut().unwrap(), end)
    }

    fn read_stderr(&mut self, end: &str) -> String {
        let stderr = self.child().stderr.as_mut().unwrap();
        String::from_utf8(read_until(stderr, end.as_bytes())).unwrap()
    }

    fn signal(&mut self, number: Signal) {
        signal(self.child(), number);
    }

    fn finish(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts the program as a terminal does: no signal is ignored, whatever those ignore who run the tests.
fn start(shell: &Shell, args: &str) -> Running {
    let program = shell.command(args);
    let mut command = Command::new("env");
    command
        .arg("--default-signal=HUP,INT,TERM")
        .arg(program.get_program())
        .args(program.get_args())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(directory) = program.get_current_dir() {
        command.current_dir(directory);
    }
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Running(Some(command.spawn().unwrap()))
}

/// A client that follows a job in a pool where jobs do what the test says, once it has shown the first line.
fn following(keeper: &Keeper, shell: &Shell, options: &str) -> Running {
    let line = format!("submit-docker submission.cap --pool=held {options}");
    let mut client = start(shell, line.trim());
    keeper.wait_until("the job is accepted", |keeper| keeper.jobs().len() == 1);
    keeper.print("j1x", b"started\n");
    client.read_stdout(b"started\n");
    client
}

#[test]
fn what_is_printed_is_what_an_attached_job_prints() {
    let keeper = Keeper::start();
    let shell = keeper.shell();
    let output = shell
        .command("submit-docker submission.cap --pool=linux")
        .output()
        .unwrap();
    assert_eq!(
        output.stdout,
        b"Tailing log:\nBuilding on worker-1\n\x1b[32mstep\xff 1\x1b[0m\nJob succeeded\n"
    );
    insta::assert_snapshot!(shell.run_all([
        "submit-docker submission.cap --pool=linux",
        "submit-docker submission.cap --pool=pushing",
        "submit-docker submission.cap --pool=failing",
        "submit-docker submission.cap --pool=nope",
        "submit-docker submission.cap --pool=pushing --output=json",
        "submit-docker submission.cap --pool=failing --output=json",
        "submit-docker submission.cap --pool=nope --output=json",
    ]));
}

#[test]
fn the_log_goes_on_where_it_stopped_when_the_scheduler_comes_back() {
    let mut keeper = Keeper::start();
    let shell = keeper.shell();
    let mut client = following(&keeper, &shell, "");
    keeper.stop();
    client.read_stderr("reconnecting…\n");
    // Meanwhile the job goes on.
    keeper.print("j1x", b"more of it, said while nobody listened\n");
    keeper.start_again();
    let told = client.read_stderr("Reconnected; the log goes on at byte 8.\n");
    assert!(!told.contains("Lost"), "told twice: {told}");
    client.read_stdout(b"listened\n");
    // And once more, at the end.
    keeper.stop();
    client.read_stderr("reconnecting…\n");
    keeper.print("j1x", b"the end\n");
    keeper.end("j1x", "failed");
    keeper.start_again();
    let output = client.finish();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        "the end\nFailed: Build failed.\n"
    );
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(keeper.submissions(), 1);
}

#[test]
fn every_byte_of_a_long_log_comes_once_through_many_restarts() {
    let mut keeper = Keeper::start();
    let shell = keeper.shell();
    let mut client = following(&keeper, &shell, "");
    let (mut expected, mut read) = (Vec::new(), Vec::new());
    for round in 0..3 {
        let text: Vec<u8> = (0..997).map(|n| b'a' + ((n + round) % 26) as u8).collect();
        keeper.print("j1x", &text);
        expected.extend_from_slice(&text);
        // Somewhere in the middle of it.
        let mut some = [0; 300];
        let stdout = client.child().stdout.as_mut().unwrap();
        stdout.read_exact(&mut some).unwrap();
        read.extend_from_slice(&some);
        keeper.stop();
        client.read_stderr("reconnecting…\n");
        keeper.start_again();
        client.read_stderr("Reconnected; the log goes on at byte ");
    }
    keeper.end("j1x", "passed");
    let output = client.finish();
    read.extend_from_slice(&output.stdout);
    assert!(
        read == expected,
        "{} bytes instead of {}",
        read.len(),
        expected.len()
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_submission_whose_answer_was_lost_makes_one_job() {
    let mut keeper = Keeper::start();
    let shell = keeper.shell();
    keeper.mute(1);
    let mut client = start(&shell, "submit-docker submission.cap --pool=linux");
    keeper.wait_until("the job is accepted", |keeper| keeper.jobs().len() == 1);
    keeper.stop();
    client.read_stderr("reconnecting…\n");
    keeper.start_again();
    let output = client.finish();
    assert!(output.status.success(), "{}", transcript("", &output));
    assert!(output.stdout.ends_with(b"Job succeeded\n"));
    assert_eq!((keeper.submissions(), keeper.jobs().len()), (2, 1));
}

#[test]
fn each_submission_has_a_key_of_its_own_unless_one_is_given() {
    let keeper = Keeper::start();
    let shell = keeper.shell();
    for _ in 0..2 {
        shell.run("submit-docker submission.cap --pool=linux");
    }
    let jobs = keeper.jobs();
    assert_eq!(jobs.len(), 2);
    assert!(jobs.iter().all(|job| job.key.len() == 32), "{jobs:?}");
    insta::assert_snapshot!(shell.run_all([
        "submit-docker submission.cap --pool=held --key=nightly --detach",
        "submit-docker submission.cap --pool=held --key=nightly --detach",
        "submit-docker submission.cap --pool=held --key=nightly --detach --output=json",
        "submit-docker submission.cap --pool=nope --detach",
    ]));
    assert_eq!(keeper.jobs().len(), 3);
}

#[test]
fn limits_and_urgency_reach_the_scheduler() {
    let keeper = Keeper::start();
    let output = keeper
        .shell()
        .command(
            "submit-docker submission.cap --pool=held --detach --urgent --time-limit=2h --queue-limit=1d --silence-limit=90s",
        )
        .output()
        .unwrap();
    assert!(output.status.success());
    let job = keeper.jobs().remove(0);
    assert!(job.urgent);
    assert_eq!(job.limits, [7_200_000, 86_400_000, 90_000]);
}

#[test]
fn what_a_scheduler_does_not_offer_is_not_left_out_silently() {
    let nothing = Keeper::without(&["durable-jobs", "time-limits"]);
    let shell = nothing.shell();
    let mut report = shell.run_all([
        "submit-docker submission.cap --pool=linux --detach",
        "submit-docker submission.cap --pool=linux --key=nightly",
        "submit-docker submission.cap --pool=linux --on-interrupt=detach",
        "submit-docker submission.cap --pool=linux --time-limit=1h",
    ]);
    assert_eq!(nothing.submissions(), 0);
    let no_limits = Keeper::without(&["time-limits"]);
    report.push_str(
        &no_limits
            .shell()
            .run("submit-docker submission.cap --pool=linux --silence-limit=1m"),
    );
    assert_eq!(no_limits.submissions(), 0);
    insta::assert_snapshot!(report);
}

#[test]
fn signals_cancel_the_job_where_nobody_can_be_asked() {
    let mut report = String::new();
    for (name, number) in [("SIGINT", Signal::INT), ("SIGTERM", Signal::TERM)] {
        let keeper = Keeper::start();
        let shell = keeper.shell();
        let mut client = following(&keeper, &shell, "--on-interrupt=ask");
        client.signal(number);
        report.push_str(&transcript(name, &client.finish()));
        let job = keeper.jobs().remove(0);
        assert_eq!(job.state, "cancelled");
        report.push_str(&format!("reason: {}\n", job.stopped.join(", ")));
    }
    insta::assert_snapshot!(report);
}

#[test]
fn signals_leave_the_job_alone_if_that_is_wanted() {
    let mut report = String::new();
    for (name, number) in [("SIGINT", Signal::INT), ("SIGTERM", Signal::TERM)] {
        let keeper = Keeper::start();
        let shell = keeper.shell();
        let mut client = following(&keeper, &shell, "--on-interrupt=detach");
        client.signal(number);
        report.push_str(&transcript(name, &client.finish()));
        assert_eq!(keeper.jobs().remove(0).state, "running");
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_terminal_that_goes_away_leaves_the_job_alone() {
    let keeper = Keeper::start();
    let shell = keeper.shell();
    let mut client = following(&keeper, &shell, "");
    client.signal(Signal::HUP);
    assert!(!client.finish().status.success());
    let job = keeper.jobs().remove(0);
    assert_eq!((job.state, job.stopped.len()), ("running", 0));
}

#[test]
fn a_cancellation_that_is_not_confirmed_is_not_waited_for_long() {
    let keeper = Keeper::start();
    keeper.stubborn();
    let shell = keeper.shell();
    let mut client = following(&keeper, &shell, "");
    client.signal(Signal::TERM);
    insta::assert_snapshot!(transcript("SIGTERM", &client.finish()));
}

#[test]
fn a_job_can_be_cancelled_while_the_scheduler_restarts() {
    let mut keeper = Keeper::start();
    let shell = keeper.shell();
    let mut client = following(&keeper, &shell, "");
    keeper.stop();
    client.read_stderr("reconnecting…\n");
    client.signal(Signal::INT);
    keeper.start_again();
    let output = client.finish();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.ends_with("Interrupted: job j1x was cancelled.\n"),
        "{stderr}"
    );
    assert_eq!(output.status.code(), Some(130));
    assert_eq!(keeper.jobs().remove(0).state, "cancelled");
}

#[test]
fn a_signal_before_the_job_is_accepted_waits_for_that_and_cancels_it() {
    let mut keeper = Keeper::start();
    let shell = keeper.shell();
    keeper.mute(1);
    let mut client = start(&shell, "submit-docker submission.cap --pool=held");
    keeper.wait_until("the job is accepted", |keeper| keeper.jobs().len() == 1);
    keeper.stop();
    client.read_stderr("reconnecting…\n");
    client.signal(Signal::INT);
    keeper.start_again();
    assert_eq!(client.finish().status.code(), Some(130));
    assert_eq!(keeper.jobs().remove(0).state, "cancelled");
}

#[test]
fn a_job_goes_on_when_nobody_reads_its_log_any_more() {
    let keeper = Keeper::start();
    let shell = keeper.shell();
    let mut client = following(&keeper, &shell, "");
    drop(client.child().stdout.take());
    keeper.print("j1x", b"to nobody\n");
    insta::assert_snapshot!(transcript("| head", &client.finish()));
    let job = keeper.jobs().remove(0);
    assert_eq!((job.state, job.stopped.len()), ("running", 0));
}

/// A client at a terminal, which is also where a person types.
fn at_terminal(keeper: &Keeper, shell: &Shell) -> (Running, std::fs::File) {
    let (person, program) = terminal();
    let mut command = shell.command("submit-docker submission.cap --pool=held");
    command
        .stdin(program.try_clone().unwrap())
        .stderr(program)
        .stdout(Stdio::piped());
    let client = Running(Some(command.spawn().unwrap()));
    keeper.wait_until("the job is accepted", |keeper| keeper.jobs().len() == 1);
    (client, person)
}

fn asked(client: &mut Running, person: &mut std::fs::File) {
    client.signal(Signal::INT);
    read_until(person, b"[c]ancel/[l]eave/[r]esume ");
}

#[test]
fn on_a_terminal_an_interrupt_asks() {
    let keeper = Keeper::start();
    let shell = keeper.shell();
    let (mut client, mut person) = at_terminal(&keeper, &shell);
    read_until(&mut person, b"-f\r\n");
    asked(&mut client, &mut person);
    // Nonsense is asked about again,
    person.write_all(b"maybe\n").unwrap();
    read_until(&mut person, b"[c]ancel/[l]eave/[r]esume ");
    // resuming goes on with the log,
    person.write_all(b"r\n").unwrap();
    keeper.print("j1x", b"started\n");
    client.read_stdout(b"started\n");
    // and cancelling cancels.
    asked(&mut client, &mut person);
    person.write_all(b"c\n").unwrap();
    let shown = String::from_utf8(read_until(&mut person, b"cancelled.\r\n")).unwrap();
    assert!(
        shown.ends_with("Interrupted: job j1x was cancelled.\r\n"),
        "{shown}"
    );
    assert_eq!(client.finish().status.code(), Some(130));
    assert_eq!(keeper.jobs().remove(0).state, "cancelled");
}

#[test]
fn a_second_interrupt_while_asked_leaves_the_job_running() {
    for answer in [None, Some(b"l\n")] {
        let keeper = Keeper::start();
        let shell = keeper.shell();
        let (mut client, mut person) = at_terminal(&keeper, &shell);
        read_until(&mut person, b"-f\r\n");
        asked(&mut client, &mut person);
        match answer {
            Some(answer) => person.write_all(answer).unwrap(),
            None => client.signal(Signal::INT),
        }
        let shown = String::from_utf8(read_until(&mut person, b"-f\r\n")).unwrap();
        assert!(
            shown.contains("Job j1x is left running; follow it again with: ocluster-client log submission.cap j1x -f"),
            "{shown}"
        );
        assert_eq!(client.finish().status.code(), Some(130));
        assert_eq!(keeper.jobs().remove(0).stopped.len(), 0);
    }
}

#[test]
fn sigterm_never_asks() {
    let keeper = Keeper::start();
    let shell = keeper.shell();
    let (mut client, mut person) = at_terminal(&keeper, &shell);
    read_until(&mut person, b"-f\r\n");
    client.signal(Signal::TERM);
    assert_eq!(client.finish().status.code(), Some(143));
    let shown = rest(&mut person);
    assert!(!shown.contains("[c]ancel"), "{shown}");
    assert_eq!(keeper.jobs().remove(0).state, "cancelled");
}

#[test]
fn a_terminal_shows_why_a_job_waits_until_it_does_not() {
    let keeper = Keeper::start();
    let shell = keeper.shell();
    let (client, mut person) = at_terminal(&keeper, &shell);
    read_until(
        &mut person,
        b"[ It waits for a worker: 12 jobs come before it. ]",
    );
    keeper.print("j1x", b"started\n");
    read_until(&mut person, b"\r\x1b[K");
    keeper.end("j1x", "passed");
    let output = client.finish();
    assert_eq!(output.stdout, b"Tailing log:\nstarted\n");
    assert_eq!(rest(&mut person), "");
}

#[test]
fn without_a_terminal_nothing_is_shown_of_waiting() {
    let keeper = Keeper::start();
    let shell = keeper.shell();
    let mut client = start(&shell, "submit-docker submission.cap --pool=held");
    client.read_stderr("-f\n");
    // As long as it takes until a terminal would show something.
    std::thread::sleep(std::time::Duration::from_millis(1200));
    keeper.end("j1x", "passed");
    let mut client = client;
    let mut stderr = String::new();
    let stream = client.child().stderr.as_mut().unwrap();
    stream.read_to_string(&mut stderr).unwrap();
    assert_eq!(stderr, "");
    assert!(client.finish().status.success());
}
