//! A worker that builds OBuilder specs in a store of its own, without any Docker engine, and what may be left of its builds.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::image::base_archive;
use crate::story::Story;
use crate::worker::WorkerOptions;

/// A place for a store, and a base image for its builds.
pub struct Daemonless {
    store: PathBuf,
    images: PathBuf,
}

impl Daemonless {
    /// In the story's scratch directory.
    ///
    /// # Errors
    ///
    /// When busybox is not installed.
    pub fn new(story: &Story) -> Result<Self> {
        let images = story.scratch.directory("images")?;
        base_archive(&images.join("busybox.tar"))?;
        Ok(Self {
            store: story.scratch.join("store"),
            images,
        })
    }

    /// The base image's name in specs.
    #[must_use]
    pub fn image(&self) -> String {
        format!("rootfs:{}", self.images.join("busybox.tar").display())
    }

    /// A spec that begins with the base image and a shell, and goes on with `operations`.
    #[must_use]
    pub fn spec(&self, operations: &str) -> String {
        format!("((from {}) (shell /bin/sh -c) {operations})", self.image())
    }

    /// Where the store is.
    #[must_use]
    pub fn store(&self) -> &Path {
        &self.store
    }

    /// `worker`, which builds there and has no engine.
    #[must_use]
    pub fn worker(&self, worker: WorkerOptions) -> WorkerOptions {
        self.beside_docker(worker)
            .docker_host("unix:///nonexistent/docker.sock")
    }

    /// `worker`, which builds there and has the engine that it had.
    #[must_use]
    pub fn beside_docker(&self, worker: WorkerOptions) -> WorkerOptions {
        worker
            .flag(&format!(
                "--obuilder-store=overlayfs:{}",
                self.store.display()
            ))
            .flag(&format!("--obuilder-images={}", self.images.display()))
            .flag(&format!("--obuilder-healthcheck-image={}", self.image()))
    }

    /// Checks that nothing is left of any build but what the store keeps: no mounts, containers, control groups, processes or temporary
    /// files. The worker must not run a build.
    ///
    /// # Errors
    ///
    /// What is left.
    pub fn is_clean(&self) -> Result<()> {
        let store = self.store.display().to_string();
        for line in fs::read_to_string("/proc/self/mountinfo")?.lines() {
            ensure!(!line.contains(&store), "a mount is left: {line}");
        }
        for place in ["tmp", "state/sandbox", "state/sandbox/private"] {
            let mut left = names_below(&self.store.join(place));
            left.retain(|path| !path.ends_with("lock") && !path.ends_with("private"));
            ensure!(left.is_empty(), "left in {place}: {left:?}");
        }
        let groups = names_below(Path::new("/sys/fs/cgroup"));
        for hierarchy in groups {
            let ours = names_below(&hierarchy.join(self.control_group()));
            let left: Vec<_> = ours.iter().filter(|path| path.is_dir()).collect();
            ensure!(left.is_empty(), "control groups are left: {left:?}");
        }
        self.nothing_runs()
    }

    /// Checks that no process is in a step, or about to be.
    ///
    /// # Errors
    ///
    /// One that is.
    pub fn nothing_runs(&self) -> Result<()> {
        let (group, state) = (self.control_group(), self.store.join("state"));
        let state = state.display().to_string();
        for entry in fs::read_dir("/proc")?.flatten() {
            let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
                continue;
            };
            // A process that has just ended has neither.
            let read = |name| fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            ensure!(
                !read("cgroup").contains(&group),
                "process {pid} is in a step: {}",
                read("cmdline").replace('\0', " ")
            );
            ensure!(
                !read("cmdline").contains(&state),
                "process {pid} is the runtime's: {}",
                read("cmdline").replace('\0', " ")
            );
        }
        Ok(())
    }

    /// The name of the control group above those of this store's steps, which is made of the sandbox's directory.
    fn control_group(&self) -> String {
        let state = self.store.join("state/sandbox");
        let digest = Sha256::digest(state.as_os_str().as_encoded_bytes());
        let hash: String = digest
            .iter()
            .take(6)
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("obuilder-{hash}")
    }
}

fn names_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}
