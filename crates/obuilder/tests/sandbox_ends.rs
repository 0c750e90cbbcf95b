//! How steps are ended: by limits, by cancelling, by the end of the worker; and what is left then, which is nothing.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod sandbox_support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocluster_obuilder::StepLog;
use ocluster_obuilder::sandbox::{
    Ended, Limits, RuncConfig, RuncSandbox, Sandbox as _, SandboxError,
};
use sandbox_support::{Bench, files, leftovers, processes, read, script, wait_for};
use tokio_util::sync::CancellationToken;

const MIB: u64 = 1 << 20;

/// Uses memory until there is none. The shell itself survives, and fails with the part that was killed.
const GREEDY: &str = "echo go; sh -c 'x=0123456789abcdef; while :; do x=$x$x; done'; exit $?";

#[tokio::test]
async fn a_step_whose_part_is_killed_for_its_memory_is_out_of_memory() {
    let bench = Bench::new().await;
    let mut step = bench.step(GREEDY);
    step.limits.memory = Some(64 * MIB);
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::OutOfMemory, "{}", outcome.text());
    assert_eq!(outcome.text().lines().next(), Some("go"));
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_step_that_is_killed_for_its_memory_itself_is_out_of_memory() {
    let bench = Bench::new().await;
    let mut step = bench.step("x=0123456789abcdef; while :; do x=$x$x; done");
    step.limits.memory = Some(64 * MIB);
    assert_eq!(bench.run(step).await.ended(), Ended::OutOfMemory);
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_step_that_goes_on_after_a_part_was_killed_for_its_memory_ends_as_it_says() {
    let bench = Bench::new().await;
    let mut step = bench.step("sh -c 'x=0123456789abcdef; while :; do x=$x$x; done'; exit 0");
    step.limits.memory = Some(64 * MIB);
    assert_eq!(bench.run(step).await.ended(), Ended::Exited(0));
    bench.close();
}

#[tokio::test]
async fn a_step_within_its_limits_ends_by_itself() {
    let bench = Bench::new().await;
    let mut step = bench.step("dd if=/dev/zero of=/dev/shm/x bs=1M count=20 2>/dev/null; exit 137");
    step.limits = Limits {
        memory: Some(64 * MIB),
        cpus: Some(1.0),
        pids: Some(50),
        time: Some(Duration::from_secs(60)),
        output: Some(MIB),
    };
    assert_eq!(bench.run(step).await.ended(), Ended::Exited(137));
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_step_with_too_little_memory_to_start_is_out_of_memory() {
    let bench = Bench::new().await;
    let mut step = bench.step("echo started");
    step.limits.memory = Some(64 * 1024);
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::OutOfMemory, "{}", outcome.text());
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_step_has_no_more_processes_than_it_may() {
    let bench = Bench::new().await;
    let fork = "i=0; while [ $i -lt 40 ]; do sleep 1000 & i=$((i+1)); done; echo all";
    let mut step = bench.step(fork);
    step.limits.pids = Some(20);
    let outcome = bench.run(step).await;
    assert_ne!(outcome.ended(), Ended::Exited(0), "{}", outcome.text());
    assert!(!outcome.text().contains("all"), "{}", outcome.text());
    bench.nothing_left();
    let mut step = bench.step(fork);
    step.limits.pids = Some(200);
    assert_eq!(bench.run(step).await.succeeded(), "all\n");
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_steps_share_of_the_cpus_is_what_it_may_have() {
    let bench = Bench::new().await;
    // A tenth of a CPU for as long as a whole one would take a second.
    let mut step =
        bench.step("timeout 2 sh -c 'while :; do :; done'; cat /proc/1/stat >/dev/null; times");
    step.limits.cpus = Some(0.1);
    let outcome = bench.run(step).await;
    // The last line of `times` is the children's: minutes, seconds.
    let text = outcome.text();
    let used = text.lines().last().unwrap().split('m').nth(1).unwrap();
    let seconds: f64 = used.split('s').next().unwrap().parse().unwrap();
    assert!(seconds < 1.0, "{text}");
    bench.close();
}

#[tokio::test]
async fn a_step_is_killed_when_its_time_is_up() {
    let bench = Bench::new().await;
    let mut step = bench.step("echo begun; (setsid sleep 1000 &); sleep 1000");
    step.limits.time = Some(Duration::from_secs(2));
    let begun = Instant::now();
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::TimedOut);
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(outcome.text(), "begun\n");
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_step_that_prints_too_much_is_killed_and_what_was_allowed_is_kept() {
    let bench = Bench::new().await;
    let mut step = bench.step("yes; sleep 1000");
    step.limits.output = Some(100_001);
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::TooMuchOutput);
    assert_eq!(outcome.log.len(), 100_001);
    bench.nothing_left();
    let mut step = bench.step("yes | head -c 100001");
    step.limits.output = Some(100_001);
    assert_eq!(bench.run(step).await.succeeded().len(), 100_001);
    bench.close();
}

#[tokio::test]
async fn limits_that_cannot_be_are_refused_before_any_step() {
    let bench = Bench::new().await;
    let no_processes = Limits {
        pids: Some(0),
        ..Limits::default()
    };
    let refused = bench.sandbox().can_enforce(&no_processes);
    assert!(
        matches!(refused, Err(SandboxError::Request(_))),
        "{refused:?}"
    );
    let mut step = bench.step("true");
    step.limits = no_processes;
    let outcome = bench.run(step).await;
    assert!(
        matches!(outcome.error(), SandboxError::Request(_)),
        "{outcome:?}"
    );
    bench.close();
}

#[tokio::test]
async fn a_step_that_was_cancelled_before_is_not_started() {
    let bench = Bench::new().await;
    let cancel = CancellationToken::new();
    cancel.cancel();
    let outcome = bench.run_until(bench.step("touch /started"), cancel).await;
    assert_eq!(outcome.ended(), Ended::Cancelled);
    assert!(!bench.rootfs().join("started").exists());
    bench.nothing_left();
    bench.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancelling_ends_a_step_at_any_moment_of_its_start() {
    let bench = Bench::new().await;
    for n in 0..40 {
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let cancelling = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(n * 2)).await;
            token.cancel();
        });
        let begun = Instant::now();
        let outcome = bench.run_until(bench.step("sleep 1000"), cancel).await;
        assert_eq!(outcome.ended(), Ended::Cancelled, "{}", outcome.text());
        assert!(begun.elapsed() < Duration::from_secs(9));
        cancelling.await.unwrap();
        bench.nothing_left();
    }
    bench.close();
}

