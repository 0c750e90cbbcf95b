//! A real Docker registry on loopback, for images that are pulled and pushed.

use std::process::Command;

use anyhow::Result;

use crate::deadline::{SOON, wait_for};
use crate::http::http_get;
use crate::ports::free_port;
use crate::process::Process;
use crate::programs::need_program;
use crate::scratch::Scratch;

/// A running registry with its data in a scratch directory.
pub struct Registry {
    port: u16,
    _process: Process,
}

impl Registry {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When `docker-registry` is not installed or does not answer.
    pub fn start(scratch: &Scratch) -> Result<Self> {
        let port = free_port()?;
        let data = scratch.directory("registry")?;
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:{port}\n",
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
                .is_ok_and(|answer| answer.status == 200)
                .then_some(()))
        })?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// The full name of a repository in it. Docker engines talk plain HTTP to registries on loopback.
    #[must_use]
    pub fn repository(&self, name: &str) -> String {
        format!("127.0.0.1:{}/{name}", self.port)
    }
}
