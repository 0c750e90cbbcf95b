//! The `ocluster-client` program as its users see it: what it prints, where, and how it exits.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::process::{Child, Output};

use ocluster_api::{Action, Dockerfile};
use ocluster_cli::testing::{Shell, transcript};
use ocluster_vat::SecretKey;
use rustix::process::Signal;

use support::process::{read_until, rest, signal, terminal};
use support::{Event, Scheduler};

fn shell() -> Shell {
    Shell::new(env!("CARGO_BIN_EXE_ocluster-client"))
}

/// A shell in whose directory `submission.cap` leads to the scheduler.
fn shell_at(scheduler: &Scheduler) -> Shell {
    let shell = shell();
    scheduler
        .server
        .cap
        .save(&shell.directory().join("submission.cap"))
        .unwrap();
    shell.write("Dockerfile", "FROM busybox\nRUN true\n");
    shell
}

#[test]
fn help() {
    let shell = shell();
    insta::assert_snapshot!(shell.run_all([
        "--help",
        "submit-docker --help",
        "submit-obuilder --help",
        "jobs --help",
        "status --help",
        "log --help",
        "cancel --help",
        "wait --help",
        "explain --help",
        "completions --help",
        "man --help",
    ]));
}

#[test]
fn version_is_a_number() {
    let expected = format!(
        "$ ocluster-client --version\n--- stdout\n{}\n--- exit status: 0\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(shell().run("--version"), expected);
}

#[test]
fn mistakes_on_the_command_line() {
    let shell = shell();
    shell.write("a.cap", "capnp://insecure@127.0.0.1:1/c2VjcmV0");
    shell.write("password", "hunter2\n");
    insta::assert_snapshot!(shell.run_all([
        "",
        "-c a.cap",
        "submit",
        "submit-docker",
        "submit-docker a.cap",
        "submit-docker no.cap --pool=linux",
        "submit-docker a.cap --pool=linux --pool=arm",
        "submit-docker a.cap --pool=linux --local-dockerfile=a.cap --context-dockerfile=x",
        "submit-docker a.cap --pool=linux --local-dockerfile=nothing",
        "submit-docker a.cap --pool=linux --push-to=foo",
        "submit-docker a.cap --pool=linux --push-user=me",
        "submit-docker a.cap --pool=linux --push-password=password",
        "submit-docker a.cap --pool=linux --push-to=a:b --push-user=me",
        "submit-docker a.cap --pool=linux --push-to=a:b --push-password=password",
        "submit-docker a.cap --pool=linux --secret=token",
        "submit-docker a.cap --pool=linux --secret=token:nothing",
        "submit-docker a.cap --pool=linux --output=xml",
        "submit-docker a.cap --pool=linux https://example.org/app.git",
        "submit-obuilder a.cap --pool=linux",
        "submit-docker a.cap --pool=linux --attached --detach",
        "submit-docker a.cap --pool=linux --attached --on-interrupt=detach",
        "submit-docker a.cap --pool=linux --on-interrupt=maybe",
        "submit-docker a.cap --pool=linux --time-limit=soon",
        "submit-docker a.cap --pool=linux --time-limit=0s",
        "submit-docker a.cap --pool=linux --key=",
        "jobs a.cap --state=asleep",
        "jobs a.cap --all --limit=3",
        "status a.cap",
        "log a.cap j12 --since=yesterday",
        "wait a.cap",
    ]));
}

#[test]
fn a_job_that_succeeds() {
    let scheduler = Scheduler::start();
    let shell = shell_at(&scheduler);
    // As OCluster's README has it.
    insta::assert_snapshot!(
        shell.run("submit-docker ./submission.cap --cache-hint tutorial --pool=linux --local-dockerfile Dockerfile")
    );
    let Event::Submitted(pool, urgent, spec) = scheduler.next_event() else {
        panic!()
    };
    assert_eq!(
        (pool.as_str(), urgent, spec.cache_hint.as_str()),
        ("linux", false, "tutorial")
    );
    let Action::Docker(build) = spec.action else {
        panic!("{:?}", spec.action)
    };
    assert_eq!(
        build.dockerfile,
        Dockerfile::Contents("FROM busybox\nRUN true\n".to_owned())
    );
}

#[test]
fn the_log_is_passed_on_byte_for_byte() {
    let scheduler = Scheduler::start();
    let output = shell_at(&scheduler)
        .command("submit-docker submission.cap --pool=linux")
        .output()
        .unwrap();
    assert_eq!(
        output.stdout,
        b"Tailing log:\nBuilding on worker-1\n\x1b[32mstep\xff 1\x1b[0m\nJob succeeded\n"
    );
}

#[test]
fn the_cap_may_be_given_in_many_ways_and_options_be_abbreviated() {
    let scheduler = Scheduler::start();
    let shell = shell_at(&scheduler);
    let uri = scheduler.server.cap.to_uri();
    for line in [
        format!("submit-docker {uri} --pool=linux"),
        format!("submit-docker --connect={uri} --pool=linux"),
        "submit-docker -c submission.cap --pool linux".to_owned(),
        "-c submission.cap submit-docker --po linux --urg".to_owned(),
        "--connect=submission.cap submit-d --pool=linux https://example.org/app.git abc".to_owned(),
    ] {
        let output = shell.command(&line).output().unwrap();
        assert!(output.status.success(), "{}", transcript(&line, &output));
    }
    let Some(Event::Submitted(_, _, last)) = scheduler.seen.lock().unwrap().last().cloned() else {
        panic!()
    };
    let source = last.source.unwrap();
    assert_eq!(
        (source.repository.as_str(), source.commits),
        ("https://example.org/app.git", vec!["abc".to_owned()])
    );
    let urgent = |event: &Event| matches!(event, Event::Submitted(_, true, _));
    assert_eq!(
        scheduler
            .seen
            .lock()
            .unwrap()
            .iter()
            .filter(|event| urgent(event))
            .count(),
        1
    );
}

#[test]
fn an_obuilder_job() {
    let scheduler = Scheduler::start();
    let shell = shell_at(&scheduler);
    shell.write("spec", "((from busybox))");
    let output = shell
        .command("submit-obuilder submission.cap --pool=linux --local-file=spec")
        .output()
        .unwrap();
    assert!(output.status.success());
    let Event::Submitted(_, _, spec) = scheduler.next_event() else {
        panic!()
    };
    assert_eq!(
        spec.action,
        Action::OBuilder {
            spec: "((from busybox))".to_owned()
        }
    );
}

#[test]
fn how_jobs_end() {
    let scheduler = Scheduler::start();
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "submit-docker submission.cap --pool=pushing",
        "submit-docker submission.cap --pool=failing",
        "submit-docker submission.cap --pool=lost",
        "submit-docker submission.cap --pool=nope",
        "submit-docker submission.cap --pool=revoked",
        "submit-docker submission.cap --pool=stuck",
    ]));
}

