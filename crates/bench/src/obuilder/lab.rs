//! A store, a sandbox and an image of busybox, in a directory of its own.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ocluster_obuilder::build::{
    BuildContext, BuildLog, BuildResult, Builder, BuilderOptions, Secrets,
};
use ocluster_obuilder::image::{ImageFetcher, LocalImages, Remote};
use ocluster_obuilder::sandbox::{RuncConfig, RuncSandbox};
use ocluster_obuilder::spec::Spec;
use ocluster_obuilder::store::{Kind, Location, Store, StoreOptions};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// What measurements work with. What they make in the store is theirs alone.
pub(super) struct Lab {
    location: Location,
    /// Beside the store, so that both are on one filesystem.
    beside: TempDir,
    builder: Builder,
}

/// A log that nobody reads.
struct Unread;

impl Lab {
    /// Opens the store.
    ///
    /// # Errors
    /// Not root, no runtime, no busybox, or the disk's.
    pub(super) async fn new(location: Location) -> anyhow::Result<Self> {
        let parent = location
            .root
            .parent()
            .context("a store needs a directory of its own")?;
        let beside = TempDir::new_in(parent)?;
        make_image(&beside.path().join("rootfs"))?;
        pack(
            &beside.path().join("rootfs"),
            &beside.path().join("base.tar"),
        )?;
        let store = Store::open(&location, StoreOptions::default()).await?;
        let sandbox = RuncSandbox::open(RuncConfig::new(beside.path().join("sandbox"))).await?;
        let scratch = beside.path().join("scratch");
        fs::create_dir(&scratch)?;
        let fetcher = ImageFetcher::new(LocalImages::Any, Remote::Nobody, scratch);
        let builder = Builder::new(
            store,
            Arc::new(sandbox),
            Arc::new(fetcher),
            BuilderOptions::default(),
        );
        Ok(Self {
            location,
            beside,
            builder,
        })
    }

    /// Which kind of store it is.
    pub(super) fn kind(&self) -> Kind {
        self.location.kind
    }

    /// Its word.
    pub(super) fn word(&self) -> &'static str {
        self.location.kind.word()
    }

    pub(super) fn builder(&self) -> &Builder {
        &self.builder
    }

    /// A path on the store's filesystem.
    pub(super) fn beside(&self, name: &str) -> PathBuf {
        self.beside.path().join(name)
    }

    /// The tree of the image, to be used without a store.
    pub(super) fn rootfs(&self) -> PathBuf {
        self.beside("rootfs")
    }

    /// A spec with these operations above the image.
    ///
    /// # Errors
    /// A mistake in the operations.
    pub(super) fn spec(&self, operations: &str) -> anyhow::Result<Spec> {
        let base = self.beside("base.tar");
        let text = format!(
            "((from rootfs:{}) (env PATH /bin) (shell /bin/sh -c) {operations})",
            base.display()
        );
        Spec::parse(text.as_bytes()).map_err(|error| anyhow::anyhow!("{error}"))
    }

    /// Builds `spec`.
    ///
    /// # Errors
    /// The build's.
    pub(super) async fn build(&self, spec: &Spec) -> anyhow::Result<BuildResult> {
        build(&self.builder, self.beside.path(), spec).await
    }

    /// Removes what was built; the store's directory stays as an empty store.
    pub(super) async fn close(self) {
        let Self {
            location, builder, ..
        } = self;
        let store = builder.store().clone();
        let _ = builder
            .prune(jiff::Timestamp::MAX, usize::MAX, &CancellationToken::new())
            .await;
        for cache in store.caches() {
            let _ = store.remove_cache(cache.name.as_ref()).await;
        }
        drop((builder, store, location));
    }
}

/// Builds `spec` with files from `source`.
///
/// # Errors
/// The build's.
pub(super) async fn build(
    builder: &Builder,
    source: &Path,
    spec: &Spec,
) -> anyhow::Result<BuildResult> {
    let context = BuildContext {
        source: source.to_owned(),
        secrets: Secrets::default(),
        env: Vec::new(),
        log: &Unread,
        cancel: &CancellationToken::new(),
    };
    Ok(builder.build(spec, context).await?)
}

impl BuildLog for Unread {
    fn heading<'a>(&'a self, _: Bytes) -> BoxFuture<'a, ()> {
        futures::future::ready(()).boxed()
    }

    fn note<'a>(&'a self, _: Bytes) -> BoxFuture<'a, ()> {
        futures::future::ready(()).boxed()
    }

    fn output<'a>(&'a self, _: Bytes) -> BoxFuture<'a, ()> {
        futures::future::ready(()).boxed()
    }
}

/// An image with a shell and the usual small tools.
fn make_image(root: &Path) -> anyhow::Result<()> {
    for directory in ["bin", "etc", "tmp", "root"] {
        fs::create_dir_all(root.join(directory))?;
    }
    let busybox = Path::new("/bin/busybox");
    fs::copy(busybox, root.join("bin/busybox"))
        .with_context(|| format!("cannot copy {}: install busybox-static", busybox.display()))?;
    fs::set_permissions(root.join("bin/busybox"), fs::Permissions::from_mode(0o755))?;
    for applet in ["sh", "echo", "true", "cat", "head", "env"] {
        symlink("busybox", root.join("bin").join(applet))?;
    }
    Ok(())
}

/// Packs a tree.
fn pack(root: &Path, tar: &Path) -> anyhow::Result<()> {
    let mut builder = tar::Builder::new(fs::File::create(tar)?);
    builder.follow_symlinks(false);
    builder.append_dir_all(".", root)?;
    builder.finish()?;
    Ok(())
}

/// Runs `command` to its end.
///
/// # Errors
/// It is missing, or it failed: with what it said.
pub(super) fn finish(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command
        .output()
        .with_context(|| format!("cannot run {program}: is it installed?"))?;
    ensure!(
        done.status.success(),
        "{program} failed ({}): {}",
        done.status,
        String::from_utf8_lossy(&done.stderr).trim()
    );
    Ok(())
}
