//! How the child ends: killed by a cancel, by a silent server, by accident, with its worker; and what it leaves.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ocluster_git_context::{Cause, ChildCommand, GitError, Request, prepare};
use tokio_util::sync::CancellationToken;

use super::servers::{Daemon, Silent, Slow};
use super::sources::{Noise, Source};
use super::workshop::{Workshop, is_empty, run};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A child command that can be found in the process table.
fn marked(mark: &str) -> ChildCommand {
    ChildCommand::new(env!("CARGO_BIN_EXE_git-context-child"), [mark])
}

/// Processes that have `mark` as their only argument and are not zombies.
fn processes(mark: &str) -> Vec<i32> {
    let end = format!("\0{mark}\0");
    let numbers = fs::read_dir("/proc").unwrap().flatten();
    numbers
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.ends_with(&end) && line.matches('\0').count() == 2
        })
        .collect()
}

fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

/// Starts `request` and waits until its child is connected to the silent server.
async fn hanging(
    request: Request,
    mark: &'static str,
    server: Silent,
    cancel: CancellationToken,
) -> (
    tokio::task::JoinHandle<Result<ocluster_git_context::Prepared, GitError>>,
    std::net::TcpStream,
) {
    let job =
        tokio::spawn(async move { prepare(&request, &marked(mark), &mut |_| {}, &cancel).await });
    let client = server.client().await;
    (job, client)
}

#[tokio::test]
async fn a_cancel_ends_a_hanging_fetch_within_a_second_and_leaves_nothing() {
    for (scheme, mark) in [("git", "mark-cancel-git"), ("http", "mark-cancel-http")] {
        let workshop = Workshop::new();
        let server = Silent::listen();
        let request = workshop.request(&server.url(scheme), &[COMMIT]);
        let destination = request.destination.clone();
        let cancel = CancellationToken::new();
        let (job, _client) = hanging(request, mark, server, cancel.clone()).await;
        assert_eq!(processes(mark).len(), 1);
        let asked = Instant::now();
        cancel.cancel();
        assert_eq!(job.await.unwrap(), Err(GitError::Cancelled));
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{:?}",
            asked.elapsed()
        );
        assert_eq!(processes(mark), [0; 0]);
        assert!(is_empty(&destination));
    }
}

#[tokio::test]
async fn a_cancel_at_any_line_of_the_log_leaves_a_cache_that_works() {
    let workshop = Workshop::new();
    let lib = Source::new(&workshop.served(), "lib");
    let lib_commit = lib.commit_file("l", "1");
    let main = Source::new(&workshop.served(), "main");
    let url_of_lib = "[submodule \"s\"]\n\tpath = s\n\turl = ../lib\n";
    main.write("a", "1")
        .write(".gitmodules", url_of_lib)
        .git(&["add", "a", ".gitmodules"]);
    main.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{lib_commit},s"),
    ]);
    main.git(&["commit", "-q", "-m", "with a submodule"]);
    let commit = main.head();
    let server = Daemon::serve(&workshop.served());
    let url = server.url("main");
    let mut lines = 0;
    for stop_at in 0.. {
        std::fs::remove_dir_all(workshop.cache()).ok();
        let request = workshop.request(&url, &[&commit]);
        let cancel = CancellationToken::new();
        lines = 0;
        let mut sink = |_: &[u8]| {
            if lines == stop_at {
                cancel.cancel();
            }
            lines += 1;
        };
        let result = prepare(&request, &marked("mark-lines"), &mut sink, &cancel).await;
        if lines <= stop_at {
            assert!(result.is_ok(), "{result:?}");
            break;
        }
        // The last lines may come together with the result.
        if result.is_err() {
            assert_eq!(result, Err(GitError::Cancelled));
            assert!(is_empty(&request.destination));
        }
        let outcome = workshop.prepare(&url, &[&commit]).await;
        assert_eq!(
            (outcome.text("a"), outcome.text("s/l")),
            ("1".into(), "1".into())
        );
        assert!(!outcome.log.contains("corrupted"), "{}", outcome.log);
    }
    assert!(lines >= 6, "{lines}");
}

#[tokio::test]
async fn a_job_cancelled_before_it_starts_does_nothing() {
    let workshop = Workshop::new();
    let request = workshop.request("git://127.0.0.1:1/x", &[COMMIT]);
    let cancel = CancellationToken::new();
    cancel.cancel();
    let outcome = super::workshop::run_until(&request, &cancel).await;
    assert_eq!(outcome.failure(), "Cancelled");
    assert_eq!(outcome.result.unwrap_err().cause(), Cause::Cancelled);
}

#[tokio::test]
async fn dropping_the_future_ends_the_child() {
    let mark = "mark-dropped";
    let workshop = Workshop::new();
    let server = Silent::listen();
    let request = workshop.request(&server.url("git"), &[COMMIT]);
    let (job, _client) = hanging(request, mark, server, CancellationToken::new()).await;
    assert_eq!(processes(mark).len(), 1);
    job.abort();
    assert!(job.await.unwrap_err().is_cancelled());
    until(|| processes(mark).is_empty()).await;
}

#[tokio::test]
async fn a_silent_server_is_given_up_by_name() {
    for scheme in ["git", "http"] {
        let workshop = Workshop::new();
        let server = Silent::listen();
        let host = server.host();
        let mut request = workshop.request(&server.url(scheme), &[COMMIT]);
        request.silence_limit = Duration::from_secs(1);
        let outcome = run(&request).await;
        assert_eq!(
            outcome.failure(),
            format!("git server {host} sent nothing for 1 s")
        );
        assert_eq!(outcome.result.unwrap_err().cause(), Cause::Server);
    }
}

