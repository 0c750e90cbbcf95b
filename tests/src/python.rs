//! Python with pycapnp, an implementation of Cap'n Proto which shares no code with ours, and the scripts in `tests/python` that
//! speak the cluster's schema with it.
//!
//! The interpreter is one of a virtual environment of its own below cargo's target directory, so that nothing is installed for
//! anybody else.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::command::{run, run_within};
use crate::peer;
use crate::programs::need_program;
use crate::scratch::Scratch;

/// Where `cargo xtask` says the virtual environment is.
pub const PYTHON_VARIABLE: &str = "OCLUSTER_TESTS_PYTHON";

/// What is installed in it.
const PYCAPNP: &str = "pycapnp==2.2.4";

/// Succeeds where that is installed.
const CHECK: &str = "import capnp; assert capnp.__version__ == '2.2.4', capnp.__version__";

/// How long fetching it may take.
const INSTALL_LIMIT: Duration = Duration::from_secs(300);

/// An interpreter, and a key and certificate for its TLS sessions.
pub struct Python {
    interpreter: PathBuf,
    key: PathBuf,
    certificate: PathBuf,
}

impl Python {
    /// The interpreter of the environment named by `OCLUSTER_TESTS_PYTHON`, or else of the one that belongs to the build that made
    /// this test. The key is a fresh one.
    ///
    /// # Errors
    ///
    /// When the environment is not there or lacks pycapnp, saying how to make it; when `openssl` is not installed.
    pub fn with_certificate(scratch: &Scratch) -> Result<Self> {
        let environment = match env::var_os(PYTHON_VARIABLE) {
            Some(directory) => PathBuf::from(directory),
            None => beside_this_build()?,
        };
        let interpreter = interpreter(&environment);
        ensure!(
            has_pycapnp(&interpreter),
            "{} cannot import {PYCAPNP}: run `cargo xtask test`, or `python3 -m venv {1} && {1}/bin/pip install {PYCAPNP}`",
            interpreter.display(),
            environment.display()
        );
        let (key, certificate) = peer::certificate(scratch)?;
        Ok(Self {
            interpreter,
            key,
            certificate,
        })
    }

    /// A command that runs one of the scripts in `tests/python` with the capability in `cap`.
    #[must_use]
    pub fn command(&self, script: &str, cap: &Path) -> Command {
        let mut command = Command::new(&self.interpreter);
        command
            .arg("-B")
            .arg(
                Path::new(env!("CARGO_MANIFEST_DIR"))
                    .join("python")
                    .join(script),
            )
            .arg("--cap")
            .arg(cap)
            .arg("--key")
            .arg(&self.key)
            .arg("--certificate")
            .arg(&self.certificate)
            .env("PYTHONUNBUFFERED", "1");
        command
    }

    /// Sees to it that there is a virtual environment with pycapnp at `environment`.
    ///
    /// # Errors
    ///
    /// When it cannot be made: Python lacks its module `venv`, or the package index cannot be reached.
    pub fn provide(environment: &Path) -> Result<()> {
        let interpreter = interpreter(environment);
        if has_pycapnp(&interpreter) {
            return Ok(());
        }
        let python = need_program("python3", "python3")?;
        run(Command::new(python)
            .args(["-m", "venv", "--clear"])
            .arg(environment))?
        .success()?;
        let mut install = Command::new(interpreter);
        install
            .args(["-m", "pip", "install", "--quiet"])
            .args(["--disable-pip-version-check", "--only-binary=:all:"])
            .arg(PYCAPNP);
        run_within(&mut install, INSTALL_LIMIT)?
            .success()
            .with_context(|| {
                format!("cannot install {PYCAPNP}; `--skip pycapnp` does without it")
            })?;
        Ok(())
    }
}

fn interpreter(environment: &Path) -> PathBuf {
    environment.join("bin").join("python")
}

fn has_pycapnp(interpreter: &Path) -> bool {
    interpreter.is_file()
        && run(Command::new(interpreter).args(["-c", CHECK]))
            .is_ok_and(|finished| finished.code() == 0)
}

/// `python` in the target directory: target/<profile>/deps/<test> is this program.
fn beside_this_build() -> Result<PathBuf> {
    let this = env::current_exe()?;
    let target = this
        .ancestors()
        .nth(3)
        .context("this test is in no target directory")?;
    Ok(target.join("python"))
}
