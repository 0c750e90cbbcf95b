//! A real Docker registry on loopback, for images that are pulled and pushed.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::deadline::{SOON, wait_for};
use crate::http::http_get;
use crate::ports::free_port;
use crate::process::Process;
use crate::programs::need_program;
use crate::scratch::Scratch;

/// A running registry with its data in a scratch directory.
pub struct Registry {
    port: u16,
    data: PathBuf,
    _process: Process,
}

impl Registry {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When `docker-registry` is not installed or does not answer.
    pub fn start(scratch: &Scratch) -> Result<Self> {
        Self::start_at(scratch, free_port()?)
    }

    /// Starts one at a port of the caller's.
    ///
    /// # Errors
    ///
    /// When `docker-registry` is not installed or does not answer, or the port is taken.
    pub fn start_at(scratch: &Scratch, port: u16) -> Result<Self> {
        Self::start_with(scratch, port, "", 200)
    }

    /// Starts one that only `user` with `password` may use.
    ///
    /// # Errors
    ///
    /// When `docker-registry` or `htpasswd` is not installed, or the registry does not answer.
    pub fn with_login(scratch: &Scratch, user: &str, password: &str) -> Result<Self> {
        let file = scratch.write("htpasswd", hashed(user, password)?)?;
        let login = format!(
            "auth:\n  htpasswd:\n    realm: test\n    path: {}\n",
            file.display()
        );
        Self::start_with(scratch, free_port()?, &login, 401)
    }

    /// Starts one with more lines of configuration, which answers strangers with `status`.
    fn start_with(scratch: &Scratch, port: u16, more: &str, status: u16) -> Result<Self> {
        let data = scratch.directory("registry")?;
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n{more}",
            data.display()
        );
        let config = scratch.write("registry.yml", config)?;
        let mut command = Command::new(need_program("docker-registry", "docker-registry")?);
        command.arg("serve").arg(config);
        let mut process = Process::start(
            "docker-registry",
            &mut command,
            &scratch.log_file("registry"),
        )?;
        wait_for("the registry to answer", SOON, || {
            process.is_running()?;
            Ok(http_get(port, "/v2/")
                .is_ok_and(|answer| answer.status == status)
                .then_some(()))
        })?;
        Ok(Self {
            port,
            data,
            _process: process,
        })
    }

    /// How many manifests it keeps: one for each image that was ever pushed.
    ///
    /// # Errors
    ///
    /// When its data cannot be read.
    pub fn manifests(&self, repository: &str) -> Result<usize> {
        let repositories = self.data.join("docker/registry/v2/repositories");
        let manifests = repositories
            .join(repository)
            .join("_manifests/revisions/sha256");
        Ok(fs::read_dir(manifests)?.count())
    }

    /// The full name of a repository in it. Docker engines talk plain HTTP to registries on loopback.
    #[must_use]
    pub fn repository(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}

/// A line of a password file. The password goes through a pipe, since everybody can read command lines.
fn hashed(user: &str, password: &str) -> Result<Vec<u8>> {
    let mut htpasswd = Command::new(need_program("htpasswd", "apache2-utils")?)
        .args(["-n", "-i", "-B", "-C", "4", user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut stdin = htpasswd.stdin.take().context("htpasswd has no stdin")?;
    stdin.write_all(password.as_bytes())?;
    drop(stdin);
    let output = htpasswd.wait_with_output()?;
    ensure!(output.status.success(), "htpasswd: {}", output.status);
    Ok(output.stdout)
}
