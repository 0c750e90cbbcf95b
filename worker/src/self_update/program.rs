//! A worker under a supervisor, such as systemd: the new version is a program file that somebody has put in the old one's place.
//!
//! The worker runs it once, to see that it can be run at all: a supervisor would start a broken one again and again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

use super::error::UpdateError;

/// How long the new program may take to tell its version.
const LIMIT: Duration = Duration::from_secs(30);
/// How much of what it says is read, in bytes.
const MAX_WORDS: u64 = 4096;

/// The file that a supervisor would start.
#[derive(Clone, Debug)]
pub struct ProgramFile {
    /// Where it is, or why nobody knows.
    path: Result<PathBuf, String>,
    limit: Duration,
}

impl ProgramFile {
    /// The program at this path.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: Ok(path.into()),
            limit: LIMIT,
        }
    }

    /// The program under the name by which this process was started: a link may lead to another file by now.
    #[must_use]
    pub fn of_this_process() -> Self {
        let name = std::env::args_os().next().unwrap_or_default();
        let path = match find(&name, std::env::var_os("PATH").as_deref()) {
            Some(path) => std::path::absolute(path),
            // Whoever starts a program may call it what they like.
            None => std::env::current_exe(),
        };
        Self {
            path: path.map_err(|error| error.to_string()),
            limit: LIMIT,
        }
    }

    /// Runs the program to learn its version.
    ///
    /// # Errors
    /// If it does not exit with success within half a minute.
    pub(super) async fn check(&self) -> Result<(), UpdateError> {
        let path = self
            .path
            .as_ref()
            .map_err(|reason| UpdateError::NoProgram(reason.clone()))?;
        match tokio::time::timeout(self.limit, version(path)).await {
            Ok(Ok(version)) => {
                tracing::info!(path = %path.display(), version, "The program to be started next can be run");
                Ok(())
            }
            Ok(Err(reason)) => Err(broken(path, reason)),
            Err(_) => {
                let reason = format!(
                    "it does not tell its version within {} s",
                    self.limit.as_secs()
                );
                Err(broken(path, reason))
            }
        }
    }
}

fn broken(path: &Path, reason: String) -> UpdateError {
    UpdateError::BrokenProgram {
        path: path.to_owned(),
        reason,
    }
}

/// The file that a shell would run under this name.
fn find(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if name.is_empty() {
        return None;
    }
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    std::env::split_paths(path?)
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// What the program answers to `--version`. It is killed when the future is dropped.
async fn version(path: &Path) -> Result<String, String> {
    let mut command = Command::new(path);
    command
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for variable in ocluster_cli::SERVICE_VARIABLES {
        command.env_remove(variable);
    }
    let mut child = command
        .spawn()
        .map_err(|error| format!("it does not start: {error}"))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (answer, complaint) = tokio::join!(beginning(stdout), beginning(stderr));
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(answer);
    }
    let how = match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "no exit code".to_owned(),
    };
    let words = match complaint.lines().next() {
        Some(line) if !line.is_empty() => format!(" ({line})"),
        _ => String::new(),
    };
    Err(format!("`--version` ends with {how}{words}"))
}

/// The beginning of what comes, as text. The rest is not waited for.
async fn beginning(from: Option<impl tokio::io::AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        // What could be read is as good as it gets.
        let _ = from.take(MAX_WORDS).read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    /// A file that one test writes while another starts a process is open in that process for a moment, and cannot be run then.
    static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

    /// A shell script in place of the program.
    fn script(dir: &tempfile::TempDir, words: &str) -> ProgramFile {
        let path = dir.path().join("ocluster-worker");
        std::fs::write(&path, format!("#!/bin/sh\n{words}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        ProgramFile::at(path)
    }

    async fn complaint(program: &ProgramFile) -> String {
        program.check().await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn a_program_that_tells_its_version_will_do() {
        let _guard = ONE_AT_A_TIME.lock().await;
        let dir = tempfile::tempdir().unwrap();
        let asked = "test \"$*\" = --version && echo ocluster-worker 2.0";
        script(&dir, asked).check().await.unwrap();
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_run_is_told_with_its_words() {
        let _guard = ONE_AT_A_TIME.lock().await;
        let dir = tempfile::tempdir().unwrap();
        let broken = script(&dir, "echo libgit2.so.9: no such file >&2; exit 127");
        let said = complaint(&broken).await;
        let expected = "`--version` ends with exit code 127 (libgit2.so.9: no such file)";
        assert!(said.contains(expected), "{said}");
        assert!(
            said.contains("ocluster-worker cannot be run as the next worker"),
            "{said}"
        );
        let killed = complaint(&script(&dir, "kill -9 $$")).await;
        assert!(killed.contains("ends with signal 9"), "{killed}");

        let path = dir.path().join("ocluster-worker");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let said = complaint(&ProgramFile::at(&path)).await;
        assert!(
            said.contains("it does not start: Permission denied"),
            "{said}"
        );
        std::fs::remove_file(&path).unwrap();
        let said = complaint(&ProgramFile::at(&path)).await;
        assert!(said.contains("it does not start: No such file"), "{said}");
    }

    #[tokio::test]
    async fn a_program_that_hangs_is_given_up_and_killed() {
        let _guard = ONE_AT_A_TIME.lock().await;
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let mut program = script(
            &dir,
            &format!("echo $$ > {}; exec sleep 600", pid.display()),
        );
        program.limit = Duration::from_secs(2);
        let said = complaint(&program).await;
        assert!(
            said.contains("it does not tell its version within 2 s"),
            "{said}"
        );
        let pid = std::fs::read_to_string(pid).unwrap();
        let process = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        // Gone, or dead and not yet buried.
        while std::fs::read_to_string(&process).is_ok_and(|stat| !stat.contains(") Z ")) {
            assert!(std::time::Instant::now() < deadline, "it still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[test]
    fn the_name_is_looked_up_as_a_shell_does() {
        let _guard = ONE_AT_A_TIME.blocking_lock();
        let dir = tempfile::tempdir().unwrap();
        let program = script(&dir, "").path.unwrap();
        let path = std::env::join_paths([Path::new("/nonexistent"), dir.path()]).unwrap();
        let found = |name: &str| find(OsStr::new(name), Some(&path));
        assert_eq!(found("ocluster-worker"), Some(program.clone()));
        assert_eq!(found("unheard-of"), None);
        assert_eq!(found("./ocluster-worker"), Some("./ocluster-worker".into()));
        assert_eq!(found(""), None);
    }
}