#[tokio::test]
async fn cancelling_ends_all_of_a_steps_processes_and_keeps_what_they_printed() {
    let bench = Arc::new(Bench::new().await);
    let tree = "trap '' TERM INT HUP; (setsid sh -c 'trap \"\" TERM; sleep 1000' &); sh -c 'sh -c \"sleep 1000\" & sleep 1000' & echo ready; wait";
    let (running, cancel) = bench.start(bench.step(tree), "ready").await;
    let mark = bench.mark();
    wait_for("all processes", || processes(&mark).len() >= 4).await;
    cancel.cancel();
    let outcome = running.await.unwrap();
    assert_eq!(outcome.ended(), Ended::Cancelled);
    assert_eq!(outcome.text(), "ready\n");
    bench.nothing_left();
    Arc::into_inner(bench).unwrap().close();
}

#[tokio::test]
async fn cancelling_after_the_end_changes_nothing() {
    let bench = Bench::new().await;
    let cancel = CancellationToken::new();
    let outcome = bench.run_until(bench.step("exit 5"), cancel.clone()).await;
    cancel.cancel();
    assert_eq!(outcome.ended(), Ended::Exited(5));
    bench.sh("true").await.succeeded();
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_step_that_nobody_waits_for_is_ended() {
    let bench = Arc::new(Bench::new().await);
    let (running, _cancel) = bench
        .start(bench.step("echo ready; sleep 1000"), "ready")
        .await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    wait_for("nothing to be left", || bench.leftovers().is_empty()).await;
    Arc::into_inner(bench).unwrap().close();
}

#[tokio::test]
async fn a_runtime_that_somebody_kills_takes_its_step_with_it() {
    let bench = Arc::new(Bench::new().await);
    let (running, _cancel) = bench
        .start(bench.step("echo ready; sleep 1000"), "ready")
        .await;
    let state = bench.state();
    let runtime = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .find(|entry| {
            let words = read(&entry.path().join("cmdline"));
            words.contains(&*state.to_string_lossy()) && words.contains("run\0--bundle")
        })
        .unwrap();
    let pid = runtime.file_name().to_string_lossy().parse().unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    assert_eq!(running.await.unwrap().ended(), Ended::Signalled(9));
    bench.nothing_left();
    Arc::into_inner(bench).unwrap().close();
}

#[tokio::test]
async fn a_log_that_cannot_be_written_ends_the_step() {
    let bench = Bench::new().await;
    let log = full_log();
    let sandbox = bench.sandbox();
    let step = bench.step("echo hello; sleep 1000");
    let ended = sandbox
        .run(step, &log.await, &CancellationToken::new())
        .await;
    let Err(SandboxError::Machine { message, full_disk }) = ended else {
        panic!("{ended:?}");
    };
    assert!(
        message.starts_with("cannot keep the output of a step"),
        "{message}"
    );
    assert!(!full_disk);
    bench.nothing_left();
    drop(sandbox);
    bench.close();
}

/// A log that takes nothing.
async fn full_log() -> StepLog {
    let dir = tempfile::tempdir().unwrap();
    let log = StepLog::create(&dir.path().join("log")).await.unwrap();
    log.close();
    log
}

/// The environment variable that makes this program a worker to be killed, and says where its bench is.
const VICTIM: &str = "OBUILDER_TEST_VICTIM";

/// Not a test by itself: the worker of the next one.
#[tokio::test]
async fn worker_to_be_killed() {
    let Some(dir) = std::env::var_os(VICTIM).map(PathBuf::from) else {
        return;
    };
    let sandbox = RuncSandbox::open(RuncConfig::new(dir.join("state")))
        .await
        .unwrap();
    let log = StepLog::create(&dir.join("log")).await.unwrap();
    let mut step = sandbox_support::step(
        &dir,
        "(setsid sh -c 'trap \"\" TERM; sleep 1000' &); touch /started; sleep 1000",
    );
    step.limits.memory = Some(64 * MIB);
    let _ = sandbox.run(step, &log, &CancellationToken::new()).await;
}

/// Removes what the worker left, however the test ends.
struct Scrub<'a>(&'a Path);

