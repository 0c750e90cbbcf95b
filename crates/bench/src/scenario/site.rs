//! A scheduler that is measured: one that was started for it, in a directory of its own, or one that somebody else runs.
//!
//! What was started here is killed when its site is dropped, and its files are removed.

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use ocluster_vat::SturdyRef;
use tempfile::TempDir;

/// How long a scheduler may take to start.
pub const START_LIMIT: Duration = Duration::from_secs(120);

/// The pool of a scheduler that is started here.
const POOL: &str = "bench";
/// Its clients.
const CLIENTS: [&str; 4] = ["bench-1", "bench-2", "bench-3", "bench-4"];

/// What is started.
#[derive(Clone, Debug)]
pub(super) enum Program {
    /// A scheduler of this project, with more flags.
    Scheduler { path: PathBuf, flags: Vec<String> },
    /// The bare broker in this program.
    Broker { path: PathBuf },
}

/// A scheduler (or the bare broker), and the capabilities to use it.
pub struct Site(Kind);

enum Kind {
    Started(Started),
    Given(super::Given),
}

struct Started {
    program: Program,
    directory: TempDir,
    port: u16,
    process: Option<Child>,
}

impl Site {
    /// Starts a program with files of its own in `directory`, and waits until it listens.
    pub(super) async fn start(program: Program, directory: Option<&Path>) -> anyhow::Result<Self> {
        let directory = match directory {
            Some(directory) => TempDir::with_prefix_in("ocluster-bench-", directory)?,
            None => TempDir::with_prefix("ocluster-bench-")?,
        };
        std::fs::create_dir(directory.path().join("secrets"))?;
        // A free port: taken again by the program right away, and whenever it is started again.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut site = Self(Kind::Started(Started {
            program,
            directory,
            port,
            process: None,
        }));
        site.restart().await?;
        Ok(site)
    }

    pub(super) fn given(given: super::Given) -> Self {
        Self(Kind::Given(given))
    }

    /// The scheduler's process.
    ///
    /// # Errors
    /// If it was killed.
    pub fn pid(&self) -> anyhow::Result<u32> {
        match &self.0 {
            Kind::Given(given) => Ok(given.pid),
            Kind::Started(started) => {
                let process = started.process.as_ref();
                Ok(process.context("the scheduler does not run")?.id())
            }
        }
    }

    /// The pool's name.
    #[must_use]
    pub fn pool(&self) -> &str {
        match &self.0 {
            Kind::Given(given) => &given.pool,
            Kind::Started(_) => POOL,
        }
    }

    /// The capability with which workers join the pool.
    ///
    /// # Errors
    /// If there is none.
    pub fn registration(&self) -> anyhow::Result<SturdyRef> {
        match &self.0 {
            Kind::Given(given) => Ok(given.registration.clone()),
            Kind::Started(started) => started.cap(&format!("pool-{POOL}.cap")),
        }
    }

    /// A client's capability. There are only so many clients, so further numbers begin with the first again.
    ///
    /// # Errors
    /// If there is none.
    pub fn submission(&self, number: u32) -> anyhow::Result<SturdyRef> {
        let of = |count: usize| number as usize % count.max(1);
        match &self.0 {
            Kind::Given(given) => {
                let cap = given.submissions.get(of(given.submissions.len()));
                cap.cloned().context("no client's capability was given")
            }
            Kind::Started(started) => {
                let name = CLIENTS.get(of(CLIENTS.len())).unwrap_or(&POOL);
                started.cap(&format!("submit-{name}.cap"))
            }
        }
    }

    /// Kills it, as `kill -9` does. Its files stay.
    ///
    /// # Errors
    /// If it is not ours to kill.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.started()?.kill()
    }

    /// Starts it (again), with the same files, address and flags, and waits until it listens.
    ///
    /// # Errors
    /// If it is not ours to start, or does not come up; then with what it says.
    pub async fn restart(&mut self) -> anyhow::Result<()> {
        let started = self.started()?;
        started.begin()?;
        started.ready().await
    }

    /// Starts it (again), without waiting for anything.
    ///
    /// # Errors
    /// If it is not ours to start.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        self.started()?.begin()
    }

    fn started(&mut self) -> anyhow::Result<&mut Started> {
        match &mut self.0 {
            Kind::Started(started) => Ok(started),
            Kind::Given(_) => bail!(
                "this scenario stops and starts the scheduler: give a program with --scheduler instead of --pid"
            ),
        }
    }
}

impl Started {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn cap(&self, name: &str) -> anyhow::Result<SturdyRef> {
        Ok(SturdyRef::load(&self.path("secrets").join(name))?)
    }

    fn begin(&mut self) -> anyhow::Result<()> {
        self.kill()?;
        let log = std::fs::File::create(self.path("log"))?;
        let mut command = match &self.program {
            Program::Scheduler { path, flags } => {
                let mut command = Command::new(path);
                command
                    .arg("--state-dir")
                    .arg(self.path("state"))
                    .arg("--export-every=0s")
                    .args(flags);
                command
            }
            Program::Broker { path } => {
                let mut command = Command::new(path);
                command.arg("broker");
                command
            }
        };
        command
            .arg("--capnp-secret-key-file")
            .arg(self.path("key"))
            .arg(format!(
                "--capnp-listen-address=tcp:127.0.0.1:{}",
                self.port
            ))
            .arg("--secrets-dir")
            .arg(self.path("secrets"))
            .arg(format!("--pools={POOL}"))
            .arg(format!("--default-clients={}", CLIENTS.join(",")))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        let process = command.spawn();
        self.process = Some(process.with_context(|| {
            let program = command.get_program().display();
            format!("cannot start {program}: build it first, or say where it is")
        })?);
        Ok(())
    }

    /// Waits until it takes connections: the capability files are there, and somebody listens.
    async fn ready(&mut self) -> anyhow::Result<()> {
        let started = Instant::now();
        let last = self.path("secrets").join(format!("pool-{POOL}.cap"));
        loop {
            if last.exists()
                && tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))
                    .await
                    .is_ok()
            {
                return Ok(());
            }
            let ended = match &mut self.process {
                Some(process) => process.try_wait()?,
                None => None,
            };
            ensure!(
                ended.is_none() && started.elapsed() < START_LIMIT,
                "the scheduler does not start: {}",
                std::fs::read_to_string(self.path("log"))?
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill()?;
            process.wait()?;
        }
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.kill());
    }
}
