//! Git repositories with known commits, and the real `git daemon` that serves them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::deadline::{SOON, wait_for};
use crate::ports::free_port;
use crate::process::Process;
use crate::programs::need_program;

/// A repository on disk.
pub struct Repository {
    path: PathBuf,
}

impl Repository {
    /// Makes an empty repository at `path`, with a branch `main`.
    ///
    /// # Errors
    ///
    /// When git is not installed or the path is taken.
    pub fn new(path: &Path) -> Result<Self> {
        fs::create_dir_all(path)?;
        let repository = Self {
            path: path.to_owned(),
        };
        repository.git(&["init", "-q", "-b", "main"])?;
        Ok(repository)
    }

    /// Writes `files` (name, content), commits everything, and returns the commit's hash.
    ///
    /// # Errors
    ///
    /// When git refuses.
    pub fn commit(&self, message: &str, files: &[(&str, &str)]) -> Result<String> {
        for (name, content) in files {
            let path = self.path.join(name);
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            fs::write(path, content)?;
        }
        self.git(&["add", "-A"])?;
        self.git(&["commit", "-q", "--allow-empty", "-m", message])?;
        self.head()
    }

    /// Goes to a new branch that begins at `start`.
    ///
    /// # Errors
    ///
    /// When git refuses.
    pub fn branch(&self, name: &str, start: &str) -> Result<()> {
        self.git(&["checkout", "-q", "-b", name, start])?;
        Ok(())
    }

    /// The hash of the current commit.
    ///
    /// # Errors
    ///
    /// When there is none yet.
    pub fn head(&self) -> Result<String> {
        Ok(self.git(&["rev-parse", "HEAD"])?.trim().to_owned())
    }

    /// Runs git in the repository and returns what it prints. The user's own configuration has no say.
    ///
    /// # Errors
    ///
    /// When git fails.
    pub fn git(&self, words: &[&str]) -> Result<String> {
        let mut command = Command::new(need_program("git", "git")?);
        command.arg("-C").arg(&self.path).args(words);
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1");
        for role in ["AUTHOR", "COMMITTER"] {
            command
                .env(format!("GIT_{role}_NAME"), "Storyteller")
                .env(format!("GIT_{role}_EMAIL"), "story@example.org");
        }
        Ok(run(&mut command)?.success()?.stdout)
    }
}

/// A running `git daemon` for every repository below a directory.
pub struct GitDaemon {
    port: u16,
    _process: Process,
}

impl GitDaemon {
    /// Serves the repositories below `root` on loopback, logging to `log`.
    ///
    /// # Errors
    ///
    /// When git is not installed or does not answer.
    pub fn start(root: &Path, log: &Path) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new(need_program("git", "git")?);
        command.args([
            "daemon",
            "--verbose",
            "--reuseaddr",
            "--export-all",
            "--listen=127.0.0.1",
        ]);
        command.arg(format!("--port={port}"));
        command.arg(format!(
            "--base-path={}",
            root.to_str()
                .context("a directory whose name is not UTF-8")?
        ));
        // The repositories belong to whoever runs the story, whatever git thinks of that.
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*");
        let process = Process::start("git daemon", &mut command, log)?;
        wait_for("git daemon to listen", SOON, || {
            Ok(std::net::TcpStream::connect(("127.0.0.1", port))
                .is_ok()
                .then_some(()))
        })?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// The URL of the repository `name`.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }
}