#[tokio::test]
async fn a_slow_server_is_not_a_silent_one_and_the_log_tells_how_far_it_is() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let mut noise = Noise(1);
    for number in 0..40 {
        source.write(&format!("f{number}"), &noise.letters(60_000));
    }
    let commit = source.commit("much");
    let daemon = Daemon::serve(&workshop.served());
    let server = Slow::before(&daemon, 32 * 1024, Duration::from_millis(60));
    let mut request = workshop.request(&server.url("repo"), &[&commit]);
    request.silence_limit = Duration::from_millis(1500);
    let started = Instant::now();
    let outcome = run(&request).await;
    assert_eq!(outcome.commit(), commit);
    assert!(
        started.elapsed() > request.silence_limit,
        "too quick to show anything"
    );
    assert!(
        outcome.log.contains("Receiving objects: "),
        "{}",
        outcome.log
    );
    let lines = outcome.log.matches("Receiving objects: ").count();
    assert!(lines < 20, "{lines} lines for 42 objects");
}

#[tokio::test]
async fn a_killed_child_is_an_error_and_the_next_job_works() {
    let mark = "mark-killed";
    let workshop = Workshop::new();
    let server = Silent::listen();
    let url = server.url("git");
    let (job, _client) = hanging(
        workshop.request(&url, &[COMMIT]),
        mark,
        server,
        CancellationToken::new(),
    )
    .await;
    kill(processes(mark)[0]);
    let error = job.await.unwrap().unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "The git process of this worker ended early (signal: 9 (SIGKILL)) while fetching from {url}"
        )
    );
    assert_eq!(error.cause(), Cause::Worker);
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    let server = Daemon::serve(&workshop.served());
    assert_eq!(
        workshop
            .prepare(&server.url("repo"), &[&commit])
            .await
            .text("a"),
        "1"
    );
}

#[tokio::test]
async fn a_program_that_is_no_child_is_an_error() {
    let workshop = Workshop::new();
    let request = workshop.request("git://127.0.0.1:1/x", &[COMMIT]);
    for (program, expected) in [
        (
            "/bin/true",
            "The git process of this worker ended early (exit status: 0) while starting",
        ),
        (
            "/missing/program",
            "starting /missing/program failed on this worker: ",
        ),
    ] {
        let child = ChildCommand::new(program, Vec::<String>::new());
        let result = prepare(&request, &child, &mut |_| {}, &CancellationToken::new()).await;
        let error = result.unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

#[tokio::test]
async fn the_child_dies_with_its_worker() {
    let mark = "mark-orphan";
    let workshop = Workshop::new();
    let server = Silent::listen();
    let mut worker = Command::new(env!("CARGO_BIN_EXE_git-context-child"))
        .args(["worker", &server.url("git"), COMMIT])
        .arg(workshop.cache())
        .arg(workshop.dir.path().join("context"))
        .arg(mark)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let _client = server.client().await;
    assert_eq!(processes(mark).len(), 1);
    worker.kill().unwrap();
    worker.wait().unwrap();
    until(|| processes(mark).is_empty()).await;
}

#[tokio::test]
async fn the_child_inherits_no_sockets_and_no_files() {
    let mark = "mark-files";
    let workshop = Workshop::new();
    let server = Silent::listen();
    let request = workshop.request(&server.url("git"), &[COMMIT]);
    let cancel = CancellationToken::new();
    let (job, client) = hanging(request, mark, server, cancel.clone()).await;
    let child = processes(mark)[0];
    let ours = open_files("self");
    let opened_here = |target: &str| ours.iter().any(|(_, ours)| ours == target);
    // What this process itself got from whoever started it, and no socket, is none of our business.
    let given = |number: u32, target: &str| {
        !target.starts_with("socket:")
            && ours
                .iter()
                .any(|(ours, at)| *ours == number && at == target)
    };
    let sockets = ours
        .iter()
        .filter(|(_, target)| target.starts_with("socket:"))
        .count();
    assert!(sockets >= 2, "this process has the listener and {client:?}");
    let mut own_sockets = 0;
    for (number, target) in open_files(&child.to_string()) {
        if number <= 2 || (given(number, &target) && !is_closed_on_exec(number)) {
            continue;
        }
        assert!(!opened_here(&target), "inherited {number}: {target}");
        if target.starts_with("socket:") {
            own_sockets += 1;
        } else {
            assert!(
                Path::new(&target).starts_with(workshop.cache()),
                "{number}: {target}"
            );
        }
    }
    assert_eq!(own_sockets, 1, "its connection to the server");
    cancel.cancel();
    assert_eq!(job.await.unwrap(), Err(GitError::Cancelled));
}

fn open_files(pid: &str) -> Vec<(u32, String)> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    entries
        .filter_map(|entry| {
            let entry = entry.unwrap();
            // The directory being read is itself among ours, and gone by the time it is looked up.
            let target = fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().to_string_lossy().parse().unwrap();
            Some((number, target.to_string_lossy().into_owned()))
        })
        .collect()
}

/// Whether a file of this process is closed in the programs it starts.
fn is_closed_on_exec(number: u32) -> bool {
    const O_CLOEXEC: u32 = 0o2_000_000;
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    let flags = info
        .lines()
        .find_map(|line| line.strip_prefix("flags:"))
        .unwrap();
    u32::from_str_radix(flags.trim(), 8).unwrap() & O_CLOEXEC != 0
}

/// Waits for a condition, for at most some seconds.
async fn until(condition: impl Fn() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < give_up, "the condition does not come true");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