#[test]
fn results_for_programs() {
    let scheduler = Scheduler::start();
    let shell = shell_at(&scheduler);
    insta::assert_snapshot!(shell.run_all([
        "submit-docker submission.cap --output=json --pool=linux",
        "submit-docker submission.cap --output=json --pool=pushing",
        "submit-docker submission.cap --output=json --pool=failing",
        "submit-docker submission.cap --output=json --pool=nope",
    ]));
}

#[test]
fn caps_that_lead_nowhere() {
    let scheduler = Scheduler::start_with(Some(SecretKey::ephemeral().unwrap()));
    let plain = Scheduler::start();
    let shell = shell_at(&scheduler);
    let write = |name: &str, text: String| shell.write(name, text);
    let good = scheduler.server.cap.to_uri();
    write("junk.cap", "hello".to_owned());
    write("empty.cap", String::new());
    write("other-scheme.cap", "https://example.org/".to_owned());
    write(
        "truncated.cap",
        good[..good.find('@').unwrap() + 5].to_owned(),
    );
    write("no-id.cap", good[..good.rfind('/').unwrap()].to_owned());
    write(
        "no-port.cap",
        "capnp://insecure@127.0.0.1/c2VjcmV0".to_owned(),
    );
    write(
        "unknown-hash.cap",
        "capnp://md5:abc@127.0.0.1:1/c2VjcmV0".to_owned(),
    );
    write("wrong-id.cap", scheduler.server.wrong_id().to_uri());
    write(
        "wrong-key.cap",
        scheduler
            .server
            .wrong_digest(SecretKey::ephemeral().unwrap().digest())
            .to_uri(),
    );
    write(
        "not-tls.cap",
        plain
            .server
            .wrong_digest(SecretKey::ephemeral().unwrap().digest())
            .to_uri(),
    );
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    write("refused.cap", format!("capnp://insecure@{closed}/c2VjcmV0"));
    shell.write("binary.cap", [0xff, 0xfe, 0]);
    std::fs::create_dir(shell.directory().join("directory.cap")).unwrap();
    let names = [
        "submission",
        "junk",
        "empty",
        "binary",
        "directory",
        "other-scheme",
        "truncated",
        "no-id",
        "no-port",
        "unknown-hash",
        "wrong-id",
        "wrong-key",
        "not-tls",
        "refused",
        "missing",
    ];
    let report: Vec<String> = names
        .iter()
        .map(|name| shell.run(&format!("submit-docker {name}.cap --pool=linux")))
        .collect();
    let report = report.join("\n");
    let secret = &good[good.rfind('/').unwrap() + 1..];
    assert!(!report.contains(secret), "the secret was shown");
    insta::assert_snapshot!(report);
}

#[test]
fn a_plain_cap_for_a_tls_scheduler() {
    let scheduler = Scheduler::start_with(Some(SecretKey::ephemeral().unwrap()));
    let shell = shell();
    shell.write(
        "plain.cap",
        scheduler
            .server
            .wrong_digest(ocluster_vat::Digest::Insecure)
            .to_uri(),
    );
    let output = shell
        .command("submit-docker plain.cap --pool=linux")
        .output()
        .unwrap();
    let shown = transcript("", &output);
    assert_eq!(output.status.code(), Some(1), "{shown}");
    assert!(
        shown.contains("Error tailing logs: Disconnected: "),
        "{shown}"
    );
}

