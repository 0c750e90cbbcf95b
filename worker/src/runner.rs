//! What happens to one job on this machine: its log, its directories, its build context, its executor, its last line.
//!
//! Runs on the pool of ordinary threads. Whatever happens, the log is complete before the result is given. Nobody waits for the job's
//! directories to be removed but the next job: that takes as long as the disk takes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt as _;
use ocluster_api::{Action, JobSpec};
use ocluster_git_context::{
    Cause as GitCause, ChildCommand, DEFAULT_SILENCE_LIMIT, GitError, Request,
};
use ocluster_joblog::{End, LogWriter};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::executor::{Cause, Executor, Executors, Failure, JobContext, JobLog, Outcome};
use crate::job::JobResult;

/// Chunks of output that wait for the disk before their writer waits.
const LOG_BACKLOG: usize = 16;

/// A job that has ended.
pub(crate) struct Ran {
    /// How it ended.
    pub(crate) result: JobResult,
    /// Ready when the spooled log is on disk and nothing here uses it any more.
    pub(crate) log_recorded: Recorded,
    /// The job's directories, to be removed when the result has been given.
    pub(crate) leftovers: Leftovers,
}

/// What a job leaves on this machine's disk. Dropping it removes it, too, but makes its thread wait for the disk.
#[derive(Default)]
pub(crate) struct Leftovers(Option<JobDir>);

impl Leftovers {
    /// Removes it.
    pub(crate) async fn remove(self) {
        if let Some(dir) = self.0 {
            dir.remove().await;
        }
    }
}

/// The wait for a log to be on disk.
type Recorded = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What all jobs of a worker share.
pub(crate) struct Runner {
    pub(crate) worker: String,
    pub(crate) executors: Executors,
    pub(crate) tmp: PathBuf,
    pub(crate) git_cache: PathBuf,
    pub(crate) git_child: ChildCommand,
}

impl Runner {
    /// Runs one job to its end. The log is complete for its readers then, if not yet on disk.
    pub(crate) async fn run(
        self: Arc<Self>,
        spec: Result<JobSpec, String>,
        spool: LogWriter,
        cancel: CancellationToken,
    ) -> Ran {
        let (log, chunks) = JobLog::new(LOG_BACKLOG);
        let spooling = tokio::spawn(spool_log(chunks, spool));
        let mut leftovers = Leftovers::default();
        let run = AssertUnwindSafe(self.run_logged(spec, &log, &cancel, &mut leftovers));
        let result = match run.catch_unwind().await {
            Ok(outcome) => JobResult::Outcome(outcome),
            Err(panic) => {
                let what = panic_text(&*panic);
                warn!("A job crashed: {what}");
                log.line(format!("Uncaught exception: {what}")).await;
                JobResult::Crashed
            }
        };
        drop(log);
        let log_recorded = spooling.await.unwrap_or_else(|_| {
            warn!("The writer of a job's log crashed");
            Box::pin(std::future::ready(()))
        });
        Ran {
            result,
            log_recorded,
            leftovers,
        }
    }

    async fn run_logged(
        &self,
        spec: Result<JobSpec, String>,
        log: &JobLog,
        cancel: &CancellationToken,
        leftovers: &mut Leftovers,
    ) -> Outcome {
        log.line(format!("Building on {}", self.worker)).await;
        let outcome = match spec {
            Ok(spec) => self.run_spec(&spec, log, cancel, leftovers).await,
            Err(mistake) => Failure::request(mistake).into(),
        };
        // Whoever was told to stop has stopped, whatever its last words were.
        let outcome = if cancel.is_cancelled() {
            Outcome::Cancelled
        } else {
            outcome
        };
        match &outcome {
            Outcome::Succeeded { .. } => log.line("Job succeeded").await,
            Outcome::Cancelled => log.line("Job cancelled").await,
            Outcome::Failed(failure) => log.line(&failure.message).await,
        }
        outcome
    }

    async fn run_spec(
        &self,
        spec: &JobSpec,
        log: &JobLog,
        cancel: &CancellationToken,
        leftovers: &mut Leftovers,
    ) -> Outcome {
        if !self.executors.wants_directories(spec) {
            let nowhere = self.tmp.join("none");
            return self.execute(spec, &nowhere, log, cancel).await;
        }
        let job_dir = match JobDir::create(&self.tmp).await {
            Ok(dir) => leftovers.0.insert(dir),
            Err(error) => {
                let message = format!("The worker cannot make a directory for this job: {error}");
                return if is_full_disk(&error) {
                    Failure::disk_full(message).into()
                } else {
                    Failure::setup(message).into()
                };
            }
        };
        let filled = self
            .fill_context(spec, &context_in(job_dir.path()), log, cancel)
            .await;
        match filled {
            Ok(()) => self.execute(spec, job_dir.path(), log, cancel).await,
            Err(outcome) => outcome,
        }
    }

    async fn execute(
        &self,
        spec: &JobSpec,
        job_dir: &Path,
        log: &JobLog,
        cancel: &CancellationToken,
    ) -> Outcome {
        let (context, scratch) = (context_in(job_dir), scratch_in(job_dir));
        let job = JobContext {
            spec,
            context: &context,
            scratch: &scratch,
            log,
            cancel,
        };
        self.executors.execute(job).await
    }

