//! A sandbox with a real runtime and an image of busybox, and proof that nothing of it is left afterwards.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ocluster_obuilder::sandbox::{
    Ended, Limits, Network, RuncConfig, RuncSandbox, Sandbox, SandboxError, Step,
};
use ocluster_obuilder::{Rootfs, StepLog};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A sandbox, an image, and a place for both.
pub(crate) struct Bench {
    sandbox: Option<Arc<RuncSandbox>>,
    dir: TempDir,
    logs: std::sync::atomic::AtomicUsize,
}

/// What became of a step.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) ended: Result<Ended, SandboxError>,
    pub(crate) log: Vec<u8>,
}

impl Outcome {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.log).into_owned()
    }

    #[track_caller]
    pub(crate) fn succeeded(self) -> String {
        match self.ended {
            Ok(Ended::Exited(0)) => self.text(),
            _ => panic!("{self:?}: {}", self.text()),
        }
    }

    #[track_caller]
    pub(crate) fn ended(&self) -> Ended {
        match &self.ended {
            Ok(ended) => *ended,
            Err(error) => panic!("{error}: {}", self.text()),
        }
    }

    #[track_caller]
    pub(crate) fn error(&self) -> &SandboxError {
        match &self.ended {
            Ok(ended) => panic!("{ended:?}: {}", self.text()),
            Err(error) => error,
        }
    }
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(|_| ()).await
    }

    /// A bench whose sandbox is as `change` makes it.
    pub(crate) async fn with(change: impl FnOnce(&mut RuncConfig)) -> Self {
        need("runc", "runc");
        let dir = tempfile::tempdir().unwrap();
        make_image(&dir.path().join("rootfs"));
        let mut config = RuncConfig::new(dir.path().join("state"));
        change(&mut config);
        let sandbox = RuncSandbox::open(config).await.unwrap();
        Self {
            sandbox: Some(Arc::new(sandbox)),
            dir,
            logs: Default::default(),
        }
    }

    pub(crate) fn sandbox(&self) -> Arc<RuncSandbox> {
        Arc::clone(self.sandbox.as_ref().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn rootfs(&self) -> PathBuf {
        self.path().join("rootfs")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    /// A word in the environment of all of this bench's processes, and of no others.
    pub(crate) fn mark(&self) -> String {
        mark(self.path())
    }

    /// A step that runs `script` as root.
    pub(crate) fn step(&self, script: &str) -> Step {
        step(self.path(), script)
    }

    pub(crate) async fn new_log(&self) -> (StepLog, PathBuf) {
        let n = self.logs.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.path().join(format!("log-{n}"));
        (StepLog::create(&path).await.unwrap(), path)
    }

    /// Runs `step`.
    pub(crate) async fn run(&self, step: Step) -> Outcome {
        self.run_until(step, CancellationToken::new()).await
    }

    /// Runs `script`.
    pub(crate) async fn sh(&self, script: &str) -> Outcome {
        self.run(self.step(script)).await
    }

    /// Runs `step`, which can be cancelled.
    pub(crate) async fn run_until(&self, step: Step, cancel: CancellationToken) -> Outcome {
        let (log, path) = self.new_log().await;
        let sandbox = self.sandbox();
        let ended = tokio::time::timeout(PATIENCE, sandbox.run(step, &log, &cancel))
            .await
            .expect("a step that never ends");
        Outcome {
            ended,
            log: fs::read(path).unwrap(),
        }
    }

    /// Starts `step`, and waits until it has printed `word`.
    pub(crate) async fn start(
        self: &Arc<Self>,
        step: Step,
        word: &str,
    ) -> (tokio::task::JoinHandle<Outcome>, CancellationToken) {
        let cancel = CancellationToken::new();
        let (log, path) = self.new_log().await;
        let (bench, token, file) = (Arc::clone(self), cancel.clone(), path.clone());
        let running = tokio::spawn(async move {
            let ended = bench.sandbox().run(step, &log, &token).await;
            Outcome {
                ended,
                log: fs::read(file).unwrap(),
            }
        });
        wait_for(&format!("{word:?} in the log"), || {
            assert!(!running.is_finished(), "{}", read(&path));
            read(&path).contains(word)
        })
        .await;
        (running, cancel)
    }

    /// Proves that no trace of the steps is left, while the sandbox is open.
    #[track_caller]
    pub(crate) fn nothing_left(&self) {
        let left = self.leftovers();
        assert!(left.is_empty(), "left behind: {left:#?}");
    }

    /// Traces of steps.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut left = leftovers(self.path());
        left.retain(|trace| !trace.starts_with("empty group"));
        left
    }

    /// Closes the sandbox, and opens it again.
    pub(crate) async fn reopen(mut self) -> Self {
        self.sandbox = None;
        let sandbox = RuncSandbox::open(RuncConfig::new(self.state()))
            .await
            .unwrap();
        self.sandbox = Some(Arc::new(sandbox));
        self
    }

    /// Closes the sandbox, and proves that no trace of it is left.
    pub(crate) fn close(mut self) {
        self.sandbox = None;
        let left = leftovers(self.path());
        assert!(left.is_empty(), "left behind: {left:#?}");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.sandbox = None;
        scrub(self.path());
    }
}

/// Ends and removes what a test that failed has left of the sandbox of the bench in `dir`.
pub(crate) fn scrub(dir: &Path) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let left = leftovers(dir);
        for trace in &left {
            if let Some(process) = trace.strip_prefix("process ") {
                let pid = process.split(' ').next().and_then(|pid| pid.parse().ok());
                if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
                    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            } else if let Some(group) = trace.strip_prefix("empty group ") {
                for inner in files(group.as_ref()).iter().rev() {
                    let _ = fs::remove_dir(inner);
                }
                let _ = fs::remove_dir(group);
            }
        }
        if left.iter().all(|trace| trace.starts_with("file ")) || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A word for the environment of the processes of the bench in `dir`.
pub(crate) fn mark(dir: &Path) -> String {
    format!("OBUILDER_TEST_MARK={}", dir.display())
}

/// A step that runs `script` as root in the image of the bench in `dir`.
pub(crate) fn step(dir: &Path, script: &str) -> Step {
    let mark = mark(dir);
    let (name, value) = mark.split_once('=').unwrap();
    Step {
        rootfs: Rootfs::Plain(dir.join("rootfs")),
        argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
        cwd: "/".into(),
        env: vec![
            ("PATH".into(), "/bin:/usr/bin".into()),
            (name.into(), value.into()),
        ],
        user: (0, 0),
        network: Network::None,
        caches: vec![],
        secrets: vec![],
        limits: Limits::default(),
    }
}

/// What the sandbox of the bench in `dir` left: files, control groups, mounts, processes.
pub(crate) fn leftovers(dir: &Path) -> Vec<String> {
    let state = dir.join("state");
    let mut left = Vec::new();
    for entry in files(&state) {
        if entry != state.join("lock") && entry != state.join("private") {
            left.push(format!("file {}", entry.display()));
        }
    }
    let ours = fs::canonicalize(&state).unwrap_or(state);
    let hash: String = Sha256::digest(ours.as_os_str().as_encoded_bytes())
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let group = format!("obuilder-{hash}");
    for mount in fs::read_to_string("/proc/self/mountinfo").unwrap().lines() {
        if mount.contains(&*dir.to_string_lossy()) {
            left.push(format!("mount {mount}"));
        }
        let place = Path::new(mount.split(' ').nth(4).unwrap()).join(&group);
        if mount.contains(" - cgroup") && place.exists() {
            left.push(format!("empty group {}", place.display()));
            for entry in fs::read_dir(&place).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(format!("group {}", path.display()));
                }
            }
        }
    }
    for process in processes(&mark(dir)) {
        left.push(format!("process {process}"));
    }
    left
}

