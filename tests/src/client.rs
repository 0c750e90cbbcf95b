//! A client with its cap, and what it submits.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{Finished, run};
use crate::dockerfile::{Dockerfile, unique};
use crate::process::Process;
use crate::story::Story;

/// A Docker or OBuilder build that somebody wants. It lives as long as its client, as OCluster's jobs do, unless it is made durable.
#[derive(Clone, Debug, Default)]
pub struct Submission {
    pool: String,
    hint: String,
    dockerfile: Option<String>,
    spec: Option<String>,
    source: Vec<String>,
    flags: Vec<String>,
    durable: bool,
}

impl Submission {
    /// A build of `dockerfile`, with an empty context, in pool `linux`.
    #[must_use]
    pub fn of(dockerfile: &Dockerfile) -> Self {
        Self::of_text(dockerfile.text())
    }

    /// A build of what may or may not be a Dockerfile.
    #[must_use]
    pub fn of_text(dockerfile: &str) -> Self {
        Self {
            pool: "linux".to_owned(),
            dockerfile: Some(dockerfile.to_owned()),
            ..Self::default()
        }
    }

    /// An OBuilder build of what may or may not be a spec.
    #[must_use]
    pub fn of_spec(spec: &str) -> Self {
        Self {
            pool: "linux".to_owned(),
            spec: Some(spec.to_owned()),
            ..Self::default()
        }
    }

    /// A build of the Dockerfile that is in the repository.
    #[must_use]
    pub fn of_context(url: &str, commits: &[&str]) -> Self {
        Self {
            pool: "linux".to_owned(),
            ..Self::default()
        }
        .from(url, commits)
    }

    /// With these commits, merged, as the context.
    #[must_use]
    pub fn from(mut self, url: &str, commits: &[&str]) -> Self {
        self.source = std::iter::once(url)
            .chain(commits.iter().copied())
            .map(str::to_owned)
            .collect();
        self
    }

    /// In another pool.
    #[must_use]
    pub fn pool(mut self, pool: &str) -> Self {
        pool.clone_into(&mut self.pool);
        self
    }

    /// With a cache hint.
    #[must_use]
    pub fn hint(mut self, hint: &str) -> Self {
        hint.clone_into(&mut self.hint);
        self
    }

    /// As a job that outlives its client, which is what the program submits if it is not told otherwise.
    #[must_use]
    pub fn durable(mut self) -> Self {
        self.durable = true;
        self
    }

    /// With another flag of `submit-docker` or `submit-obuilder`.
    #[must_use]
    pub fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }
}

/// Someone who may submit jobs.
#[derive(Clone)]
pub struct Client<'a> {
    story: &'a Story,
    name: String,
    cap: PathBuf,
}

impl<'a> Client<'a> {
    /// A client whose cap is in the file `cap`.
    #[must_use]
    pub fn new(story: &'a Story, name: &str, cap: &Path) -> Self {
        Self {
            story,
            name: name.to_owned(),
            cap: cap.to_owned(),
        }
    }

    /// The file with its cap.
    #[must_use]
    pub fn cap(&self) -> &Path {
        &self.cap
    }

    /// Submits a job and follows it to its end.
    ///
    /// # Errors
    ///
    /// When the program cannot be started or does not end. A failed job is in the answer.
    pub fn submit(&self, submission: &Submission) -> Result<Finished> {
        run(&mut self.command(submission)?)
    }

    /// Submits a job and leaves it to run.
    ///
    /// # Errors
    ///
    /// When the program cannot be started.
    pub fn start(&self, submission: &Submission) -> Result<Process> {
        let name = unique(&format!("client-{}", self.name));
        Process::start(
            &name,
            &mut self.command(submission)?,
            &self.story.scratch.log_file(&name),
        )
    }

    /// Submits a gated build, and returns when it waits at its gate.
    ///
    /// # Errors
    ///
    /// When it does not get there within a minute.
    pub fn start_to_the_gate(&self, submission: &Submission) -> Result<Process> {
        let mut process = self.start(submission)?;
        process.wait_for_log(&Dockerfile::at_the_gate())?;
        Ok(process)
    }

    /// The worker which a finished or running job says it is on.
    ///
    /// # Errors
    ///
    /// When the log does not begin with `Building on NAME`.
    pub fn worker_in(log: &str) -> Result<String> {
        let line = log
            .lines()
            .find_map(|line| line.strip_prefix("Building on "));
        Ok(line
            .with_context(|| format!("no line `Building on NAME` in:\n{log}"))?
            .trim()
            .to_owned())
    }

    /// Runs `ocluster-client` with the cap. The first word is the sub-command.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not end.
    pub fn ask(&self, words: &[&str]) -> Result<Finished> {
        run(&mut self.asking(words))
    }

    /// Starts what [`Self::ask`] runs. Its log is what it prints; what it has to complain about is in the file called `NAME-errors`.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_asking(&self, words: &[&str]) -> Result<Process> {
        let name = unique(&format!("client-{}", self.name));
        Process::start_apart(
            &name,
            &mut self.asking(words),
            &self.story.scratch.log_file(&name),
            &self.story.scratch.log_file(&format!("{name}-errors")),
        )
    }

    fn asking(&self, words: &[&str]) -> Command {
        let mut command = self.story.programs.command("ocluster-client");
        let (sub_command, rest) = words
            .split_first()
            .map_or(("", words), |(first, rest)| (*first, rest));
        command
            .arg(sub_command)
            .arg("--connect")
            .arg(&self.cap)
            .args(rest);
        command
    }

    fn command(&self, submission: &Submission) -> Result<Command> {
        let mut command = self.story.programs.command("ocluster-client");
        let kind = match &submission.spec {
            Some(_) => "submit-obuilder",
            None => "submit-docker",
        };
        command.arg(kind).arg("--connect").arg(&self.cap);
        command.arg(format!("--pool={}", submission.pool));
        if !submission.hint.is_empty() {
            command.arg(format!("--cache-hint={}", submission.hint));
        }
        if let Some(text) = &submission.dockerfile {
            let path = self.story.scratch.write(&unique("Dockerfile"), text)?;
            command.arg(format!("--local-dockerfile={}", path.display()));
        }
        if let Some(text) = &submission.spec {
            let path = self.story.scratch.write(&unique("spec"), text)?;
            command.arg(format!("--local-file={}", path.display()));
        }
        if !submission.durable {
            command.arg("--attached");
        }
        command.args(&submission.flags).args(&submission.source);
        Ok(command)
    }
}
