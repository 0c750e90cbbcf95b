//! What the tests of the program share: a shell in a directory of its own with an image and specs in it, and what it printed without
//! what differs from run to run.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test program uses a part of this"
)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails by panicking"
)]

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ocluster_cli::testing::{Shell, transcript};
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything takes that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Whether the operator wants to go without tests that need runc and root (`cargo xtask test --skip obuilder`). Such a test is
/// written down, so that nobody takes it for a pass.
pub fn left_out(test: &str) -> bool {
    let skip = std::env::var("OCLUSTER_TESTS_SKIP").unwrap_or_default();
    if !skip.split(',').any(|part| part.trim() == "obuilder") {
        return false;
    }
    eprintln!("{test}: NOT RUN, as obuilder is to be skipped");
    if let Some(report) = std::env::var_os("OCLUSTER_TESTS_SKIP_REPORT") {
        let mut report = File::options()
            .append(true)
            .create(true)
            .open(report)
            .unwrap();
        writeln!(report, "{test} (needs obuilder)").unwrap();
    }
    true
}

/// Leaves the test out if the operator wants that.
#[macro_export]
macro_rules! needs_obuilder {
    ($test:literal) => {
        if $crate::support::left_out($test) {
            return;
        }
    };
}

/// A shell with `obuilder`.
pub fn shell() -> Shell {
    Shell::new(env!("CARGO_BIN_EXE_obuilder"))
}

/// A shell that can build: with the image `busybox.tar`, and the spec `hello.spec` on it.
pub fn workshop() -> Shell {
    assert!(
        rustix::process::geteuid().is_root(),
        "these tests build, which needs root: run them as root, or leave them out with `cargo xtask test --skip obuilder`"
    );
    need("runc", "runc");
    let shell = shell();
    let root = shell.directory().join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(need("busybox", "busybox-static"), root.join("bin/busybox")).unwrap();
    for applet in ["cat", "echo", "id", "ls", "sh", "sleep", "touch"] {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    let packed = Command::new("tar")
        .arg("-C")
        .arg(&root)
        .arg("-cf")
        .arg(shell.directory().join("busybox.tar"))
        .arg("bin")
        .status();
    assert!(packed.unwrap().success());
    spec(&shell, "hello.spec", r#"(run (shell "echo hello"))"#);
    shell
}

/// Writes a spec that does these operations on the image.
pub fn spec(shell: &Shell, name: &str, operations: &str) {
    let image = shell.directory().join("busybox.tar");
    shell.write(
        name,
        format!(
            "((from rootfs:{})\n (shell /bin/sh -c)\n {operations})\n",
            image.display()
        ),
    );
}

/// A command line, in which `STORE` stands for the store of this shell.
pub fn line(shell: &Shell, args: &str) -> String {
    args.replace(
        "STORE",
        &format!("overlayfs:{}/store", shell.directory().display()),
    )
}

/// Runs the program as [`line`] says, and tells what it printed, for a snapshot.
pub fn run(shell: &Shell, args: &str) -> String {
    let output = shell.command(&line(shell, args)).output().unwrap();
    masked(shell, &transcript(&format!("obuilder {args}"), &output))
}

/// Several runs, one after the other. Results keep their names throughout.
pub fn run_all<'a>(shell: &Shell, lines: impl IntoIterator<Item = &'a str>) -> String {
    let transcripts: Vec<String> = lines
        .into_iter()
        .map(|args| {
            let output = shell.command(&line(shell, args)).output().unwrap();
            transcript(&format!("obuilder {args}"), &output)
        })
        .collect();
    masked(shell, &transcripts.join("\n"))
}

/// The id of the result that a build printed.
pub fn built(shell: &Shell, args: &str) -> String {
    let output = shell.command(&line(shell, args)).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let id = said.lines().find_map(|line| line.strip_prefix("Got: "));
    let id = id.unwrap_or_else(|| panic!("{}", transcript(args, &output)));
    id.trim_matches('"').to_owned()
}

/// A program's file, or which package has it.
pub fn need(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(program))
        .find(|file| file.is_file())
        .unwrap_or_else(|| panic!("this test needs {program}: apt-get install {package}"))
}