/// Everything in `dir`, however deep.
pub(crate) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        all.push(entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            all.extend(files(&entry.path()));
        }
    }
    all
}

/// The processes with `mark` in their environment.
pub(crate) fn processes(mark: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|b| *b == 0).any(|v| v == mark.as_bytes()) {
            let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words).replace('\0', " ");
            found.push(format!("{} {words}", entry.file_name().to_string_lossy()));
        }
    }
    found
}

/// Waits until `condition` holds.
pub(crate) async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}

/// Writes a program.
pub(crate) fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    // Written by another process: no child of a test that runs at the same time can have it open, which would keep it from being run.
    let status = Command::new("sh")
        .args(["-c", "printf '%s' \"$1\" >\"$2\"", "sh"])
        .arg(text)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The program `name`, or a sentence that says which package it is in.
pub(crate) fn need(name: &str, package: &str) -> PathBuf {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is needed for this test; apt-get install {package}"))
}

/// An image with a shell and the usual small tools.
pub(crate) fn make_image(root: &Path) {
    let busybox = need("busybox", "busybox-static");
    for directory in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy(&busybox, root.join("bin/busybox")).unwrap();
    let applets = Command::new(&busybox).arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nopam:x:1000:1000::/home/opam:/bin/sh\n",
    )
    .unwrap();
    fs::write(root.join("etc/group"), "root:x:0:\n").unwrap();
}
