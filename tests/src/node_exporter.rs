//! A real node exporter on loopback.

use std::process::Command;

use anyhow::{Result, ensure};

use crate::deadline::{SOON, wait_for};
use crate::http::http_get;
use crate::ports::free_port;
use crate::process::Process;
use crate::programs::need_program;
use crate::scratch::Scratch;

/// A running node exporter.
pub struct NodeExporter {
    port: u16,
    _process: Process,
}

impl NodeExporter {
    /// Starts one.
    ///
    /// # Errors
    ///
    /// When `prometheus-node-exporter` is not installed or does not answer.
    pub fn start(scratch: &Scratch) -> Result<Self> {
        let port = free_port()?;
        let program = "prometheus-node-exporter";
        let mut command = Command::new(need_program(program, program)?);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let log = scratch.log_file("node-exporter");
        let mut process = Process::start("the node exporter", &mut command, &log)?;
        wait_for("the node exporter to answer", SOON, || {
            ensure!(process.is_running()?, "it ended:\n{}", process.log());
            let answers = http_get(port, "/metrics").is_ok_and(|answer| answer.status == 200);
            Ok(answers.then_some(()))
        })?;
        Ok(Self {
            port,
            _process: process,
        })
    }

    /// Where its metrics are.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.port)
    }
}
