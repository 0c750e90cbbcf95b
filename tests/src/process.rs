//! A program that runs in the background, with its output in a file, in a process group of its own.
//!
//! Dropping the guard asks the program to stop, then makes it. The output stays in the story's scratch directory, and is shown when
//! the story fails.

use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::command::describe;
use crate::deadline::{SOON, wait_for};

/// How long a program may take to stop by itself when its guard is dropped.
const GRACE: Duration = Duration::from_secs(30);

/// How much of the output a failure shows, in lines.
const SHOWN_LINES: usize = 60;

/// A running program.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    /// Where this run's output begins in the log file, in bytes.
    begin: usize,
}

impl Process {
    /// Starts `command`, called `name` in messages; stdout and stderr are appended to `log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        Self::start_apart(name, command, log, log)
    }

    /// Starts `command`, as [`Process::start`] does, but appends stderr to a file of its own: the log is what it prints.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_apart(
        name: &str,
        command: &mut Command,
        log: &Path,
        complaints: &Path,
    ) -> Result<Self> {
        let open = |path| File::options().create(true).append(true).open(path);
        let (file, complaints) = (open(log)?, open(complaints)?);
        let begin = usize::try_from(file.metadata()?.len())?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(complaints)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start `{}`", describe(command)))?;
        Ok(Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
            begin,
        })
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this run has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(bytes.get(self.begin..).unwrap_or_default()).into_owned()
    }

    /// Waits until the program has written `text`.
    ///
    /// # Errors
    ///
    /// When it ends before it does, or does not within a minute.
    pub fn wait_for_log(&mut self, text: &str) -> Result<()> {
        let what = format!("{text:?} in the output of {}", self.name);
        wait_for(&what, SOON, || {
            let ended = self.child.try_wait()?;
            if self.log().contains(text) {
                return Ok(Some(()));
            }
            match ended {
                Some(status) => bail!(
                    "{} ended ({status}) before it wrote {text:?}:\n{}",
                    self.name,
                    self.log()
                ),
                None => Ok(None),
            }
        })
        .with_context(|| format!("{} has said:\n{}", self.name, self.tail()))
    }

    /// Whether the program is still there.
    ///
    /// # Errors
    ///
    /// When the system does not know.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Waits for the program to end by itself.
    ///
    /// # Errors
    ///
    /// When it is still there after `limit`.
    pub fn wait_exit(&mut self, limit: Duration) -> Result<ExitStatus> {
        let what = format!("{} to end", self.name);
        wait_for(&what, limit, || Ok(self.child.try_wait()?))
            .with_context(|| format!("{} has said:\n{}", self.name, self.tail()))
    }

    /// Asks the program to stop with SIGTERM and waits until it has.
    ///
    /// # Errors
    ///
    /// When it does not within `limit`.
    pub fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        kill_process(self.group(), Signal::TERM)?;
        self.wait_exit(limit)
    }

    /// Kills the program alone, as `kill -9` does: its children are on their own.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        if self.is_running()? {
            self.child.kill()?;
            self.child.wait()?;
        }
        Ok(())
    }

    /// Sends SIGINT to the whole group, as a terminal does for Ctrl-C.
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn interrupt(&self) -> Result<()> {
        Ok(kill_process_group(self.group(), Signal::INT)?)
    }

    /// Makes the program and its children stand still (SIGSTOP).
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn freeze(&self) -> Result<()> {
        Ok(kill_process_group(self.group(), Signal::STOP)?)
    }

    /// Lets the program and its children go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// When the system refuses.
    pub fn thaw(&self) -> Result<()> {
        Ok(kill_process_group(self.group(), Signal::CONT)?)
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines
            .get(lines.len().saturating_sub(SHOWN_LINES)..)
            .unwrap_or_default()
            .join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Errors below mean that the process is gone already, which is what is wanted.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(self.group(), Signal::TERM);
            let _ = kill_process_group(self.group(), Signal::CONT);
            // Not `wait_for`: clean-up must wait even after an interrupt.
            let start = std::time::Instant::now();
            while start.elapsed() < GRACE && matches!(self.child.try_wait(), Ok(None)) {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        let _ = kill_process_group(self.group(), Signal::KILL);
        let _ = self.child.wait();
    }
}
