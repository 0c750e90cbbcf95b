//! OBuilder's stress test, shortened: many builds that share steps and a cache, at once, on the real runtime.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/filesystem.rs"]
#[allow(dead_code)]
mod filesystem;
#[path = "support/tree.rs"]
#[allow(dead_code)]
mod tree;
mod whole_support;

use std::path::Path;
use std::sync::Arc;

use filesystem::{Filesystem, Mounted, where_nobody_sees};
use futures::StreamExt as _;
use ocluster_obuilder::build::Secrets;
use ocluster_obuilder::store::{Backend as _, Btrfs, Kind, Location};
use tempfile::TempDir;
use whole_support::{Whole, base_image, from};

const BUILDS: usize = 30;
const AT_ONCE: usize = 10;
const STEPS: usize = 4;

/// The digits that build number `build` writes.
fn digits(build: usize) -> [usize; STEPS] {
    let mixed = build.wrapping_mul(2_654_435_761) >> 4;
    std::array::from_fn(|step| (mixed >> (5 * step)) % 3)
}

#[test]
fn many_builds_at_once_share_steps_and_all_have_what_they_asked_for() {
    run(Filesystem::Ext4, Kind::Overlayfs);
}

#[test]
fn many_builds_at_once_do_not_wait_for_each_other_on_btrfs() {
    run(Filesystem::Btrfs, Kind::Btrfs);
}

fn run(filesystem: Filesystem, kind: Kind) {
    where_nobody_sees(|| {
        let (_mounted, dir) = Mounted::shared(filesystem);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(4)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(stress(&dir, kind));
        drop(runtime);
        if kind == Kind::Btrfs {
            // A temporary directory cannot remove subvolumes.
            Btrfs::default().remove(dir.path()).unwrap();
        }
    });
}

async fn stress(dir: &TempDir, kind: Kind) {
    let base = from(&base_image(dir.path()));
    let location = Location {
        kind,
        root: dir.path().join("store"),
    };
    let whole = Arc::new(Whole::new(dir.path(), &location).await);
    futures::stream::iter(0..BUILDS)
        .map(|build| {
            let (whole, base) = (Arc::clone(&whole), base.clone());
            let context = dir.path().to_owned();
            tokio::spawn(async move { one(&whole, &base, &context, build).await })
        })
        .buffer_unordered(AT_ONCE)
        .for_each(|done| async { done.unwrap() })
        .await;
    let mut distinct: Vec<Vec<usize>> = (0..BUILDS)
        .flat_map(|build| (1..=STEPS).map(move |steps| digits(build)[..steps].to_vec()))
        .collect();
    distinct.sort();
    distinct.dedup();
    // Each was run once, however many builds asked for it; and there is the image.
    let stats = whole.builder().stats();
    assert_eq!(stats.cache_misses, distinct.len() as u64 + 1);
    whole.prune_to_empty().await;
    let whole = Arc::into_inner(whole).unwrap();
    whole.close();
}

async fn one(whole: &Whole, base: &str, context: &Path, build: usize) {
    let digits = digits(build);
    let mut spec = base.to_owned();
    for digit in digits {
        spec += &format!(
            "(run (cache (c (target /cache))) (shell \"echo -n {digit} >> output; echo runs {digit}; echo x >> /cache/x\"))"
        );
    }
    let (built, log) = whole
        .build(&format!("({spec})"), context, Secrets::default())
        .await;
    let result = built.unwrap_or_else(|error| panic!("build {build}: {error}\n{log}"));
    let read = |root: &Path| std::fs::read_to_string(root.join("output")).unwrap();
    let written = result.layer.view().unwrap().with(read).await.unwrap();
    assert_eq!(written, digits.map(|digit| digit.to_string()).concat());
    // What a step printed is told to each, in order, whoever ran it; and once.
    let told: Vec<&str> = log
        .lines()
        .filter_map(|line| line.strip_prefix("runs "))
        .collect();
    assert_eq!(told, digits.map(|digit| digit.to_string()), "{log}");
    let ended = log
        .lines()
        .filter(|line| line.starts_with(";---> saved as") || line.starts_with(";---> using"))
        .count();
    assert!(ended >= STEPS, "{log}");
}
