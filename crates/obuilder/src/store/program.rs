//! Runs the programs that copy trees for us.
//!
//! A program never outlives us: a copy that went on after its worker was killed would write into what the next worker clears away.

#![expect(
    unsafe_code,
    reason = "only a child can ask the kernel to be killed when its parent dies"
)]

use std::ffi::OsStr;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use super::StoreError;

/// As much of what a program says as is worth showing, in bytes.
const WORTH_SHOWING: usize = 2000;

/// As much of what a program says as is searched for a reason, in bytes.
const KEPT: u64 = 64 * 1024;

/// Runs `program` to make `path`; waits for its end. Must be called on a thread that lives until then.
///
/// # Errors
/// It cannot be started, or fails: its own words, and as [`StoreError::Io`] where they speak of a full disk.
pub(super) fn run<I: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = I>,
    action: &'static str,
    path: &Path,
) -> Result<(), StoreError> {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let parent = rustix::process::getpid();
    // SAFETY: both calls are single system calls, which may be made between fork and exec; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            if getppid() == Some(parent) {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(
                    rustix::io::Errno::SRCH.raw_os_error(),
                ))
            }
        });
    }
    let mut child = command.spawn().map_err(|source| {
        if source.kind() == io::ErrorKind::NotFound {
            StoreError::Refused(format!(
                "cannot {action} {}: the program {program} is not there: install it, or use another kind of store",
                path.display()
            ))
        } else {
            StoreError::io(action, path)(source)
        }
    })?;
    let said = first_words(child.stderr.take());
    let status = child.wait().map_err(StoreError::io(action, path))?;
    if status.success() {
        return Ok(());
    }
    Err(failure(program, &status.to_string(), &said, action, path))
}

/// The start of what a program says; waits for the rest of it, too.
fn first_words(said: Option<ChildStderr>) -> Vec<u8> {
    let mut first = Vec::new();
    if let Some(mut said) = said {
        // A program whose words cannot be read still has a status, which is what counts.
        let read = (&mut said).take(KEPT).read_to_end(&mut first);
        let _ = read.and_then(|_| io::copy(&mut said, &mut io::sink()));
    }
    first
}

/// What a program's end and last words mean.
fn failure(
    program: &str,
    status: &str,
    said: &[u8],
    action: &'static str,
    path: &Path,
) -> StoreError {
    let said = String::from_utf8_lossy(said);
    for errno in [rustix::io::Errno::NOSPC, rustix::io::Errno::DQUOT] {
        let source = io::Error::from_raw_os_error(errno.raw_os_error());
        let words = match errno {
            rustix::io::Errno::NOSPC => "No space left on device",
            _ => "Disk quota exceeded",
        };
        if said.contains(words) {
            return StoreError::Io {
                action,
                path: path.into(),
                source,
            };
        }
    }
    let shown: String = said.trim().chars().take(WORTH_SHOWING).collect();
    StoreError::Refused(format!(
        "cannot {action} {}: {program} failed ({status}): {shown}",
        path.display()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let said = run("obuilder-no-such-program", [""; 0], "copy", Path::new("/x")).unwrap_err();
        assert!(
            said.to_string()
                .contains("obuilder-no-such-program is not there"),
            "{said}"
        );
    }

    #[test]
    fn a_failing_program_is_quoted_and_a_full_disk_is_told_apart() {
        let at = Path::new("/x");
        let broken = run("sh", ["-c", "echo gone wrong >&2; exit 3"], "copy", at).unwrap_err();
        assert!(broken.to_string().contains("gone wrong"), "{broken}");
        assert!(broken.to_string().contains("exit status: 3"), "{broken}");
        assert!(!broken.is_full_disk());
        for words in ["x: No space left on device (28)", "Disk quota exceeded"] {
            let full = run(
                "sh",
                ["-c", &format!("echo '{words}' >&2; exit 11")],
                "copy",
                at,
            )
            .unwrap_err();
            assert!(full.is_full_disk(), "{full}");
        }
    }
}
