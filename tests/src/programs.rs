//! Finds programs: the four of this project, and those of the system.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// Where `cargo xtask` says the freshly built programs are.
pub const BIN_DIR_VARIABLE: &str = "OCLUSTER_BIN_DIR";

/// The directory with the four programs.
#[derive(Clone, Debug)]
pub struct Programs {
    directory: PathBuf,
}

impl Programs {
    /// The programs named by `OCLUSTER_BIN_DIR`, or else those in the directory of the build that made this test.
    ///
    /// # Errors
    ///
    /// When they have not been built.
    pub fn find() -> Result<Self> {
        let directory = match env::var_os(BIN_DIR_VARIABLE) {
            Some(directory) => PathBuf::from(directory),
            None => {
                // target/<profile>/deps/<test>, or target/<profile>/<program>.
                let this = env::current_exe()?;
                let here = this.parent().context("a program without a directory")?;
                let profile = if here.ends_with("deps") {
                    here.parent().unwrap_or(here)
                } else {
                    here
                };
                profile.to_owned()
            }
        };
        Self::at(directory)
    }

    /// The programs in `directory`.
    ///
    /// # Errors
    ///
    /// When one of them is not there.
    pub fn at(directory: PathBuf) -> Result<Self> {
        for name in [
            "ocluster-scheduler",
            "ocluster-worker",
            "ocluster-client",
            "ocluster-admin",
        ] {
            if !directory.join(name).is_file() {
                bail!(
                    "{name} is not in {}: run `cargo build` first, or `cargo xtask test`",
                    directory.display()
                );
            }
        }
        Ok(Self { directory })
    }

    /// Where they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A command that runs one of the examples that were built along with them.
    ///
    /// # Errors
    ///
    /// When it has not been built.
    pub fn example(&self, name: &str) -> Result<Command> {
        let path = self.directory.join("examples").join(name);
        if !path.is_file() {
            bail!(
                "the example {name} is not built: run `cargo build --workspace --examples` first, or `cargo xtask test`"
            );
        }
        Ok(Command::new(path))
    }

    /// A command that runs one of them, with nothing in its environment that would change its output.
    #[must_use]
    pub fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.directory.join(name));
        command
            .env_remove("RUST_LOG")
            .env_remove("RUST_BACKTRACE")
            .env("NO_COLOR", "1");
        command
    }
}

/// The path of a program of the system: from `PATH`, or from the directories which Debian keeps for root.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// Like [`find_program`], for those who cannot do without.
///
/// # Errors
///
/// When it is not there, saying which Debian package has it.
pub(crate) fn need_program(name: &str, package: &str) -> Result<PathBuf> {
    find_program(name).with_context(|| {
        format!("`{name}` is not installed: install Debian's package `{package}` (`cargo xtask test` does so for root)")
    })
}
