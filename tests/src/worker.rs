//! A worker with its state directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::netns::NetNs;
use crate::process::Process;
use crate::story::Story;

/// How a worker is started.
#[derive(Clone, Debug)]
pub struct WorkerOptions {
    /// Its unique name.
    pub name: String,
    /// The pool it joins.
    pub pool: String,
    /// How many jobs it runs at once.
    pub capacity: u32,
    /// The Docker engine it uses, as in `DOCKER_HOST`; the shared one if there is none.
    pub docker_host: Option<String>,
    /// The name of its state directory within the scratch directory, if it is not its own name.
    pub state: Option<String>,
    /// Whether it runs jobs of the kind `test`.
    pub test_jobs: bool,
    /// More flags.
    pub flags: Vec<String>,
}

impl WorkerOptions {
    /// A worker with room for one job, in pool `linux`, on the shared engine.
    #[must_use]
    pub fn named(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            pool: "linux".to_owned(),
            capacity: 1,
            docker_host: None,
            state: None,
            test_jobs: false,
            flags: Vec::new(),
        }
    }

    /// With room for `capacity` jobs.
    #[must_use]
    pub fn capacity(mut self, capacity: u32) -> Self {
        self.capacity = capacity;
        self
    }

    /// In another pool.
    #[must_use]
    pub fn pool(mut self, pool: &str) -> Self {
        pool.clone_into(&mut self.pool);
        self
    }

    /// On another Docker engine.
    #[must_use]
    pub fn docker_host(mut self, host: &str) -> Self {
        self.docker_host = Some(host.to_owned());
        self
    }

    /// Ready for jobs of the kind `test`.
    #[must_use]
    pub fn test_jobs(mut self) -> Self {
        self.test_jobs = true;
        self
    }

    /// With another flag.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// With a state directory of another name: a different machine that calls itself the same.
    #[must_use]
    pub fn state(mut self, name: &str) -> Self {
        self.state = Some(name.to_owned());
        self
    }
}

/// A running worker.
pub struct Worker<'a> {
    story: &'a Story,
    options: WorkerOptions,
    cap: PathBuf,
    process: Process,
}

impl<'a> Worker<'a> {
    /// Starts one with the registration cap in `cap`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(story: &'a Story, options: WorkerOptions, cap: &Path) -> Result<Self> {
        let mut command = Self::command(story, &options, cap);
        let process = Self::spawn(story, &options, &mut command)?;
        Ok(Self {
            story,
            options,
            cap: cap.to_owned(),
            process,
        })
    }

    /// Starts one inside a network namespace.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_within(
        story: &'a Story,
        network: &NetNs,
        options: WorkerOptions,
        cap: &Path,
    ) -> Result<Self> {
        let mut command = network.command(&Self::command(story, &options, cap))?;
        let process = Self::spawn(story, &options, &mut command)?;
        Ok(Self {
            story,
            options,
            cap: cap.to_owned(),
            process,
        })
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.options.name
    }

    /// Its process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What lies in the directory for jobs' contexts and scratch files.
    #[must_use]
    pub fn temporary_files(&self) -> Vec<PathBuf> {
        let directory = self.state_directory().join("tmp");
        let Ok(entries) = fs::read_dir(directory) else {
            return Vec::new();
        };
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// The logs that it keeps for jobs.
    #[must_use]
    pub fn spooled_logs(&self) -> Vec<PathBuf> {
        let mut logs = Vec::new();
        let mut directories = vec![self.state_directory().join("spool")];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                    _ => logs.push(entry.path()),
                }
            }
        }
        logs
    }

    /// Where it keeps its state.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        state_directory(self.story, &self.options)
    }

    /// Starts it again with the same state after it has ended.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn restart(&mut self) -> Result<()> {
        let mut command = Self::command(self.story, &self.options, &self.cap);
        self.process = Self::spawn(self.story, &self.options, &mut command)?;
        Ok(())
    }

    fn command(story: &Story, options: &WorkerOptions, cap: &Path) -> Command {
        let mut command = story.programs.command("ocluster-worker");
        command
            .arg(format!("--connect={}", cap.display()))
            .arg(format!("--name={}", options.name))
            .arg(format!("--capacity={}", options.capacity))
            .arg(format!(
                "--state-dir={}",
                state_directory(story, options).display()
            ))
            .arg("--docker-pull=missing")
            .arg("--verbosity=info");
        command.args(&options.flags);
        if options.test_jobs {
            command.arg("--allow-test-jobs");
        }
        if let Some(host) = &options.docker_host {
            command.env("DOCKER_HOST", host);
        }
        command
    }

    fn spawn(story: &Story, options: &WorkerOptions, command: &mut Command) -> Result<Process> {
        let log = story.scratch.log_file(&format!(
            "worker-{}",
            options.state.as_ref().unwrap_or(&options.name)
        ));
        Process::start(&format!("worker {}", options.name), command, &log)
    }
}

fn state_directory(story: &Story, options: &WorkerOptions) -> PathBuf {
    story.scratch.join(format!(
        "state-{}",
        options.state.as_ref().unwrap_or(&options.name)
    ))
}
