//! A real Prometheus server and its checker, `promtool`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::command::{Finished, run};
use crate::deadline::{SOON, wait_for};
use crate::http::http_get;
use crate::ports::free_port;
use crate::process::Process;
use crate::programs::need_program;
use crate::scratch::Scratch;

/// A running server, with its data in a scratch directory.
pub struct Prometheus {
    port: u16,
    process: Process,
}

impl Prometheus {
    /// Starts one with this configuration file, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// When `prometheus` is not installed or does not start.
    pub fn start(scratch: &Scratch, config: &Path) -> Result<Self> {
        let port = free_port()?;
        let data = scratch.directory("prometheus-data")?;
        let mut command = Command::new(need_program("prometheus", "prometheus")?);
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let log = scratch.log_file("prometheus");
        let mut process = Process::start("prometheus", &mut command, &log)?;
        wait_for("Prometheus to be ready", SOON, || {
            ensure!(process.is_running()?, "it ended:\n{}", process.log());
            let ready = http_get(port, "/-/ready").is_ok_and(|answer| answer.status == 200);
            Ok(ready.then_some(()))
        })?;
        Ok(Self { port, process })
    }

    /// The `data` of an answer of its HTTP API, such as `/api/v1/targets`.
    ///
    /// # Errors
    ///
    /// When the answer is not a success.
    pub fn api(&self, path: &str) -> Result<Value> {
        let answer = http_get(self.port, path)?;
        let mut json: Value = serde_json::from_str(&answer.body)
            .with_context(|| format!("GET {path}: {answer:?}"))?;
        ensure!(json["status"] == "success", "GET {path}: {json}");
        Ok(json["data"].take())
    }

    /// What an expression gives now: labels and values.
    ///
    /// # Errors
    ///
    /// When the expression is refused, or does not give a vector of numbers.
    pub fn query(&self, expression: &str) -> Result<Vec<(Value, f64)>> {
        let data = self.api(&format!("/api/v1/query?query={}", encode(expression)))?;
        let vector = data["result"].as_array().context("no vector")?;
        let samples = vector.iter().map(|sample| {
            let value = sample["value"][1].as_str().context("no value")?;
            Ok((sample["metric"].clone(), value.parse()?))
        });
        samples.collect()
    }

    /// What it has written to its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

/// Percent-encodes everything but letters and digits.
fn encode(text: &str) -> String {
    let encode = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// Runs `promtool`, which checks rules, configurations and metrics.
///
/// # Errors
///
/// When it is not installed or does not end.
pub fn promtool(words: &[&str], file: &Path) -> Result<Finished> {
    let mut command = Command::new(need_program("promtool", "prometheus")?);
    command.args(words).arg(file);
    run(&mut command)
}

/// What `promtool check metrics` complains about in a page.
///
/// # Errors
///
/// When it is not installed or does not end.
pub fn complaints_about(scratch: &Scratch, page: &str) -> Result<Vec<String>> {
    let file = scratch.write("metrics.txt", page)?;
    let mut command = Command::new("sh");
    command
        .args(["-c", "exec \"$0\" check metrics < \"$1\""])
        .arg(need_program("promtool", "prometheus")?)
        .arg(file);
    let finished = run(&mut command)?;
    let said = format!("{}{}", finished.stdout, finished.stderr);
    let complaints: Vec<String> = said.lines().map(str::to_owned).collect();
    // 3 is for things that could be better. Anything else means that the page cannot be read.
    ensure!(
        finished.code() == 0 || (finished.code() == 3 && !complaints.is_empty()),
        "{finished}"
    );
    Ok(complaints)
}

/// A file of `deploy/`, as an operator gets it.
#[must_use]
pub fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}
