//! Images of our own programs, made with the project's Dockerfiles on a base image that is made here, and containers of them.
//!
//! Everything goes when its guard is dropped, and nothing else does: the engine may be shared.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::dockerfile::unique;
use crate::engine::Engine;
use crate::image::BaseImage;
use crate::programs::{Programs, need_program};
use crate::scratch::Scratch;

/// The four programs.
const PROGRAMS: [&str; 4] = [
    "ocluster-scheduler",
    "ocluster-worker",
    "ocluster-client",
    "ocluster-admin",
];

/// A base image on which our programs run, and the directory that images are built from. The image goes with everything built from it.
pub struct Workshop<'a> {
    engine: &'a Engine,
    base: BaseImage,
    context: PathBuf,
}

impl<'a> Workshop<'a> {
    /// Makes the image in `engine`: busybox, and the libraries of this machine that the programs are linked with. The programs are
    /// laid out as a person would for the Dockerfiles' stage `prebuilt`, beside the project's `.dockerignore`.
    ///
    /// # Errors
    ///
    /// When a tool is missing, or the engine refuses.
    pub fn open(engine: &'a Engine, programs: &Programs, scratch: &Scratch) -> Result<Self> {
        let directory = programs.directory();
        let base = unique("ocluster-tests/runtime:story");
        let base = BaseImage::make_with(engine, &base, &libraries(directory)?)?;
        let context = scratch.directory(&unique("context"))?;
        fs::create_dir(context.join("dist"))?;
        for name in PROGRAMS {
            let (from, to) = (directory.join(name), context.join("dist").join(name));
            // Another file system takes a copy.
            if fs::hard_link(&from, &to).is_err() {
                fs::copy(&from, &to)?;
            }
        }
        fs::copy(
            project().join(".dockerignore"),
            context.join(".dockerignore"),
        )?;
        Ok(Self {
            engine,
            base,
            context,
        })
    }

    /// Builds an image from ready programs with one of the project's Dockerfiles, and calls it `name`.
    ///
    /// # Errors
    ///
    /// When the build fails.
    pub fn build(&self, dockerfile: &str, name: &str) -> Result<()> {
        let dockerfile = project().join(dockerfile);
        let base = format!("BASE_IMAGE={}", self.base.name());
        let context = self.context.to_str().context("a path that is not UTF-8")?;
        let file = dockerfile.to_str().context("a path that is not UTF-8")?;
        let words = ["build", "--target=prebuilt", "--build-arg", &base];
        let rest = ["--build-arg", "PACKAGES=", "-t", name, "-f", file, context];
        self.engine
            .docker(&[&words[..], &rest].concat())?
            .success()?;
        Ok(())
    }
}

impl Drop for Workshop<'_> {
    fn drop(&mut self) {
        // A clean-up that fails must not hide why the story ended.
        let _ = self.base.remove_with_descendants(self.engine);
    }
}

/// A container, removed with its volumes when dropped.
pub struct Container<'a> {
    engine: &'a Engine,
    name: String,
}

impl<'a> Container<'a> {
    /// Starts one, in the background, with these words of `docker run`.
    ///
    /// # Errors
    ///
    /// When the engine refuses.
    pub fn run(engine: &'a Engine, prefix: &str, words: &[&str]) -> Result<Self> {
        let name = unique(prefix);
        let container = Self { engine, name };
        let start = ["run", "-d", "--name", &container.name];
        engine.docker(&[&start[..], words].concat())?.success()?;
        Ok(container)
    }

    /// What a command inside it prints.
    ///
    /// # Errors
    ///
    /// When the command fails.
    pub fn exec(&self, words: &[&str]) -> Result<String> {
        let words = [&["exec", &self.name], words].concat();
        Ok(self.engine.docker(&words)?.success()?.stdout)
    }

    /// A field of what `docker inspect` knows, by a template such as `{{.State.Status}}`.
    ///
    /// # Errors
    ///
    /// When there is no such field.
    pub fn inspect(&self, template: &str) -> Result<String> {
        let asked = ["inspect", "--format", template, &self.name];
        let answer = self.engine.docker(&asked)?.success()?;
        Ok(answer.stdout.trim().to_owned())
    }

    /// What it has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        match self.engine.docker(&["logs", &self.name]) {
            Ok(finished) => format!("{}{}", finished.stdout, finished.stderr),
            Err(error) => error.to_string(),
        }
    }

    /// Stops it as `docker stop` does, and gives its exit code.
    ///
    /// # Errors
    ///
    /// When the engine refuses.
    pub fn stop(&self) -> Result<i32> {
        self.engine
            .docker(&["stop", "--time=60", &self.name])?
            .success()?;
        Ok(self.inspect("{{.State.ExitCode}}")?.parse()?)
    }
}

impl Drop for Container<'_> {
    fn drop(&mut self) {
        // One that never started is not there.
        let _ = self.engine.docker(&["rm", "-f", "-v", &self.name]);
    }
}

/// Where the project's own files are.
#[must_use]
pub fn project() -> &'static Path {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap_or(tests)
}

/// The shared libraries that the programs need, the loader included.
fn libraries(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut found = BTreeSet::new();
    for name in PROGRAMS {
        let mut ldd = Command::new(need_program("ldd", "libc-bin")?);
        let listed = run(ldd.arg(directory.join(name)))?.success()?;
        let paths = listed.stdout.split_whitespace();
        found.extend(
            paths
                .filter(|word| word.starts_with('/'))
                .map(PathBuf::from),
        );
    }
    Ok(found.into_iter().collect())
}
