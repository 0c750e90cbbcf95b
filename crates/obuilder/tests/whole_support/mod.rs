//! A whole builder: a store, the real runtime, and an image of busybox in a file. Nothing is played by anybody else.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ocluster_obuilder::build::{
    BuildContext, BuildError, BuildLog, BuildResult, Builder, BuilderOptions, Secrets,
};
use ocluster_obuilder::image::{ImageFetcher, LocalImages, Remote};
use ocluster_obuilder::sandbox::{RuncConfig, RuncSandbox};
use ocluster_obuilder::spec::Spec;
use ocluster_obuilder::store::{Location, Store, StoreOptions};
use tokio_util::sync::CancellationToken;

/// Longer than any build here takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(240);

/// A builder and what is around it, in one directory.
pub(crate) struct Whole {
    dir: PathBuf,
    builder: Builder,
}

impl Whole {
    /// Works in `dir`, with the image `base` of [`base_image`].
    pub(crate) async fn new(dir: &Path, location: &Location) -> Self {
        let store = Store::open(location, StoreOptions::default())
            .await
            .unwrap_or_else(|error| panic!("{location}: {error}"));
        let sandbox = RuncSandbox::open(RuncConfig::new(dir.join("sandbox")))
            .await
            .unwrap_or_else(|error| panic!("these tests need root and runc: {error}"));
        fs::create_dir_all(dir.join("scratch")).unwrap();
        let fetcher = ImageFetcher::new(LocalImages::Any, Remote::Nobody, dir.join("scratch"));
        let builder = Builder::new(
            store,
            Arc::new(sandbox),
            Arc::new(fetcher),
            BuilderOptions::default(),
        );
        Self {
            dir: dir.to_owned(),
            builder,
        }
    }

    pub(crate) fn builder(&self) -> &Builder {
        &self.builder
    }

    /// Builds `spec` with the files in `context`; the answer has the log, too.
    pub(crate) async fn build(
        &self,
        spec: &str,
        context: &Path,
        secrets: Secrets,
    ) -> (Result<BuildResult, BuildError>, String) {
        let log = Lines::default();
        let spec = Spec::parse(spec.as_bytes()).unwrap_or_else(|error| panic!("{spec}: {error}"));
        let cancel = CancellationToken::new();
        let context = BuildContext {
            source: context.to_owned(),
            secrets,
            env: Vec::new(),
            log: &log,
            cancel: &cancel,
        };
        let built = tokio::time::timeout(PATIENCE, self.builder.build(&spec, context))
            .await
            .expect("a build took too long");
        let text = log.0.lock().unwrap().clone();
        (built, String::from_utf8(text).unwrap())
    }

    /// Removes all that was built; fails if something cannot be.
    pub(crate) async fn prune_to_empty(&self) {
        let store = self.builder.store();
        loop {
            let cancel = CancellationToken::new();
            let pruned = self
                .builder
                .prune(jiff::Timestamp::MAX, 50, &cancel)
                .await
                .unwrap();
            if pruned.layers == 0 {
                break;
            }
        }
        assert_eq!(store.count(), 0, "left: {:?}", store.list().await);
    }

    /// Ends the builder, and sees that it leaves no mount behind.
    pub(crate) fn close(self) {
        drop(self.builder);
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let below = format!("{}/", self.dir.display());
        let left: Vec<&str> = mounts
            .lines()
            .filter(|line| line.contains(&below))
            .collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The image in `tar` as specs name it.
pub(crate) fn from(tar: &Path) -> String {
    format!(
        "(from rootfs:{}) (env PATH /bin) (shell /bin/sh -c)",
        tar.display()
    )
}

/// An image with a shell and the usual small tools, packed into `dir/base.tar`.
pub(crate) fn base_image(dir: &Path) -> PathBuf {
    let (root, tar) = (dir.join("base"), dir.join("base.tar"));
    for directory in ["bin", "etc", "tmp", "root", "usr"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    let busybox = Path::new("/bin/busybox");
    assert!(
        busybox.exists(),
        "busybox is needed for this test; apt-get install busybox-static"
    );
    fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let applets = Command::new(busybox).arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines() {
        if applet != "busybox" {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nopam:x:1000:1000::/home/opam:/bin/sh\n";
    fs::write(root.join("etc/passwd"), users).unwrap();
    let mut builder = tar::Builder::new(fs::File::create(&tar).unwrap());
    builder.follow_symlinks(false);
    builder.append_dir_all(".", &root).unwrap();
    builder.finish().unwrap();
    fs::remove_dir_all(root).unwrap();
    tar
}

/// A log that remembers; headings and notes are lines of their own, notes after a semicolon.
#[derive(Default)]
struct Lines(Mutex<Vec<u8>>);

impl Lines {
    fn add(&self, parts: &[&[u8]]) -> BoxFuture<'static, ()> {
        let mut text = self.0.lock().unwrap();
        parts.iter().for_each(|part| text.extend_from_slice(part));
        futures::future::ready(()).boxed()
    }
}

impl BuildLog for Lines {
    fn heading<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        self.add(&[&text, b"\n"])
    }

    fn note<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        self.add(&[b";", &text, b"\n"])
    }

    fn output<'a>(&'a self, bytes: Bytes) -> BoxFuture<'a, ()> {
        self.add(&[&bytes])
    }
}
