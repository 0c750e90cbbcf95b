//! Docker engines: the one that all stories share, and private ones which a story may hurt.
//!
//! The shared engine is never stopped, never pruned, and never asked about anything that does not carry a story's label.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::command::{Finished, run};
use crate::deadline::{SOON, wait_for};
use crate::dockerfile::{Dockerfile, GATE, STORY_LABEL};
use crate::family::sweep;
use crate::process::Process;
use crate::programs::need_program;

/// Where an engine listens if nothing else is said.
const DEFAULT_HOST: &str = "unix:///var/run/docker.sock";

/// How long an engine may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// A Docker engine that answers.
pub struct Engine {
    host: String,
    daemon: Option<Daemon>,
}

/// A dockerd of our own.
struct Daemon {
    process: Process,
    directory: PathBuf,
    log: PathBuf,
    network: Network,
}

/// Where an engine's bridge is.
#[derive(Clone, Copy)]
enum Network {
    Host,
    Own,
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, or else the system's.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn shared() -> Result<Self> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| DEFAULT_HOST.to_owned());
        let engine = Self { host, daemon: None };
        ensure!(
            engine.answers()?,
            "no Docker engine answers at {}: start one, or use `cargo xtask test`, which does",
            engine.host
        );
        Ok(engine)
    }

    /// Starts an engine with all its data below `directory`, logging to `log`. It is stopped and its data unmounted when dropped.
    ///
    /// It lives in a network of its own: a second engine on the machine's would take over the bridge of the first. Its containers
    /// reach nobody, and it pulls nothing.
    ///
    /// # Errors
    ///
    /// When dockerd is not installed, we are not root, or it does not answer within a minute.
    pub fn private(directory: &Path, log: &Path) -> Result<Self> {
        Self::start(directory, log, Network::Own)
    }

    /// Like [`Self::private`], but on the machine's network: only for a machine on which no other engine runs.
    ///
    /// # Errors
    ///
    /// When dockerd is not installed, we are not root, or it does not answer within a minute.
    pub fn only(directory: &Path, log: &Path) -> Result<Self> {
        Self::start(directory, log, Network::Host)
    }

    fn start(directory: &Path, log: &Path, network: Network) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let socket = directory.join("docker.sock");
        let host = format!("unix://{}", socket.display());
        let process = start_daemon(directory, &host, log, network)?;
        let daemon = Daemon {
            process,
            directory: directory.to_owned(),
            log: log.to_owned(),
            network,
        };
        let mut engine = Self {
            host,
            daemon: Some(daemon),
        };
        engine.wait_until_it_answers()?;
        Ok(engine)
    }

    /// What to put into `DOCKER_HOST`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether anything answers.
    ///
    /// # Errors
    ///
    /// When there is no `docker` program to ask with.
    pub fn answers(&self) -> Result<bool> {
        Ok(self
            .docker(&["version", "--format", "{{.Server.Version}}"])?
            .code()
            == 0)
    }

    /// Runs `docker` with these words, on this engine.
    ///
    /// # Errors
    ///
    /// When there is no `docker` program. A failure of the command itself is in the answer.
    pub fn docker(&self, words: &[&str]) -> Result<Finished> {
        let docker = need_program("docker", "docker.io")?;
        // The classic builder is what Debian's engine has; a newer client would insist on buildx.
        run(Command::new(docker)
            .args(words)
            .env("DOCKER_HOST", &self.host)
            .env("DOCKER_BUILDKIT", "0"))
    }

    /// A command that runs `command` in a private engine's network, where its registry on loopback is.
    ///
    /// # Errors
    ///
    /// When this engine is on the machine's network, or there is no `nsenter`.
    pub fn within_its_network(&self, command: &Command) -> Result<Command> {
        let daemon = self
            .daemon
            .as_ref()
            .filter(|daemon| matches!(daemon.network, Network::Own));
        let daemon = daemon.context("only a private engine has a network of its own")?;
        let mut inside = Command::new(need_program("nsenter", "util-linux")?);
        inside
            .arg(format!("--net=/proc/{}/ns/net", daemon.process.pid()))
            .arg("--")
            .arg(command.get_program())
            .args(command.get_args());
        Ok(inside)
    }

    /// The words that a listing command prints.
    ///
    /// # Errors
    ///
    /// When the command fails.
    pub fn list(&self, words: &[&str]) -> Result<Vec<String>> {
        Ok(self
            .docker(words)?
            .success()?
            .stdout
            .split_whitespace()
            .map(str::to_owned)
            .collect())
    }

    /// The running containers of a build.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub fn containers_of(&self, dockerfile: &Dockerfile) -> Result<Vec<String>> {
        self.list(&[
            "ps",
            "-q",
            "--filter",
            &format!("label={STORY_LABEL}={}", dockerfile.label()),
        ])
    }

    /// Waits until no container of a build runs.
    ///
    /// # Errors
    ///
    /// When one still does after a minute.
    pub fn wait_until_gone(&self, dockerfile: &Dockerfile) -> Result<()> {
        wait_for("the build's container to be gone", SOON, || {
            Ok(self.containers_of(dockerfile)?.is_empty().then_some(()))
        })
    }

    /// Lets a build that waits at its gate go on.
    ///
    /// # Errors
    ///
    /// When it does not run.
    pub fn open_gate(&self, dockerfile: &Dockerfile) -> Result<()> {
        let container = wait_for("a build at its gate", SOON, || {
            Ok(self.containers_of(dockerfile)?.pop())
        })?;
        self.docker(&["exec", &container, "touch", GATE])?
            .success()?;
        Ok(())
    }

    /// Kills a private engine as `kill -9` does, together with everything it ran.
    ///
    /// # Errors
    ///
    /// When this engine is not ours to kill.
    pub fn kill(&mut self) -> Result<()> {
        let daemon = self
            .daemon
            .as_mut()
            .context("only a private engine may be killed")?;
        // The sweep comes first: once dockerd is gone, nobody knows whose children the containers' processes are.
        sweep(&daemon.directory);
        daemon.process.kill()?;
        Ok(())
    }

    /// Starts a private engine again after [`Self::kill`], on the same data.
    ///
    /// # Errors
    ///
    /// When it does not answer within a minute.
    pub fn restart(&mut self) -> Result<()> {
        let daemon = self
            .daemon
            .as_mut()
            .context("only a private engine may be restarted")?;
        daemon.process = start_daemon(&daemon.directory, &self.host, &daemon.log, daemon.network)?;
        self.wait_until_it_answers()
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        wait_for("the Docker engine to answer", SOON, || {
            if let Some(daemon) = &mut self.daemon {
                let log = daemon.process.log();
                ensure!(
                    daemon.process.is_running()?,
                    "dockerd ended at once:\n{log}"
                );
            }
            Ok(self.answers()?.then_some(()))
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(daemon) = &mut self.daemon {
            // A dockerd that does not stop in time is killed by its own guard after the sweep.
            let _ = daemon.process.terminate(STOP_LIMIT);
            sweep(&daemon.directory);
        }
    }
}

fn start_daemon(directory: &Path, host: &str, log: &Path, network: Network) -> Result<Process> {
    let dockerd = need_program("dockerd", "docker.io")?;
    // What a killed engine says about its processes is as old as what a power cut leaves behind.
    let (pidfile, run_time_state) = (directory.join("docker.pid"), directory.join("exec"));
    let _ = fs::remove_file(&pidfile);
    let _ = fs::remove_dir_all(&run_time_state);
    let namespace = format!("ocluster-{}", std::process::id());
    let mut command = match network {
        Network::Host => Command::new(dockerd),
        Network::Own => {
            let mut command = Command::new(need_program("unshare", "util-linux")?);
            command
                .arg("--net")
                .arg(dockerd)
                .args(["--iptables=false", "--ip6tables=false"]);
            command
        }
    };
    command
        .arg("--data-root")
        .arg(directory.join("data"))
        .arg("--exec-root")
        .arg(run_time_state)
        .arg("--pidfile")
        .arg(pidfile)
        .args(["--host", host])
        .args([
            "--containerd-namespace",
            &namespace,
            "--containerd-plugins-namespace",
            &format!("{namespace}-plugins"),
        ])
        .env_remove("DOCKER_HOST");
    Process::start("dockerd", &mut command, log)
}
