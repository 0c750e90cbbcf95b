//! A scheduler with its files, and whoever administers it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client::Client;
use crate::command::{Finished, run};
use crate::deadline::{SOON, wait_for};
use crate::http::{HttpResponse, http_get};
use crate::metrics::Exposition;
use crate::ports::free_port;
use crate::process::Process;
use crate::scratch::Scratch;
use crate::story::Story;
use crate::worker::{Worker, WorkerOptions};

/// How long a scheduler may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// How a scheduler is started.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The pools' names.
    pub pools: Vec<String>,
    /// The address in sturdy refs, if it is not loopback; the scheduler then listens on every interface.
    pub public_host: Option<String>,
    /// More flags.
    pub flags: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            pools: vec!["linux".to_owned()],
            public_host: None,
            flags: Vec::new(),
        }
    }
}

impl ClusterOptions {
    /// With these pools.
    #[must_use]
    pub fn pools(names: &[&str]) -> Self {
        Self {
            pools: names.iter().map(|name| (*name).to_owned()).collect(),
            ..Self::default()
        }
    }
}

/// A running scheduler.
pub struct Cluster<'a> {
    story: &'a Story,
    options: ClusterOptions,
    port: u16,
    http_port: u16,
    scheduler: Option<Process>,
}

impl<'a> Cluster<'a> {
    /// Starts a scheduler with one pool, `linux`, and waits until it has written its caps.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start(story: &'a Story) -> Result<Self> {
        Self::start_with(story, ClusterOptions::default())
    }

    /// Starts a scheduler as `options` say.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn start_with(story: &'a Story, options: ClusterOptions) -> Result<Self> {
        story.scratch.directory("capnp-secrets")?;
        let mut cluster = Self {
            story,
            options,
            port: free_port()?,
            http_port: free_port()?,
            scheduler: None,
        };
        cluster.restart_scheduler()?;
        Ok(cluster)
    }

    /// Starts the scheduler (again), with the same files, addresses and flags, and waits until it serves.
    ///
    /// # Errors
    ///
    /// When it does not come up.
    pub fn restart_scheduler(&mut self) -> Result<()> {
        let mut command = self.scheduler_command();
        let mut scheduler = Process::start(
            "the scheduler",
            &mut command,
            &self.story.scratch.log_file("scheduler"),
        )?;
        scheduler.wait_for_log("Waiting for (encrypted) connections on tcp:")?;
        wait_for("the caps", SOON, || Ok(self.secrets_exist().then_some(())))?;
        self.scheduler = Some(scheduler);
        Ok(())
    }

    /// The command that starts the scheduler.
    #[must_use]
    pub fn scheduler_command(&self) -> Command {
        let scratch = &self.story.scratch;
        let mut command = self.story.programs.command("ocluster-scheduler");
        let host = if self.options.public_host.is_some() {
            "0.0.0.0"
        } else {
            "127.0.0.1"
        };
        command.arg(format!("--capnp-listen-address=tcp:{host}:{}", self.port));
        if let Some(public) = &self.options.public_host {
            command.arg(format!("--capnp-public-address=tcp:{public}:{}", self.port));
        }
        command
            .arg(format!(
                "--capnp-secret-key-file={}",
                scratch.join("capnp-secrets/key.pem").display()
            ))
            .arg(format!(
                "--secrets-dir={}",
                scratch.join("capnp-secrets").display()
            ))
            .arg(format!(
                "--state-dir={}",
                scratch.join("scheduler-state").display()
            ))
            .arg(format!("--pools={}", self.options.pools.join(",")))
            .arg(format!("--listen-prometheus={}", self.http_port))
            .arg("--verbosity=info")
            .args(&self.options.flags);
        command
    }

    /// Kills the scheduler as `kill -9` does.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn kill_scheduler(&mut self) -> Result<()> {
        self.scheduler
            .take()
            .context("the scheduler does not run")?
            .kill()
    }

    /// Asks the scheduler to stop, and checks that it does so with exit code 0.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn stop_scheduler(&mut self) -> Result<()> {
        let status = self
            .scheduler
            .take()
            .context("the scheduler does not run")?
            .terminate(STOP_LIMIT)?;
        ensure!(status.success(), "the scheduler ended with {status}");
        Ok(())
    }

    /// The running scheduler.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn scheduler(&mut self) -> Result<&mut Process> {
        self.scheduler
            .as_mut()
            .context("the scheduler does not run")
    }

    /// The port for Cap'n Proto.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port for HTTP, on every interface.
    #[must_use]
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// The story's directory.
    #[must_use]
    pub fn scratch(&self) -> &'a Scratch {
        &self.story.scratch
    }

    /// The path of a file which the scheduler writes into its secrets directory, such as `admin.cap`.
    #[must_use]
    pub fn secret(&self, name: &str) -> PathBuf {
        self.story.scratch.join("capnp-secrets").join(name)
    }

    /// Runs `ocluster-admin` with the admin's cap. The first word is the sub-command.
    ///
    /// # Errors
    ///
    /// When it cannot be started or does not end.
    pub fn admin(&self, words: &[&str]) -> Result<Finished> {
        let mut command = self.admin_command(words);
        run(&mut command)
    }

    /// The command that [`Self::admin`] runs.
    #[must_use]
    pub fn admin_command(&self, words: &[&str]) -> Command {
        let mut command = self.story.programs.command("ocluster-admin");
        let (sub_command, rest) = words
            .split_first()
            .map_or(("", words), |(first, rest)| (*first, rest));
        command
            .arg(sub_command)
            .arg("--connect")
            .arg(self.secret("admin.cap"))
            .args(rest);
        command
    }

    /// Adds a client and keeps its cap.
    ///
    /// # Errors
    ///
    /// When the scheduler refuses.
    pub fn add_client(&self, name: &str) -> Result<Client<'a>> {
        let cap = self.admin(&["add-client", name])?.success()?.stdout;
        let path = self.story.scratch.write(&format!("{name}.cap"), cap)?;
        Ok(Client::new(self.story, name, &path))
    }

    /// What `show POOL` prints.
    ///
    /// # Errors
    ///
    /// When there is no such pool.
    pub fn show(&self, pool: &str) -> Result<String> {
        Ok(self.admin(&["show", pool])?.success()?.stdout)
    }

    /// Waits until `show POOL` prints something that `is_so`.
    ///
    /// # Errors
    ///
    /// When it does not within `limit`; the last text is shown.
    pub fn wait_for_show(
        &self,
        pool: &str,
        what: &str,
        limit: Duration,
        is_so: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let mut last = String::new();
        wait_for(what, limit, || {
            last = self.show(pool)?;
            Ok(is_so(&last).then_some(()))
        })
        .with_context(|| format!("`show {pool}` prints\n{last}"))?;
        Ok(last)
    }

    /// Starts a worker in pool `linux`, and waits until it is registered.
    ///
    /// # Errors
    ///
    /// When it does not register within a minute.
    pub fn add_worker(&mut self, name: &str) -> Result<Worker<'a>> {
        self.add_worker_with(WorkerOptions::named(name))
    }

    /// Starts a worker as `options` say, and waits until it is registered.
    ///
    /// # Errors
    ///
    /// When it does not register within a minute.
    pub fn add_worker_with(&mut self, options: WorkerOptions) -> Result<Worker<'a>> {
        let before = self.registrations(&options.name)?;
        let worker = self.start_worker(options)?;
        self.wait_until_registered(worker.name(), before)?;
        Ok(worker)
    }

    /// Starts a worker and does not wait for anything.
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start_worker(&self, options: WorkerOptions) -> Result<Worker<'a>> {
        let cap = self.secret(&format!("pool-{}.cap", options.pool));
        Worker::start(self.story, options, &cap)
    }

    /// How often a worker of that name has registered with this run of the scheduler.
    ///
    /// # Errors
    ///
    /// When the scheduler does not run.
    pub fn registrations(&mut self, name: &str) -> Result<usize> {
        Ok(self
            .scheduler()?
            .log()
            .matches(&format!("Registered new worker \"{name}\""))
            .count())
    }

    /// Waits until a worker of that name has registered more often than `before`.
    ///
    /// # Errors
    ///
    /// When it has not within a minute.
    pub fn wait_until_registered(&mut self, name: &str, before: usize) -> Result<()> {
        wait_for(&format!("worker {name} to register"), SOON, || {
            Ok((self.registrations(name)? > before).then_some(()))
        })
    }

    /// Gets a page of the scheduler's HTTP server.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn get(&self, path: &str) -> Result<HttpResponse> {
        http_get(self.http_port, path)
    }

    /// The scheduler's metrics.
    ///
    /// # Errors
    ///
    /// When they are not in the standard form.
    pub fn metrics(&self) -> Result<Exposition> {
        Exposition::parse(&self.get("/metrics")?.body)
    }

    /// Waits until a metric has a value.
    ///
    /// # Errors
    ///
    /// When it has not within a minute; the last value is shown.
    pub fn wait_for_metric(&self, name: &str, labels: &[(&str, &str)], value: f64) -> Result<()> {
        let mut last = None;
        wait_for(&format!("{name}{labels:?} to be {value}"), SOON, || {
            last = self.metrics()?.value(name, labels);
            Ok(last
                .filter(|last| (last - value).abs() < f64::EPSILON)
                .map(|_| ()))
        })
        .with_context(|| format!("it is {last:?}"))
    }

    fn secrets_exist(&self) -> bool {
        let pools = self
            .options
            .pools
            .iter()
            .map(|pool| format!("pool-{pool}.cap"));
        pools
            .chain(["admin.cap".to_owned()])
            .all(|name| is_file_with_content(&self.secret(&name)))
    }
}

fn is_file_with_content(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() && metadata.len() > 0)
}