/// Waits until `ready` says something.
pub fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A build in the background, which is ended if the test ends before it.
pub struct Running {
    pub child: Child,
    said: PathBuf,
}

impl Running {
    /// Starts it, its output in a file.
    pub fn start(shell: &Shell, args: &str) -> Self {
        let said = shell.directory().join("said");
        let output = File::create(&said).unwrap();
        let child = shell
            .command(&line(shell, args))
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap();
        Self { child, said }
    }

    /// Waits until it has printed a line that is this word.
    pub fn wait_until_said(&self, word: &str) {
        wait_for(word, || {
            let said = fs::read_to_string(&self.said).unwrap();
            said.lines().any(|line| line == word).then_some(())
        });
    }

    /// What it has printed until now.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Asked first: one that is killed leaves its step's control group to the next who opens the store, and there is none.
        let start = Instant::now();
        let mut asked = false;
        while start.elapsed() < PATIENCE {
            // The number of one that has ended may be another's by now.
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            if !asked {
                asked = kill_process(Pid::from_child(&self.child), Signal::TERM).is_ok();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Whether some process of this machine has `word` among its arguments.
pub fn somebody_runs(word: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0)
            .any(|argument| argument == word.as_bytes())
    })
}

/// All files below `directory` with this name.
pub fn files_named(directory: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_owned()];
    while let Some(next) = waiting.pop() {
        for entry in fs::read_dir(next).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                waiting.push(entry.path());
            } else if entry.file_name() == name {
                found.push(entry.path());
            }
        }
    }
    found
}

/// `text` without what differs from run to run: the directory, ids and digests (which get numbers), times, process ids, and the size
/// of this machine's busybox.
fn masked(shell: &Shell, text: &str) -> String {
    let directory = shell.directory().display().to_string();
    let text = text.replace(&directory, "DIR");
    let mut known = Vec::new();
    let mut result = String::new();
    for piece in text.split_inclusive(|c: char| !c.is_ascii_alphanumeric()) {
        let word = piece.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        let rest = &piece[word.len()..];
        if word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let number = known.iter().position(|id| id == word).unwrap_or_else(|| {
                known.push(word.to_owned());
                known.len() - 1
            });
            let name = format!("ID-{}", number + 1);
            // In the first column as wide as it was, so that tables stay tables.
            let width = if result.ends_with('\n') { 64 } else { 0 };
            result.push_str(&format!("{name:<width$}"));
        } else if result.ends_with("(pid ") {
            result.push_str("PID");
        } else if result.ends_with("sha256:") && word.len() == 12 {
            result.push_str("DIGEST");
        } else {
            result.push_str(word);
        }
        result.push_str(rest);
    }
    let lines: Vec<String> = result.lines().map(without_times_and_sizes).collect();
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

fn without_times_and_sizes(line: &str) -> String {
    if line.starts_with("layer ") {
        let upto = line.rfind(": ").unwrap();
        return format!("{}: SIZE", &line[..upto]);
    }
    // "2026-11-21 01:18", of which digits are masked where they look like it.
    let bytes = line.as_bytes();
    let shape = "dddd-dd-dd dd:dd";
    let matches = |at: usize| {
        shape.bytes().enumerate().all(|(n, want)| {
            bytes.get(at + n).is_some_and(|have| match want {
                b'd' => have.is_ascii_digit(),
                want => *have == want,
            })
        })
    };
    match (0..bytes.len()).find(|at| matches(*at)) {
        Some(at) => format!(
            "{}{}{}",
            &line[..at],
            "YYYY-MM-DD HH:MM",
            &line[at + shape.len()..]
        ),
        None => line.to_owned(),
    }
}
