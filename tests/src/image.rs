//! The base image of every build: one static busybox with its applets, made here, so that no registry is needed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, Result};

use crate::command::run;
use crate::engine::Engine;
use crate::programs::need_program;

/// Names the image that `cargo xtask test` has made for this run, and will remove.
pub const BASE_IMAGE_VARIABLE: &str = "OCLUSTER_TESTS_BASE_IMAGE";

/// The image that a plain `cargo test` makes, and leaves for the next.
const DEFAULT_NAME: &str = "ocluster-tests/busybox:latest";

/// The label that the base image hands down to everything built from it.
const LABEL: &str = "ocluster.base";

/// An image with a shell and the usual small tools.
#[derive(Clone, Debug)]
pub struct BaseImage {
    name: String,
}

impl BaseImage {
    /// The base image in `engine`, which is made there if it is missing.
    ///
    /// # Errors
    ///
    /// When the engine refuses, or busybox is not installed.
    pub fn in_engine(engine: &Engine) -> Result<Self> {
        // Several tests of one program may ask at once.
        static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
        let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let name = std::env::var(BASE_IMAGE_VARIABLE).unwrap_or_else(|_| DEFAULT_NAME.to_owned());
        if engine.docker(&["image", "inspect", &name])?.code() == 0 {
            return Ok(Self { name });
        }
        Self::make(engine, &name)
    }

    /// Makes the image in `engine` under `name`.
    ///
    /// # Errors
    ///
    /// When the engine refuses, or busybox is not installed.
    pub fn make(engine: &Engine, name: &str) -> Result<Self> {
        Self::make_with(engine, name, &[])
    }

    /// Like [`Self::make`], with these files of this machine at their places.
    pub(crate) fn make_with(engine: &Engine, name: &str, files: &[PathBuf]) -> Result<Self> {
        let scratch = tempfile::tempdir()?;
        let root = scratch.path().join("root");
        make_root(&root)?;
        for file in files {
            let place = root.join(file.strip_prefix("/")?);
            fs::create_dir_all(place.parent().context("a file without a directory")?)?;
            fs::copy(file, place)?;
        }
        let archive = scratch.path().join("root.tar");
        pack(&root, &archive)?;
        let archive = archive
            .to_str()
            .context("a temporary directory whose name is not UTF-8")?;
        let label = format!("LABEL {LABEL}={name}");
        engine
            .docker(&[
                "import",
                "--change",
                &label,
                "--change",
                "CMD [\"sh\"]",
                archive,
                name,
            ])?
            .success()?;
        Ok(Self {
            name: name.to_owned(),
        })
    }

    /// The name for `FROM`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the image and everything that was built from it.
    ///
    /// # Errors
    ///
    /// When the engine does not answer.
    pub fn remove_with_descendants(&self, engine: &Engine) -> Result<()> {
        let filter = format!("label={LABEL}={}", self.name);
        for container in engine.list(&["ps", "-aq", "--filter", &filter])? {
            engine.docker(&["rm", "-f", &container])?;
        }
        // An image goes only after its children, and the list does not say who is whose: ask again until nothing changes.
        let mut left = usize::MAX;
        loop {
            let images = engine.list(&["images", "-aq", "--no-trunc", "--filter", &filter])?;
            if images.is_empty() || images.len() >= left {
                return Ok(());
            }
            left = images.len();
            let mut words = vec!["rmi", "-f"];
            words.extend(images.iter().map(String::as_str));
            // Some of them are still in use in the first rounds.
            engine.docker(&words)?;
        }
    }
}

/// Writes the same tree as a tar archive: an image for builds without an engine, by the name `rootfs:` and the file's path.
///
/// # Errors
///
/// When busybox is not installed, or the disk refuses.
pub fn base_archive(archive: &Path) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let root = scratch.path().join("root");
    make_root(&root)?;
    pack(&root, archive)
}

fn pack(root: &Path, archive: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(root).arg("-cf").arg(archive).arg(".");
    run(&mut tar)?.success()?;
    Ok(())
}

fn make_root(root: &Path) -> Result<()> {
    let busybox = need_program("busybox", "busybox-static")?;
    for directory in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(root.join(directory))?;
    }
    fs::copy(&busybox, root.join("bin/busybox"))?;
    let applets = run(Command::new(&busybox).arg("--list"))?.success()?;
    for applet in applets.stdout.lines().filter(|applet| *applet != "busybox") {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\n")?;
    Ok(())
}
