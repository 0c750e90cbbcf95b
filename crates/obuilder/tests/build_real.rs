//! A whole build with nothing faked: a store on overlayfs, runc, and an image from a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod build_support;
mod sandbox_support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use build_support::{Recorder, numbered, open, parse, secrets, within};
use ocluster_obuilder::build::{
    BuildContext, BuildError, BuildResult, Builder, BuilderOptions, Secrets,
};
use ocluster_obuilder::image::{ImageFetcher, LocalImages, Remote};
use ocluster_obuilder::sandbox::{RuncConfig, RuncSandbox};
use sandbox_support::{leftovers, make_image};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

struct Real {
    builder: Builder,
    dir: TempDir,
}

impl Real {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rootfs = dir.path().join("rootfs");
        make_image(&rootfs);
        std::fs::write(
            rootfs.join("etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nbuilder:x:1000:1001::/:/bin/sh\n",
        )
        .unwrap();
        let mut tar =
            tar::Builder::new(std::fs::File::create(dir.path().join("image.tar")).unwrap());
        tar.follow_symlinks(false);
        tar.append_dir_all(".", &rootfs).unwrap();
        tar.finish().unwrap();
        std::fs::remove_dir_all(&rootfs).unwrap();
        let source = dir.path().join("source");
        std::fs::create_dir(&source).unwrap();
        std::fs::write(source.join("main.c"), "int main;\n").unwrap();
        let store = open(dir.path()).await;
        let sandbox = RuncSandbox::open(RuncConfig::new(dir.path().join("state")))
            .await
            .unwrap();
        let scratch = store.state_dir("scratch").unwrap();
        let fetcher = ImageFetcher::new(LocalImages::Any, Remote::Nobody, scratch);
        let builder = Builder::new(
            store,
            Arc::new(sandbox),
            Arc::new(fetcher),
            BuilderOptions::default(),
        );
        Self { builder, dir }
    }

    fn image(&self) -> String {
        format!("rootfs:{}/image.tar", self.dir.path().display())
    }

    async fn build(
        &self,
        ops: &str,
        secrets: Secrets,
        log: &Recorder,
        cancel: &CancellationToken,
    ) -> Result<BuildResult, BuildError> {
        let spec = ops.replace("IMAGE", &self.image());
        let context = BuildContext {
            source: self.dir.path().join("source"),
            secrets,
            env: Vec::new(),
            log,
            cancel,
        };
        within(self.builder.build(&parse(&spec), context)).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_of_several_stages_with_everything_there_is() {
    let real = Real::new().await;
    let never = CancellationToken::new();
    let spec = "((build compile ((from IMAGE) (shell /bin/sh -c) (env PATH /bin) (workdir src) \
                    (user (name builder)) (copy (src main.c) (dst ./)) \
                    (run (cache (ccache (target /ccache))) \
                         (shell \"id -u; id -g; pwd; cat main.c; echo x >> /ccache/used; wc -l < /ccache/used; cp main.c out\")))) \
                  (from IMAGE) (shell /bin/sh -c) (env PATH /bin) \
                  (copy (from (build compile)) (src src/out) (dst /bin/program)) \
                  (run (secrets (token (target /run/secrets/token))) (shell \"cat /run/secrets/token; cat /bin/program\")) \
                  (run (shell \"rm /bin/program; test ! -e /bin/program\")) \
                  (run (network host) (shell \"test ! -e /bin/program && echo gone\")))";
    let log = Recorder::default();
    let result = real
        .build(spec, secrets(&[("token", "t0ken\n")]), &log, &never)
        .await
        .unwrap_or_else(|error| panic!("{error}\n{}", log.text()));
    let text = log.text();
    assert!(
        text.contains("1000\n1001\n/src\nint main;\n1\n;---> saved as"),
        "{text}"
    );
    assert!(text.contains("t0ken\nint main;\n;---> saved as"), "{text}");
    assert!(text.contains("\ngone\n;---> saved as"), "{text}");
    assert!(text.contains(";--> finished \"compile\""), "{text}");
    let there = |root: &Path| root.join("bin/program").exists();
    assert!(!result.layer.view().unwrap().with(there).await.unwrap());

    let again = Recorder::default();
    let second = real
        .build(spec, secrets(&[("token", "t0ken\n")]), &again, &never)
        .await
        .unwrap();
    assert_eq!(second.id, result.id);
    assert!(!again.text().contains("saved as"), "{}", again.text());
    assert_eq!(
        numbered(&again.text())
            .replace("using", "saved as")
            .replace(" from cache", ""),
        numbered(&text)
            .replace("using", "saved as")
            .replace(" from cache", "")
    );
    // Results keep the store open.
    drop((result, second));
    nothing_left(real).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_cancelling_and_checking_health() {
    let real = Real::new().await;
    let never = CancellationToken::new();
    let spec = |command: &str| {
        format!("((from IMAGE) (shell /bin/sh -c) (env PATH /bin) (run (shell \"{command}\")))")
    };
    let log = Recorder::default();
    let error = real
        .build(&spec("exit 3"), Secrets::default(), &log, &never)
        .await
        .unwrap_err();
    assert_eq!(
        error,
        BuildError::Failed("\"/bin/sh\" \"-c\" \"exit 3\" failed with exit status 3".to_owned())
    );
    let error = real
        .build(
            &spec("sh -c 'kill -9 $$'; exit $?"),
            Secrets::default(),
            &log,
            &never,
        )
        .await
        .unwrap_err();
    assert!(
        error.to_string().ends_with("failed with exit status 137"),
        "{error}"
    );

    let cancel = CancellationToken::new();
    let log = Recorder::default();
    let sleeping = spec("echo began; sleep 1000 & sleep 1000");
    let (ended, ()) = tokio::join!(
        real.build(&sleeping, Secrets::default(), &log, &cancel),
        async {
            log.wait_for("began").await;
            cancel.cancel();
        }
    );
    assert_eq!(ended.unwrap_err(), BuildError::Cancelled);

    for _ in 0..2 {
        real.builder
            .healthcheck(
                real.image().as_str().into(),
                Duration::from_secs(60),
                &never,
            )
            .await
            .unwrap();
    }
    nothing_left(real).await;
}

/// Waits until all steps are over, and proves that they left nothing.
async fn nothing_left(real: Real) {
    let Real { builder, dir } = real;
    drop(builder);
    // Opening the store anew needs the former one closed, which its last step's end does.
    drop(open(dir.path()).await);
    sandbox_support::wait_for("the sandbox to be clean", || {
        leftovers(dir.path())
            .iter()
            .all(|trace| trace.starts_with("empty group"))
    })
    .await;
}
