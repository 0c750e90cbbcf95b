//! A Docker engine of a test's own, which it may kill.
//!
//! It lives in a PID namespace, so that its end is the end of everything it ever started, and in a network namespace, because an
//! engine without a bridge removes the machine's `docker0`, which another engine uses.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bollard::{API_DEFAULT_VERSION, Docker};
use ocluster_worker::executor::{DockerConfig, DockerExecutor, EngineAddress, Pull};
use tempfile::TempDir;

/// A running engine, killed when dropped.
pub struct PrivateEngine {
    directory: TempDir,
    process: Child,
}

impl PrivateEngine {
    /// Starts an engine without networks, and waits until it answers.
    pub async fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let data = directory.path().join("data");
        Self::start_with(directory, &data).await
    }

    /// Starts one with its data in a directory of the caller's.
    pub async fn start_on(data: &Path) -> Self {
        Self::start_with(TempDir::new().unwrap(), data).await
    }

    async fn start_with(directory: TempDir, data: &Path) -> Self {
        let path = |name: &str| directory.path().join(name).display().to_string();
        let log = std::fs::File::create(directory.path().join("log")).unwrap();
        let process = Command::new("unshare")
            .args(["--pid", "--net", "--mount", "--fork", "--kill-child=KILL", "--mount-proc", "dockerd"])
            .arg(format!("--host=unix://{}", path("docker.sock")))
            .arg(format!("--data-root={}", data.display()))
            .arg(format!("--exec-root={}", path("exec")))
            .arg(format!("--pidfile={}", path("pid")))
            .args([
                "--bridge=none",
                "--iptables=false",
                "--ip6tables=false",
                "--ip-masq=false",
                "--storage-driver=vfs",
                "--experimental",
            ])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("cannot run `unshare dockerd`: install `util-linux` and `docker.io`, and run the tests as root");
        let mut engine = Self { directory, process };
        let deadline = Instant::now() + super::PATIENCE;
        while engine.executor().health().await.is_err() {
            let gone = engine.process.try_wait().unwrap();
            if gone.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(engine.directory.path().join("log")).unwrap();
                panic!("a second Docker engine does not start (root is needed):\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        super::import_base(&engine.docker()).await;
        engine
    }

    /// The process that holds its namespaces.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("docker.sock")
    }

    pub fn executor(&self) -> DockerExecutor {
        let engine = EngineAddress::Unix(self.socket());
        DockerExecutor::new(DockerConfig {
            pull: Pull::Missing,
            engine,
            ..Default::default()
        })
    }

    pub fn docker(&self) -> Docker {
        Docker::connect_with_unix(self.socket().to_str().unwrap(), 60, API_DEFAULT_VERSION).unwrap()
    }

    /// Asks the engine to stop, as a system that shuts down does.
    pub fn terminate(&mut self) {
        let pid = std::fs::read_to_string(self.directory.path().join("pid")).unwrap();
        // The file has the number that the engine has in its own namespace.
        let inside = format!("{}/ns/pid", self.process.id());
        let status = Command::new("nsenter")
            .arg(format!("--pid=/proc/{inside}_for_children"))
            .args(["--", "kill", "-TERM", pid.trim()])
            .status();
        assert!(
            status
                .expect("cannot run `nsenter`: install `util-linux`")
                .success()
        );
    }

    /// Kills the engine as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for PrivateEngine {
    fn drop(&mut self) {
        self.kill();
    }
}
