//! The worker's side: check the request, run the child, pass on its log, and end it when it must end.
//!
//! Must never leave a process behind, nor files in the destination of a request that failed.

use std::io;
use std::path::Path;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio_util::sync::CancellationToken;

use crate::directories::remove_content;
use crate::protocol::{Order, Report};
use crate::{ChildCommand, GitError, Prepared, Request};

/// The longest report a child may send, in bytes. Errors quote what a repository holds, which may be long.
const MAX_REPORT: u64 = 16 << 20;

/// Makes the build context of `request` in a child process started as `child`. `log` gets whole lines for the job's
/// log, each with its newline, as they come.
///
/// # Errors
/// See [`GitError`]; whatever the error, the child has ended and the destination is empty.
///
/// # Cancellation
/// When `cancel` fires the child is killed, waited for, and the answer is [`GitError::Cancelled`]. Dropping the future
/// kills the child as well, but leaves the files it wrote to the caller. The child also dies with the thread that
/// polled this future first, so that one must be a thread of the runtime and not one about to end.
pub async fn prepare(
    request: &Request,
    child: &ChildCommand,
    log: &mut (dyn FnMut(&[u8]) + Send),
    cancel: &CancellationToken,
) -> Result<Prepared, GitError> {
    let result = async {
        let destination = request.destination.clone();
        blocking("creating the build context", move || {
            std::fs::create_dir_all(&destination)?;
            remove_content(&destination)
        })
        .await?;
        if request.commits.is_empty() {
            return Ok(Prepared {
                commit: None,
                fetched: false,
            });
        }
        let order = order(request)?;
        let mut running = Running::start(child, &order).await?;
        let outcome = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(GitError::Cancelled),
            outcome = running.follow(&order, log) => outcome,
        };
        running.end().await;
        outcome
    }
    .await;
    if result.is_err() {
        let destination = request.destination.clone();
        let cleaned = blocking("removing a build context", move || {
            remove_content(&destination)
        })
        .await;
        if let Err(error) = cleaned {
            tracing::warn!(%error, "the files of a failed build context stay");
        }
    }
    result
}

fn order(request: &Request) -> Result<Order, GitError> {
    let absolute = |path: &Path| {
        std::path::absolute(path)
            .map_err(|error| GitError::worker(format!("resolving {}", path.display()), error))
    };
    Ok(Order {
        repository: request.repository.parse()?,
        commits: request
            .commits
            .iter()
            .map(|commit| commit.parse())
            .collect::<Result<_, _>>()?,
        include_git: request.include_git,
        cache_dir: absolute(&request.cache_dir)?,
        destination: absolute(&request.destination)?,
        silence_limit: request.silence_limit,
        parent: std::process::id(),
    })
}

/// A child, its reports, and what it said it is doing.
struct Running {
    child: Child,
    reports: BufReader<ChildStdout>,
    doing: String,
    server: Option<String>,
}

impl Running {
    async fn start(command: &ChildCommand, order: &Order) -> Result<Running, GitError> {
        let action = || format!("starting {}", command.program.display());
        let order = serde_json::to_vec(order)
            .map_err(|error| GitError::worker("writing a git order", error))?;
        let mut child = Command::new(&command.program)
            .args(&command.args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            // Only the worker itself speaks to its service manager.
            .env_remove("NOTIFY_SOCKET")
            // A group of its own: a signal from the terminal is for the worker, which then decides.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| GitError::worker(action(), error))?;
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(GitError::worker(action(), "it has no pipes"));
        };
        // A child that died at once closes its input; what it said, or how it ended, tells more than that.
        if let Err(error) = input.write_all(&order).await {
            tracing::debug!(%error, "the git child did not take its order");
        }
        Ok(Running {
            child,
            reports: BufReader::new(output),
            doing: "starting".to_owned(),
            server: None,
        })
    }

    /// Reads reports up to the last one.
    async fn follow(
        &mut self,
        order: &Order,
        log: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Prepared, GitError> {
        let mut line = Vec::new();
        loop {
            line.clear();
            let mut limited = (&mut self.reports).take(MAX_REPORT);
            let read = limited.read_until(b'\n', &mut line);
            match tokio::time::timeout(order.silence_limit, read).await {
                Err(_) => return Err(self.silent(order)),
                Ok(Err(error)) => {
                    return Err(GitError::worker("reading from the git process", error));
                }
                Ok(Ok(_)) => {}
            }
            if line.last() != Some(&b'\n') {
                return Err(self.ended_early().await);
            }
            let report = serde_json::from_slice(&line)
                .map_err(|error| GitError::worker("understanding the git process", error))?;
            match report {
                Report::Log(mut text) => {
                    text.push('\n');
                    log(text.as_bytes());
                }
                Report::Step { doing, server } => {
                    self.doing = doing;
                    self.server = server;
                }
                Report::Alive => {}
                Report::Done { commit, fetched } => {
                    return Ok(Prepared {
                        commit: Some(commit),
                        fetched,
                    });
                }
                Report::Failed(error) => return Err(error),
            }
        }
    }

    fn silent(&self, order: &Order) -> GitError {
        let seconds = order.silence_limit.as_secs();
        match &self.server {
            Some(host) => GitError::ServerSilent {
                host: host.clone(),
                seconds,
            },
            None => GitError::Stalled {
                step: self.doing.clone(),
                seconds,
            },
        }
    }

    async fn ended_early(&mut self) -> GitError {
        // Its output is closed; should it still run, it has nothing left to say.
        self.kill();
        let status = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        GitError::ChildDied {
            status,
            step: self.doing.clone(),
        }
    }

    fn kill(&mut self) {
        // `id` is `None` once the child was waited for: its number may belong to somebody else by then.
        let pid = self
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // Fails if the child ended already, or before it is the leader of its group; the latter is what the
            // plain kill is for.
            let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
            let _ = self.child.start_kill();
        }
    }

    /// Kills the child if it still runs, and reaps it.
    async fn end(mut self) {
        self.kill();
        if let Err(error) = self.child.wait().await {
            tracing::warn!(%error, "could not wait for the git child");
        }
    }
}

async fn blocking(
    action: &'static str,
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), GitError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(GitError::worker(action, error)),
        Err(error) => Err(GitError::worker(action, error)),
    }
}
