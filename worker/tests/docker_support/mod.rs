//! What the Docker tests share: a real engine or the reason why there is none, a base image, and jobs whose log can be watched.
//!
//! Nothing here stops, prunes or reconfigures the engine that it finds: others may be using it.

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

pub mod breaking_way;
pub mod fake;
pub mod pool;
pub mod private;
pub mod registry;

use std::path::Path;
use std::time::Duration;

use bollard::query_parameters::CreateImageOptionsBuilder;
use bollard::{Docker, body_full};
use futures::StreamExt;
use ocluster_api::{Action, DockerBuild, Dockerfile, JobSpec};
use ocluster_worker::executor::{
    DockerConfig, DockerExecutor, EngineAddress, Executor, JobContext, JobLog, Outcome, Pull,
};
use tempfile::TempDir;
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The image that test builds start from: a busybox and nothing else.
pub const BASE: &str = "ocluster-test/busybox:latest";
/// Longer than anything takes that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(60);

const TOOLS: [&str; 16] = [
    "cat", "dd", "echo", "env", "find", "head", "id", "ls", "od", "printf", "seq", "sh", "sleep",
    "sort", "stat", "yes",
];

/// Whether the operator wants to go without the Docker tests. Says so by name, so that nobody takes it for a pass.
pub fn left_out(test: &str) -> bool {
    let left_out = std::env::var_os("OCLUSTER_SKIP_DOCKER").is_some_and(|value| value == "1");
    if left_out {
        eprintln!("{test}: LEFT OUT, as OCLUSTER_SKIP_DOCKER=1 asks");
    }
    left_out
}

/// Leaves the test out if the operator wants that.
#[macro_export]
macro_rules! needs_docker {
    ($test:literal) => {
        if $crate::docker_support::left_out($test) {
            return;
        }
    };
}

/// The machine's engine, with the base image in it.
pub async fn engine() -> (DockerExecutor, Docker) {
    let config = DockerConfig {
        pull: Pull::Missing,
        engine: EngineAddress::from_environment().unwrap(),
        ..Default::default()
    };
    let executor = DockerExecutor::new(config);
    if let Err(failure) = executor.health().await {
        panic!(
            "{}\nThese tests need a Docker engine: install `docker.io` and start `dockerd`, \
             or leave them out with OCLUSTER_SKIP_DOCKER=1",
            failure.message
        );
    }
    let docker = Docker::connect_with_defaults().unwrap();
    static IMPORTED: OnceCell<()> = OnceCell::const_new();
    IMPORTED.get_or_init(|| import_base(&docker)).await;
    (executor, docker)
}

/// Makes sure that the engine has [`BASE`].
pub async fn import_base(docker: &Docker) {
    if docker.inspect_image(BASE).await.is_ok() {
        return;
    }
    let busybox =
        std::fs::read("/bin/busybox").expect("/bin/busybox is missing: install `busybox-static`");
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(busybox.len() as u64);
    tar.append_data(&mut header, "bin/busybox", &busybox[..])
        .unwrap();
    for tool in TOOLS {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, format!("bin/{tool}"), "busybox")
            .unwrap();
    }
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o1777);
    header.set_size(0);
    tar.append_data(&mut header, "tmp", std::io::empty())
        .unwrap();
    let body = body_full(tar.into_inner().unwrap().into());
    let (repo, tag) = BASE.rsplit_once(':').unwrap();
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(repo)
        .tag(tag)
        .build();
    let messages: Vec<_> = docker
        .create_image(Some(options), Some(body), None)
        .collect()
        .await;
    messages
        .into_iter()
        .for_each(|message| drop(message.unwrap()));
}

/// A Docker build that a test may change before it runs.
pub struct Job {
    pub build: DockerBuild,
    pub secrets: Vec<ocluster_api::Secret>,
    pub context: TempDir,
}

impl Job {
    pub fn new(dockerfile: impl Into<String>) -> Self {
        let build = DockerBuild {
            dockerfile: Dockerfile::Contents(dockerfile.into()),
            push: None,
            build_args: vec![],
            squash: false,
            buildkit: false,
            include_git: false,
        };
        Self {
            build,
            secrets: vec![],
            context: TempDir::new().unwrap(),
        }
    }

    /// A job whose steps come after `FROM` the base image, and after a step which no cache knows.
    pub fn fresh(steps: &str) -> Self {
        let job = Self::new(format!("FROM {BASE}\nCOPY nonce /nonce\n{steps}\n"));
        job.with_file("nonce", nonce())
    }

    pub fn with_file(self, path: impl AsRef<Path>, contents: impl AsRef<[u8]>) -> Self {
        let path = self.context.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
        self
    }

    pub fn with_args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.build.build_args = arguments.map(str::to_owned).to_vec();
        self
    }

    /// Starts the job on a task of its own.
    pub fn start(self, executor: impl Executor + Clone) -> Running {
        let (log, mut chunks) = JobLog::new(16);
        let (written, text) = watch::channel(Vec::new());
        let cancel = CancellationToken::new();
        let token = cancel.clone();
        let outcome = tokio::spawn(async move {
            let scratch = TempDir::new().unwrap();
            let spec = JobSpec {
                action: Action::Docker(self.build),
                cache_hint: String::new(),
                source: None,
                secrets: self.secrets,
            };
            let context = self.context.path();
            let job = JobContext {
                spec: &spec,
                context,
                scratch: scratch.path(),
                log: &log,
                cancel: &token,
            };
            executor.execute(job).await
        });
        tokio::spawn(async move {
            while let Some(chunk) = chunks.recv().await {
                written.send_modify(|log| log.extend_from_slice(&chunk));
            }
        });
        Running {
            outcome,
            log: text,
            cancel,
        }
    }

    /// Runs the job to its end, and returns its log, too.
    pub async fn run(self, executor: &DockerExecutor) -> (Outcome, String) {
        self.start(executor.clone()).end().await
    }
}

/// The job, to be built with BuildKit.
pub fn with_buildkit(mut job: Job) -> Job {
    job.build.buildkit = true;
    job
}

/// A job that runs.
pub struct Running {
    pub outcome: JoinHandle<Outcome>,
    pub log: watch::Receiver<Vec<u8>>,
    pub cancel: CancellationToken,
}

impl Running {
    /// Waits for the end.
    pub async fn end(mut self) -> (Outcome, String) {
        let outcome = tokio::time::timeout(PATIENCE, self.outcome)
            .await
            .expect("the job did not end")
            .unwrap();
        // The channel closes when the last chunk has been taken.
        while self.log.changed().await.is_ok() {}
        let log = String::from_utf8_lossy(&self.log.borrow()).into_owned();
        (outcome, log)
    }

    /// Waits until the log has what follows `before` in its line.
    pub async fn rest_of_line(&mut self, before: &str) -> String {
        let found = |log: &Vec<u8>| {
            let log = String::from_utf8_lossy(log).into_owned();
            let (_, rest) = log.rsplit_once(before)?;
            Some(rest.split_once('\n')?.0.to_owned())
        };
        let log = self.log.wait_for(|log| found(log).is_some());
        let log = tokio::time::timeout(PATIENCE, log)
            .await
            .expect("the line did not come")
            .expect("the job ended without the line");
        found(&log).unwrap()
    }
}

/// Text that was never used before, always of the same length.
pub fn nonce() -> String {
    format!("{:020}", rand::random::<u64>())
}