#[test]
fn info_logging_replaces_the_progress_line() {
    let scheduler = Scheduler::start();
    let output = shell_at(&scheduler)
        .command("submit-docker -v submission.cap --pool=linux")
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("            cli [INFO] Connecting to tcp:127.0.0.1:"),
        "{stderr}"
    );
    assert!(!stderr.contains("OK"), "{stderr}");
}

#[test]
fn a_terminal_is_not_told_of_a_quick_connection() {
    let scheduler = Scheduler::start();
    let shell = shell_at(&scheduler);
    let (mut person, program) = terminal();
    let status = shell
        .command("submit-docker submission.cap --pool=linux --attached")
        .stderr(program)
        .status()
        .unwrap();
    assert!(status.success());
    assert_eq!(rest(&mut person), "");
}

#[test]
fn a_terminal_shows_a_slow_connection_while_it_lasts() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let digest = SecretKey::ephemeral().unwrap().digest();
    let address = silent.local_addr().unwrap();
    let (mut person, program) = terminal();
    let shell = shell();
    let mut child = shell
        .command(&format!(
            "submit-docker capnp://{digest}@{address}/c2VjcmV0 --pool=linux"
        ))
        .stderr(program)
        .spawn()
        .unwrap();
    let shown = read_until(&mut person, b"]");
    assert_eq!(
        String::from_utf8(shown).unwrap(),
        format!("[ connecting to tcp:{address} ]")
    );
    drop(silent.accept().unwrap());
    let shown = rest(&mut person);
    assert!(shown.starts_with("\r\u{1b}[KFailed: "), "{shown:?}");
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

/// Starts a client and waits until it shows the first line of its job's log.
fn start_and_see_log(shell: &Shell, pool: &str) -> Child {
    let mut child = shell
        .command(&format!("submit-docker submission.cap --pool={pool}"))
        .spawn()
        .unwrap();
    read_until(child.stdout.as_mut().unwrap(), b"started\n");
    child
}

fn finish(child: Child, what: &str) -> (String, Output) {
    let output = child.wait_with_output().unwrap();
    (transcript(what, &output), output)
}

#[test]
fn signals_cancel_the_job() {
    let mut report = String::new();
    for (name, number) in [("SIGINT", Signal::INT), ("SIGTERM", Signal::TERM)] {
        let scheduler = Scheduler::start();
        let child = start_and_see_log(&shell_at(&scheduler), "running");
        signal(&child, number);
        report.push_str(&finish(child, name).0);
        assert!(matches!(scheduler.next_event(), Event::Submitted(..)));
        assert_eq!(scheduler.next_event(), Event::Cancelled);
    }
    insta::assert_snapshot!(report);
}

#[test]
fn a_scheduler_that_does_not_confirm_is_not_waited_for_long() {
    let scheduler = Scheduler::start();
    let child = start_and_see_log(&shell_at(&scheduler), "stubborn");
    signal(&child, Signal::INT);
    insta::assert_snapshot!(finish(child, "SIGINT").0);
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let scheduler = Scheduler::start();
    let child = start_and_see_log(&shell_at(&scheduler), "stubborn");
    signal(&child, Signal::INT);
    // Another kind of signal: two of a kind could become one.
    signal(&child, Signal::TERM);
    let (shown, output) = finish(child, "SIGINT, SIGTERM");
    assert!(matches!(output.status.code(), Some(130 | 143)), "{shown}");
    assert!(!shown.contains("did not confirm"), "{shown}");
}

#[test]
fn when_nobody_reads_the_log_the_job_is_cancelled_quietly() {
    let scheduler = Scheduler::start();
    let shell = shell_at(&scheduler);
    let mut child = shell
        .command("submit-docker submission.cap --pool=endless")
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    read_until(&mut stdout, b"....");
    drop(stdout);
    insta::assert_snapshot!(finish(child, "| head").0);
    assert!(matches!(scheduler.next_event(), Event::Submitted(..)));
    assert_eq!(scheduler.next_event(), Event::Cancelled);
}

#[test]
fn a_signal_ends_a_connection_attempt() {
    // Listens, but never says a word of TLS.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let digest = SecretKey::ephemeral().unwrap().digest();
    let shell = shell();
    shell.write(
        "silent.cap",
        format!("capnp://{digest}@{}/c2VjcmV0", silent.local_addr().unwrap()),
    );
    let mut child = shell
        .command("submit-docker silent.cap --pool=linux")
        .spawn()
        .unwrap();
    read_until(child.stderr.as_mut().unwrap(), b"... ");
    let _accepted = silent.accept().unwrap();
    signal(&child, Signal::INT);
    assert_eq!(child.wait().unwrap().code(), Some(130));
}