    /// Checks the job's commits out into `context`.
    async fn fill_context(
        &self,
        spec: &JobSpec,
        context: &Path,
        log: &JobLog,
        cancel: &CancellationToken,
    ) -> Result<(), Outcome> {
        let Some(source) = &spec.source else {
            return Ok(());
        };
        let include_git = matches!(&spec.action, Action::Docker(docker) if docker.include_git);
        let request = Request {
            repository: source.repository.clone(),
            commits: source.commits.clone(),
            include_git,
            cache_dir: self.git_cache.clone(),
            destination: context.to_owned(),
            silence_limit: DEFAULT_SILENCE_LIMIT,
        };
        // A few lines at most, so that they need no bound of their own.
        let (sender, mut lines) = mpsc::unbounded_channel::<Bytes>();
        let prepare = async move {
            let mut forward = move |line: &[u8]| drop(sender.send(Bytes::copy_from_slice(line)));
            ocluster_git_context::prepare(&request, &self.git_child, &mut forward, cancel).await
        };
        let write = async {
            while let Some(line) = lines.recv().await {
                log.write(line).await;
            }
        };
        let (prepared, ()) = tokio::join!(prepare, write);
        prepared.map(|_| ()).map_err(|error| git_outcome(&error))
    }
}

fn git_outcome(error: &GitError) -> Outcome {
    let cause = match error.cause() {
        GitCause::Cancelled => return Outcome::Cancelled,
        GitCause::Request => Cause::Request,
        GitCause::Server => Cause::Source,
        GitCause::Worker if tells_of_a_full_disk(&error.to_string()) => Cause::DiskFull,
        GitCause::Worker => Cause::Setup,
    };
    Failure {
        cause,
        message: error.to_string(),
    }
    .into()
}

fn is_full_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded
    )
}

/// Whether an error that is known to be this machine's ends as the system's error for a full disk does. It came from another process,
/// or out of libgit2, as text.
fn tells_of_a_full_disk(error: &str) -> bool {
    let error = match error.rfind(" (os error ") {
        Some(code) => error.split_at(code).0,
        None => error,
    };
    ["No space left on device", "Disk quota exceeded"]
        .iter()
        .any(|full| error.ends_with(full))
}

/// Where a job's build context is.
fn context_in(job_dir: &Path) -> PathBuf {
    job_dir.join("context")
}

/// Where a job's other files are.
fn scratch_in(job_dir: &Path) -> PathBuf {
    job_dir.join("scratch")
}

/// A job's directories.
pub(crate) struct JobDir(tempfile::TempDir);

impl JobDir {
    async fn create(tmp: &Path) -> std::io::Result<Self> {
        let tmp = tmp.to_owned();
        blocking(move || {
            let dir = tempfile::Builder::new()
                .prefix("job-")
                .permissions(Permissions::from_mode(0o700))
                .tempdir_in(tmp)?;
            std::fs::create_dir(context_in(dir.path()))?;
            std::fs::create_dir(scratch_in(dir.path()))?;
            Ok(Self(dir))
        })
        .await
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    async fn remove(self) {
        let path = self.path().to_owned();
        if let Err(error) = blocking(move || self.0.close()).await {
            warn!(%error, "Cannot remove \"{}\"; it will be removed at the next start", path.display());
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(std::io::Error::other(error)),
    }
}

/// Writes a job's output to its spool. A spool that cannot be written ends the log with the reason, and the job goes on.
async fn spool_log(mut chunks: mpsc::Receiver<Bytes>, mut spool: LogWriter) -> Recorded {
    let mut end = End::Closed;
    while let Some(chunk) = chunks.recv().await {
        if let Err(error) = spool.append(chunk).await {
            warn!(%error, "Cannot keep a job's log");
            end = End::Broken {
                reason: format!("The rest of this log could not be kept: {error}"),
            };
            break;
        }
    }
    // Nobody is kept waiting for room in a log that is closed.
    drop(chunks);
    // Readers see the end at once: the result need not wait for the disk.
    let recorded = spool.finish(end);
    Box::pin(async move {
        if let Err(error) = recorded.await {
            warn!(%error, "Cannot complete a job's log");
        }
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("unknown")
}

/// Says in the worker's own log how a job ended.
pub(crate) fn report(id: u64, result: &JobResult) {
    match result {
        JobResult::Outcome(Outcome::Succeeded { .. }) => info!(job = id, "Job succeeded"),
        JobResult::Outcome(Outcome::Cancelled) => info!(job = id, "Job cancelled"),
        JobResult::Outcome(Outcome::Failed(failure)) => {
            info!(
                job = id,
                cause = failure.cause.code(),
                "Job failed: {}",
                failure.message
            );
        }
        JobResult::Crashed => warn!(job = id, "Job crashed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_during_a_checkout_is_told_as_such() {
        let outcome = |reason: &str| {
            git_outcome(&GitError::Checkout {
                commit: "c0ffee".to_owned(),
                reason: reason.to_owned(),
            })
        };
        for (reason, cause) in [
            (
                "could not write to 'a': No space left on device",
                Cause::DiskFull,
            ),
            ("No space left on device (os error 28)", Cause::DiskFull),
            ("Disk quota exceeded (os error 122)", Cause::DiskFull),
            (
                "cannot open 'No space left on device/x': Permission denied",
                Cause::Setup,
            ),
        ] {
            let Outcome::Failed(failure) = outcome(reason) else {
                panic!("it did not fail")
            };
            assert_eq!(failure.cause, cause, "{reason}");
        }
        let full = std::io::Error::from_raw_os_error(28);
        assert!(is_full_disk(&full) && tells_of_a_full_disk(&full.to_string()));
    }
}
