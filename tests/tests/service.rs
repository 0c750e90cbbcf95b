//! The scheduler and the worker under a service manager that speaks systemd's protocol: a real socket, and what arrives there.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{Cluster, Process, SOON, Story, Submission, wait_for};

/// How often the manager wants a sign of life. Programs send it twice as often.
const WATCHDOG: Duration = Duration::from_secs(2);

/// The manager's end of the socket.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
    received: Vec<String>,
}

impl Manager {
    fn listen(path: PathBuf) -> Result<Self> {
        let socket = UnixDatagram::bind(&path)?;
        socket.set_nonblocking(true)?;
        Ok(Self {
            socket,
            path,
            received: Vec::new(),
        })
    }

    /// What systemd puts into the environment of a service with a watchdog.
    fn watch(&self, command: &mut Command) {
        command
            .env("NOTIFY_SOCKET", &self.path)
            .env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    }

    /// Takes what has arrived.
    fn take(&mut self) -> Result<()> {
        let mut buffer = [0; 4096];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    self.received
                        .push(String::from_utf8_lossy(bytes).into_owned());
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// How often this has arrived.
    fn count(&mut self, state: &str) -> Result<usize> {
        self.take()?;
        Ok(self.received.iter().filter(|its| *its == state).count())
    }

    fn wait_for(&mut self, state: &str, times: usize) -> Result<()> {
        let before = self.count(state)?;
        let waited = wait_for(&format!("{state} to arrive"), SOON, || {
            Ok((self.count(state)? >= before + times).then_some(()))
        });
        waited.with_context(|| format!("the manager was told {:?}", self.received))
    }

    fn wait_for_status(&mut self, words: &str) -> Result<()> {
        let waited = wait_for(&format!("a status with {words:?}"), SOON, || {
            self.take()?;
            let mut lines = self
                .received
                .iter()
                .filter_map(|line| line.strip_prefix("STATUS="));
            Ok(lines.any(|line| line.contains(words)).then_some(()))
        });
        waited.with_context(|| format!("the manager was told {:?}", self.received))
    }
}

/// Follows a program from its start to its end.
fn is_a_good_service(process: &mut Process, manager: &mut Manager) -> Result<()> {
    wait_for("READY=1", SOON, || {
        Ok((manager.count("READY=1")? == 1).then_some(()))
    })
    .with_context(|| process.log())?;
    // Signs of life come and come;
    manager.wait_for("WATCHDOG=1", 3)?;
    // from a program that stands still, they do not:
    process.freeze()?;
    manager.take()?;
    let silent_since = manager.count("WATCHDOG=1")?;
    let start = Instant::now();
    while start.elapsed() < WATCHDOG * 2 {
        ensure!(
            manager.count("WATCHDOG=1")? <= silent_since + 1,
            "a program that stands still gives signs of life"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    process.thaw()?;
    manager.wait_for("WATCHDOG=1", 1)?;
    ensure!(manager.count("STOPPING=1")? == 0);
    // and when it is told to stop, it says that it does.
    ensure!(process.terminate(SOON)?.success());
    ensure!(
        manager.count("STOPPING=1")? >= 1,
        "it did not say that it stops"
    );
    ensure!(manager.count("READY=1")? == 1);
    Ok(())
}

/// The names in a running program's environment.
fn environment(pid: u32) -> Result<BTreeSet<String>> {
    let bytes = std::fs::read(format!("/proc/{pid}/environ"))?;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let names = text.split('\0').filter_map(|pair| pair.split_once('='));
    Ok(names.map(|(name, _)| name.to_owned()).collect())
}

/// The processes that this one has started.
fn children(pid: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(child) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        // One that has ended meanwhile is nobody's child. The parent comes second after the name in brackets.
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after = stat.rsplit_once(')').map_or("", |(_, after)| after);
        if after.split_whitespace().nth(1) == Some(&pid.to_string()) {
            children.push(child);
        }
    }
    Ok(children)
}

#[test]
fn the_scheduler_tells_its_service_manager_how_it_is() -> Result<()> {
    Story::tell(&[], |story| {
        let mut manager = Manager::listen(story.scratch.join("notify"))?;
        // Of its harness only the command is needed, and a directory for caps.
        let mut cluster = Cluster::start(story)?;
        cluster.stop_scheduler()?;
        let mut command = cluster.scheduler_command();
        manager.watch(&mut command);
        let log = story.scratch.log_file("watched-scheduler");
        let mut scheduler = Process::start("the scheduler", &mut command, &log)?;
        manager
            .wait_for_status("Pools: 1, connected workers: 0, running jobs: 0, queued jobs: 0")?;
        is_a_good_service(&mut scheduler, &mut manager)
    })
}

#[test]
fn the_worker_tells_its_service_manager_how_it_is_and_needs_no_scheduler_for_that() -> Result<()> {
    Story::tell(&[], |story| {
        let mut manager = Manager::listen(story.scratch.join("notify"))?;
        // Given a scheduler that is away, a worker has started nevertheless,
        let mut cluster = Cluster::start(story)?;
        cluster.stop_scheduler()?;
        let mut command = story.programs.command("ocluster-worker");
        command
            .arg(cluster.secret("pool-linux.cap"))
            .arg("--name=w")
            .arg("--capacity=3")
            .arg(format!(
                "--state-dir={}",
                story.scratch.join("state-w").display()
            ));
        manager.watch(&mut command);
        let log = story.scratch.log_file("watched-worker");
        let mut worker = Process::start("the worker", &mut command, &log)?;
        manager.wait_for_status("Without a scheduler (")?;
        // and says when it has found its place.
        cluster.restart_scheduler()?;
        manager.wait_for_status("In the pool; 0 of 3 slots busy")?;
        is_a_good_service(&mut worker, &mut manager)
    })
}

#[test]
fn what_a_worker_starts_cannot_speak_for_it() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker with a service manager,
        let mut cluster = Cluster::start(story)?;
        let manager = Manager::listen(story.scratch.join("notify"))?;
        let program = story.scratch.join("ocluster-worker");
        std::os::unix::fs::symlink(story.programs.directory().join("ocluster-worker"), &program)?;
        let mut command = Command::new(&program);
        command
            .arg(cluster.secret("pool-linux.cap"))
            .args(["--name=w", "--update-program"])
            .arg(format!(
                "--state-dir={}",
                story.scratch.join("state-w").display()
            ));
        manager.watch(&mut command);
        let log = story.scratch.log_file("watched-worker");
        let worker = Process::start("the worker", &mut command, &log)?;
        cluster.wait_until_registered("w", 0)?;
        ensure!(environment(worker.pid())?.contains("NOTIFY_SOCKET"));

        // when it reads from a git server, which never answers, the process that does so does not know the manager;
        let silent = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("git://{}/app", silent.local_addr()?);
        let job = Submission::of_context(&url, &["0123456789012345678901234567890123456789"]);
        let mut client = cluster.add_client("alice")?.start(&job)?;
        let child = wait_for("the worker to start a process", SOON, || {
            Ok(children(worker.pid())?.pop())
        })?;
        let names = wait_for("that process to be itself", SOON, || {
            // Until then it is a copy of the worker.
            let line = std::fs::read(format!("/proc/{child}/cmdline"))?;
            let own = std::fs::read(format!("/proc/{}/cmdline", worker.pid()))?;
            Ok((line != own).then(|| environment(child)))
        })??;
        ensure!(names.contains("PATH"), "it has no environment at all");
        ensure!(
            !names.contains("NOTIFY_SOCKET"),
            "the git child knows the service manager"
        );
        client.interrupt()?;
        client.wait_exit(SOON)?;

        // and neither does a new version of the program, when that is tried.
        let kept = story.scratch.join("environment");
        let script = format!("#!/bin/sh\nenv > {}\nexit 1\n", kept.display());
        let new = story.scratch.write("new", script)?;
        std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        std::fs::rename(&new, &program)?;
        cluster.admin(&["update", "linux", "w"])?.exits_with(1)?;
        let seen = std::fs::read_to_string(&kept)?;
        ensure!(seen.contains("PATH="), "it has no environment at all");
        for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC"] {
            ensure!(!seen.contains(name), "the new program knows {name}");
        }
        Ok(())
    })
}
