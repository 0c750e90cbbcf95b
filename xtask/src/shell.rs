//! A shell session that a person can follow, and type again: each command is shown before it is run, with its output below.

use std::env;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use ocluster_tests::{Engine, Process, check_interrupt};
use rustix::process::{Pid, Signal, kill_process_group};

/// The longest that one command may take.
const LIMIT: Duration = Duration::from_secs(300);

/// A session in one directory, with the four programs on its path.
pub(crate) struct Shell {
    directory: PathBuf,
    path: OsString,
    docker_host: String,
}

/// What a command said, line by line, with the time at which each line came.
pub(crate) struct Said {
    lines: Vec<(Instant, String)>,
}

impl Said {
    /// The whole text.
    pub(crate) fn text(&self) -> String {
        self.lines
            .iter()
            .map(|(_, line)| format!("{line}\n"))
            .collect()
    }

    /// The last line that is not empty.
    pub(crate) fn last_line(&self) -> &str {
        self.lines
            .iter()
            .rev()
            .map(|(_, line)| line.trim())
            .find(|line| !line.is_empty())
            .unwrap_or("")
    }

    /// When this line came.
    pub(crate) fn time_of(&self, line: &str) -> Option<Instant> {
        self.lines
            .iter()
            .find(|(_, its)| its == line)
            .map(|(time, _)| *time)
    }
}

impl Shell {
    pub(crate) fn new(directory: &Path, programs: &Path, engine: &Engine) -> Result<Self> {
        let old = env::var_os("PATH").unwrap_or_default();
        let path =
            env::join_paths(std::iter::once(programs.to_owned()).chain(env::split_paths(&old)))?;
        Ok(Self {
            directory: directory.to_owned(),
            path,
            docker_host: engine.host().to_owned(),
        })
    }

    /// Says what comes next, and what to look at.
    pub(crate) fn say(&self, text: &str) {
        println!("\n# {text}");
    }

    /// Runs a command line that must succeed.
    pub(crate) fn run(&self, line: &str) -> Result<Said> {
        let (said, code) = self.run_any(line)?;
        ensure!(
            code == Some(0),
            "`{line}` ended with {}",
            code.map_or("a signal".to_owned(), |code| format!("code {code}"))
        );
        Ok(said)
    }

    /// Starts a program that stays, with its output in `log` (a file name).
    pub(crate) fn start(&self, line: &str, log: &str) -> Result<Process> {
        println!("$ {line} >{log} 2>&1 &");
        Process::start(
            line.split(' ').next().unwrap_or(line),
            &mut self.command(&format!("exec {line}")),
            &self.directory.join(log),
        )
    }

    fn run_any(&self, line: &str) -> Result<(Said, Option<i32>)> {
        println!("$ {line}");
        let mut child = self
            .command(&format!("exec 2>&1; {line}"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let group = Pid::from_child(&child);
        let reader = BufReader::new(child.stdout.take().context("no output")?);
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            for line in reader.split(b'\n').map_while(Result::ok) {
                // Nobody listens any more after an interrupt.
                let _ = sender.send((Instant::now(), String::from_utf8_lossy(&line).into_owned()));
            }
        });
        let start = Instant::now();
        let mut said = Said { lines: Vec::new() };
        loop {
            match lines.recv_timeout(Duration::from_millis(100)) {
                Ok((time, line)) => {
                    println!("{line}");
                    std::io::stdout().flush()?;
                    said.lines.push((time, line));
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let stop = check_interrupt().err();
                    if stop.is_some() || start.elapsed() > LIMIT {
                        kill_process_group(group, Signal::KILL)?;
                        child.wait()?;
                        return Err(
                            stop.unwrap_or_else(|| anyhow::anyhow!("`{line}` takes too long"))
                        );
                    }
                }
            }
        }
        Ok((said, child.wait()?.code()))
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(&self.directory);
        command
            .env("PATH", &self.path)
            .env("DOCKER_HOST", &self.docker_host)
            .env("NO_COLOR", "1");
        command.env_remove("RUST_LOG");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "Demo")
                .env(format!("GIT_{role}_EMAIL"), "demo@example.org");
        }
        command
    }
}

/// Fails with `message` unless `holds`; otherwise remembers it for the summary.
pub(crate) fn check(summary: &mut Vec<String>, holds: bool, message: &str) -> Result<()> {
    if !holds {
        bail!("not so: {message}");
    }
    println!("# ok: {message}");
    summary.push(message.to_owned());
    Ok(())
}