impl Drop for Scrub<'_> {
    fn drop(&mut self) {
        sandbox_support::scrub(self.0);
    }
}

fn victim(dir: &Path) -> std::process::Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "worker_to_be_killed"])
        .env(VICTIM, dir)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn steps_die_with_a_worker_that_is_killed_and_the_next_removes_their_traces() {
    let bench = Bench::new().await;
    let dir = tempfile::tempdir().unwrap();
    let _scrub = Scrub(dir.path());
    sandbox_support::make_image(&dir.path().join("rootfs"));
    // First when a step runs, then at moments of its start.
    for n in 0..10 {
        let mut worker = victim(dir.path());
        let started = dir.path().join("rootfs/started");
        if n == 0 {
            wait_for("the step", || started.exists()).await;
        } else {
            wait_for("the worker", || dir.path().join("log").exists()).await;
            tokio::time::sleep(Duration::from_millis(n * 7)).await;
        }
        worker.kill().unwrap();
        worker.wait().unwrap();
        let mark = sandbox_support::mark(dir.path());
        wait_for("the step to end", || processes(&mark).is_empty()).await;
        let next = RuncSandbox::open(RuncConfig::new(dir.path().join("state")))
            .await
            .unwrap();
        let left = leftovers(dir.path());
        assert!(left.is_empty(), "{left:#?}");
        drop(next);
        let _ = fs::remove_file(dir.path().join("log"));
        let _ = fs::remove_file(&started);
    }
    bench.close();
}

#[tokio::test]
async fn groups_and_processes_of_an_earlier_run_are_removed_at_the_start() {
    let bench = Bench::new().await;
    bench.sh("true").await.succeeded();
    let state = bench.state();
    let before = leftovers(bench.path());
    let base = before
        .iter()
        .find_map(|trace| {
            trace
                .strip_prefix("empty group ")
                .filter(|path| path.contains("/pids/") || !path.contains("/sys/fs/cgroup/"))
        })
        .map(PathBuf::from)
        .unwrap_or_else(|| panic!("no group: {before:?}"));
    // As if a step had outlived a worker.
    let group = base.join("obuilder-lost/step");
    fs::create_dir_all(&group).unwrap();
    let mark = bench.mark();
    let (name, value) = mark.split_once('=').unwrap();
    let mut lost = Command::new("sleep")
        .arg("1000")
        .env(name, value)
        .spawn()
        .unwrap();
    fs::write(group.join("cgroup.procs"), lost.id().to_string()).unwrap();
    fs::write(state.join("private/junk"), "junk").unwrap();
    let dir = bench.path().to_owned();
    let bench = bench.reopen().await;
    wait_for("the lost process to end", || {
        lost.try_wait().unwrap().is_some()
    })
    .await;
    let left = leftovers(&dir);
    assert!(left.is_empty(), "{left:#?}");
    bench.sh("true").await.succeeded();
    bench.close();
}

/// A control group in all hierarchies, removed at the end.
struct Slice(Vec<PathBuf>);

impl Slice {
    fn new(name: &str) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let groups = mounts
            .lines()
            .filter(|line| line.contains(" - cgroup"))
            .map(|line| Path::new(line.split(' ').nth(4).unwrap()).join(name));
        let slice = Self(groups.collect());
        for group in &slice.0 {
            fs::create_dir_all(group).unwrap();
        }
        slice
    }

    /// How many groups are in it, however deep.
    fn groups(&self) -> usize {
        let inside = self.0.iter().flat_map(|group| files(group));
        inside.filter(|path| path.is_dir()).count()
    }
}

