//! Steps in trees that have to be mounted: nobody else sees them, and they are unmounted when the answer is there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod sandbox_support;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use ocluster_obuilder::sandbox::{CacheMount, Ended, Step, resolve};
use ocluster_obuilder::spec::User;
use ocluster_obuilder::{Overlay, Rootfs, Upper};
use sandbox_support::{Bench, read};

/// The overlay `name` in `dir`, above the directory `lower`.
fn overlay(dir: &Path, name: &str, lower: &str) -> Rootfs {
    for part in ["upper", "work", "at"] {
        fs::create_dir_all(dir.join(name).join(part)).unwrap();
    }
    Rootfs::Overlay(Overlay {
        start: dir.to_owned(),
        lower: vec![lower.into()],
        upper: Some(Upper {
            dir: format!("{name}/upper").into(),
            work: format!("{name}/work").into(),
        }),
        at: dir.join(name).join("at"),
    })
}

fn step(bench: &Bench, script: &str) -> Step {
    let mut step = bench.step(script);
    step.rootfs = overlay(bench.path(), "layer", "rootfs");
    step
}

#[tokio::test]
async fn changes_go_to_the_layer_and_the_base_stays_as_it_is() {
    let bench = Bench::new().await;
    let script = "echo new >/new; rm /etc/group; echo more >>/etc/passwd";
    bench.run(step(&bench, script)).await.succeeded();
    let upper = bench.path().join("layer/upper");
    assert_eq!(read(&upper.join("new")), "new\n");
    assert!(read(&upper.join("etc/passwd")).ends_with("more\n"));
    assert!(bench.rootfs().join("etc/group").exists());
    assert!(!bench.rootfs().join("new").exists());
    // It is unmounted: the place can be removed, and mounted again.
    fs::remove_dir(bench.path().join("layer/at")).unwrap();
    let text = bench
        .run(step(&bench, "cat /new; ls /etc"))
        .await
        .succeeded();
    assert!(
        text.starts_with("new\n") && !text.contains("group"),
        "{text}"
    );
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_cache_can_be_an_overlay_and_both_are_seen_by_the_step_alone() {
    let bench = Arc::new(Bench::new().await);
    fs::create_dir(bench.path().join("old")).unwrap();
    fs::write(bench.path().join("old/file"), "kept").unwrap();
    let mut step = step(
        &bench,
        "cat /c/file; echo x >/c/x; touch /y; echo ready; sleep 1000",
    );
    step.caches.push(CacheMount {
        tree: overlay(bench.path(), "cache", "old"),
        target: "/c".into(),
    });
    let (running, cancel) = bench.start(step, "ready").await;
    for place in ["layer/at", "cache/at"] {
        let seen = fs::read_dir(bench.path().join(place)).unwrap().count();
        assert_eq!(seen, 0, "{place} is seen by all");
    }
    let mounts = read("/proc/self/mountinfo".as_ref());
    assert!(!mounts.contains(bench.path().to_str().unwrap()));
    cancel.cancel();
    let outcome = running.await.unwrap();
    assert_eq!(outcome.ended(), Ended::Cancelled);
    assert_eq!(outcome.text(), "keptready\n");
    for place in ["layer", "cache"] {
        fs::remove_dir(bench.path().join(place).join("at")).unwrap();
    }
    assert_eq!(read(&bench.path().join("cache/upper/x")), "x\n");
    assert!(!bench.path().join("old/x").exists());
    bench.nothing_left();
    Arc::into_inner(bench).unwrap().close();
}

#[tokio::test]
async fn what_cannot_be_mounted_is_the_machines_trouble() {
    let bench = Bench::new().await;
    let mut step = bench.step("true");
    step.rootfs = overlay(bench.path(), "layer", "nowhere");
    let outcome = bench.run(step).await;
    let error = outcome.error().to_string();
    assert!(error.starts_with("cannot mount "), "{error}");
    assert!(error.contains("layer/at: No such file"), "{error}");
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn users_are_looked_up_in_the_mounted_tree() {
    let bench = Bench::new().await;
    bench
        .run(step(&bench, "echo new:x:77:78::/:/bin/sh >>/etc/passwd"))
        .await
        .succeeded();
    let rootfs = overlay(bench.path(), "layer", "rootfs");
    let named = |name: &str| User::Named(name.into());
    assert_eq!(resolve(&named("new"), &rootfs).await.unwrap(), (77, 78));
    assert_eq!(
        resolve(&named("opam"), &rootfs).await.unwrap(),
        (1000, 1000)
    );
    let base = Rootfs::Plain(bench.rootfs());
    let error = resolve(&named("new"), &base).await.unwrap_err();
    assert!(error.to_string().contains("no user \"new\""), "{error}");
    bench.close();
}
