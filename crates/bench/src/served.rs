//! A repository with a given number of files, made by `git fast-import` and served by `git daemon` on loopback.
//!
//! The repository and the server are gone when the guard is dropped. The configuration of whoever measures has no say.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tempfile::TempDir;

/// How long the server may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A served repository.
#[derive(Debug)]
pub struct Served {
    directory: TempDir,
    port: u16,
    daemon: Child,
    commit: String,
}

impl Served {
    /// Makes a repository whose only commit has `files` files of 1 to 60 short lines in a few hundred directories, and a Dockerfile
    /// with this text; and serves it.
    ///
    /// # Errors
    /// If git is not installed, or its daemon does not listen.
    pub fn start(files: u32, dockerfile: &str) -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let repository = directory.path().join("repo.git");
        let path = repository
            .to_str()
            .context("a directory whose name is not UTF-8")?;
        git(
            directory.path(),
            &["init", "-q", "--bare", "-b", "main", path],
        )?;
        let stream = directory.path().join("stream");
        std::fs::write(&stream, import_stream(files, dockerfile)?)?;
        let mut import = command(&repository, &["fast-import", "--quiet"]);
        finish(import.stdin(std::fs::File::open(&stream)?))?;
        std::fs::remove_file(&stream)?;
        let commit = git(&repository, &["rev-parse", "main"])?;
        // A free port: taken again by the daemon right away.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        // Not `git daemon`: that would only start this one, which would outlive it.
        let programs = PathBuf::from(git(directory.path(), &["--exec-path"])?.trim());
        let mut daemon = Command::new(programs.join("git-daemon"));
        daemon
            .args(["--reuseaddr", "--export-all"])
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .args(["--listen=127.0.0.1", &format!("--port={port}")])
            .arg(format!("--base-path={}", directory.path().display()))
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let served = Self {
            daemon: daemon.spawn().context("cannot start `git daemon`")?,
            commit: commit.trim().to_owned(),
            directory,
            port,
        };
        let started = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            ensure!(
                started.elapsed() < START_LIMIT,
                "`git daemon` does not listen"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(served)
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("git://127.0.0.1:{}/repo.git", self.port)
    }

    /// The hash of its commit.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// A path beside the repository, for what goes with it.
    #[must_use]
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Clones it with git into `destination`, with the objects of the repository at `reference` if one is given, and checks its
    /// commit out.
    ///
    /// # Errors
    /// If git fails.
    pub fn clone_with_git(
        &self,
        destination: &Path,
        reference: Option<&Path>,
    ) -> anyhow::Result<()> {
        let mut clone = command(self.directory.path(), &["clone", "-q", "--no-checkout"]);
        if let Some(reference) = reference {
            clone.arg("--reference").arg(reference);
        }
        finish(clone.arg(self.url()).arg(destination))?;
        git(destination, &["checkout", "-q", &self.commit])?;
        Ok(())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself, which is as well.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

fn import_stream(files: u32, dockerfile: &str) -> anyhow::Result<String> {
    let mut stream = String::from(
        "commit refs/heads/main\ncommitter Bench <bench@example.org> 1700000000 +0000\ndata 4\nmany\n",
    );
    let mut add = |path: &str, text: &str| {
        write!(
            stream,
            "M 100644 inline {path}\ndata {}\n{text}\n",
            text.len()
        )
    };
    add("Dockerfile", dockerfile)?;
    for number in 0..files {
        let text = format!("file number {number}\n").repeat(1 + number as usize % 60);
        add(
            &format!("d{}/e{}/f{number}", number % 100, number % 7),
            &text,
        )?;
    }
    Ok(stream)
}

fn command(directory: &Path, words: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(directory).args(words);
    command
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    // Detached heads are not worth a lecture.
    command.env("GIT_ADVICE", "0");
    command
}

fn git(directory: &Path, words: &[&str]) -> anyhow::Result<String> {
    finish(&mut command(directory, words))
}

fn finish(command: &mut Command) -> anyhow::Result<String> {
    let output = command
        .stderr(Stdio::piped())
        .output()
        .context("cannot run git")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{command:?} failed ({}): {words}",
        output.status
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_served_can_be_cloned() {
        let served = Served::start(50, "FROM scratch\n").unwrap();
        let clone = served.beside("clone");
        served.clone_with_git(&clone, None).unwrap();
        assert_eq!(
            std::fs::read_to_string(clone.join("d1/e1/f1")).unwrap(),
            "file number 1\nfile number 1\n"
        );
        assert_eq!(
            std::fs::read_to_string(clone.join("Dockerfile")).unwrap(),
            "FROM scratch\n"
        );
    }
}