impl Drop for Slice {
    fn drop(&mut self) {
        for group in &self.0 {
            let _ = fs::remove_dir(group);
        }
    }
}

#[tokio::test]
async fn steps_get_their_groups_below_the_operators() {
    let name = format!("obuilder-test-{}.slice", std::process::id());
    let slice = Slice::new(&name);
    let bench = Bench::with(|config| config.cgroup_parent = Path::new("/").join(&name)).await;
    let bench = Arc::new(bench);
    let (running, cancel) = bench
        .start(bench.step("echo here; sleep 1000"), "here")
        .await;
    assert!(slice.groups() > 0);
    cancel.cancel();
    assert_eq!(running.await.unwrap().ended(), Ended::Cancelled);
    bench.nothing_left();
    Arc::into_inner(bench).unwrap().close();
    assert_eq!(slice.groups(), 0);
}

#[tokio::test]
async fn one_directory_is_one_sandboxs() {
    let bench = Bench::new().await;
    let second = RuncSandbox::open(RuncConfig::new(bench.state())).await;
    let error = second.unwrap_err().to_string();
    assert!(
        error.starts_with("another process runs steps in"),
        "{error}"
    );
    bench.sh("true").await.succeeded();
    bench.close();
}

async fn open_with(runtime: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut config = RuncConfig::new(dir.path().join("state"));
    config.runtime = runtime.to_owned();
    match RuncSandbox::open(config).await {
        Err(SandboxError::Machine { message, full_disk }) => {
            assert!(!full_disk);
            message
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_missing_runtime_is_named_with_what_to_do() {
    for runtime in ["/nowhere/runc", "no-such-runc"] {
        let message = open_with(runtime.as_ref()).await;
        assert_eq!(
            message,
            format!(
                "{runtime} is missing or broken: there is no such program; install it with `apt-get install runc` or your system's like, or name another OCI runtime (--runtime of obuilder, --obuilder-runtime of a worker)"
            )
        );
    }
}

#[tokio::test]
async fn a_broken_runtime_is_named_with_what_it_said() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = dir.path().join("runc");
    script(
        &runtime,
        "#!/bin/sh\necho 'libseccomp.so.2: not found' >&2\nexit 127\n",
    );
    let message = open_with(&runtime).await;
    assert!(
        message.contains("exit status: 127: libseccomp.so.2: not found"),
        "{message}"
    );
    script(&runtime, "#!/bin/sh\n");
    let message = open_with(&runtime).await;
    assert!(message.contains("`--version` says nothing"), "{message}");
    script(&runtime, "#!/nowhere/sh\n");
    let message = open_with(&runtime).await;
    assert!(message.contains("No such file or directory"), "{message}");
    script(&runtime, "#!/bin/sh\nexec yes\n");
    let message = open_with(&runtime).await;
    assert!(message.contains("missing or broken"), "{message}");
}

#[tokio::test]
async fn a_runtime_that_breaks_later_is_the_machines_trouble() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = dir.path().join("runtime");
    let version = "#!/bin/sh\n[ \"$1\" = --version ] && { echo fake version 1; exit; }\n";
    for (rest, full, words) in [
        ("exit 3\n", false, "(exit status: 3): it said nothing"),
        ("exit 0\n", false, "(exit status: 0): it said nothing"),
        (
            "echo 'cannot reach the moon' >&2; exit 1\n",
            false,
            "(exit status: 1): cannot reach the moon",
        ),
        (
            "echo 'open /x: no space left on device' >&2; exit 1\n",
            true,
            "no space left on device",
        ),
    ] {
        script(&runtime, &format!("{version}{rest}"));
        let bench = Bench::with(|config| config.runtime = runtime.clone()).await;
        let outcome = bench.sh("true").await;
        let SandboxError::Machine { message, full_disk } = outcome.error() else {
            panic!("{outcome:?}");
        };
        assert!(message.contains(words), "{message}");
        assert_eq!(*full_disk, full, "{message}");
        fs::remove_file(&runtime).unwrap();
        let outcome = bench.sh("true").await;
        let error = outcome.error().to_string();
        assert!(error.contains("No such file or directory"), "{error}");
        bench.nothing_left();
        bench.close();
    }
}

#[tokio::test]
async fn a_tree_that_is_not_there_is_the_machines_trouble() {
    let bench = Bench::new().await;
    let mut step = bench.step("true");
    step.rootfs = ocluster_obuilder::Rootfs::Plain(bench.path().join("gone"));
    let outcome = bench.run(step).await;
    assert!(
        matches!(
            outcome.error(),
            SandboxError::Machine {
                full_disk: false,
                ..
            }
        ),
        "{outcome:?}"
    );
    bench.nothing_left();
    bench.close();
}
