//! Finds the OCI runtime, and sees whether it answers.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use bstr::ByteSlice as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::SandboxError;

/// How long a runtime may take to say its version.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most that is read of what it says.
const ENOUGH: u64 = 4096;

/// The absolute path of `runtime`, which answers `--version`.
///
/// # Errors
/// There is none, or it does not.
pub(super) async fn find(runtime: &Path) -> Result<PathBuf, SandboxError> {
    let Some(path) = look_up(runtime) else {
        return Err(broken(runtime, "there is no such program"));
    };
    let version = tokio::time::timeout(PATIENCE, version(&path))
        .await
        .map_err(|_| broken(runtime, "it did not say its version within 10 seconds"))?
        .map_err(|why| broken(runtime, &why))?;
    tracing::info!(runtime = %path.display(), %version, "steps run in containers");
    Ok(path)
}

fn look_up(runtime: &Path) -> Option<PathBuf> {
    // A name without a slash is looked up, as a shell does.
    if runtime.components().count() > 1 || runtime.is_absolute() {
        return std::path::absolute(runtime)
            .ok()
            .filter(|path| path.is_file());
    }
    std::env::split_paths(&std::env::var_os("PATH")?)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(runtime))
        .find(|path| path.is_file())
}

/// The first line of its version; or what is wrong with it.
async fn version(path: &Path) -> Result<String, String> {
    let mut child = Command::new(path)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| error.to_string())?;
    let (mut said, mut complained) = (Vec::new(), Vec::new());
    if let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) {
        let (mut stdout, mut stderr) = (stdout.take(ENOUGH), stderr.take(ENOUGH));
        tokio::try_join!(
            stdout.read_to_end(&mut said),
            stderr.read_to_end(&mut complained)
        )
        .map_err(|error| error.to_string())?;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if !status.success() {
        let complaint = first_line(&complained);
        return Err(if complaint.is_empty() {
            format!("`--version` ended with {status}")
        } else {
            format!("`--version` ended with {status}: {complaint}")
        });
    }
    match first_line(&said) {
        line if line.is_empty() => Err("`--version` says nothing".to_owned()),
        line => Ok(line),
    }
}

fn first_line(bytes: &[u8]) -> String {
    let line = bytes.lines().next().unwrap_or_default().trim();
    line.to_str_lossy().chars().take(200).collect()
}

fn broken(runtime: &Path, why: &str) -> SandboxError {
    let runtime = runtime.display();
    SandboxError::Machine {
        message: format!(
            "{runtime} is missing or broken: {why}; install it with `apt-get install runc` or your system's like, or name another OCI runtime (--runtime of obuilder, --obuilder-runtime of a worker)"
        ),
        full_disk: false,
    }
}
