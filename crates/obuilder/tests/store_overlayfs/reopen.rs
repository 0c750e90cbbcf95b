//! What a killed process or a crashed machine left, at every stage, and what is left of that when the store was opened again.

use std::fs;
use std::os::unix::fs::symlink;

use ocluster_obuilder::store::{Store, check_closed};

use crate::support::*;

/// A store with three layers above each other and one aside.
async fn family(home: &Home) -> Store {
    let store = home.open().await;
    let base = make(&store, 1, None, |tree| write(tree, "base", "1")).await;
    let one = make(&store, 2, Some(&base), |tree| write(tree, "one", "2")).await;
    make(&store, 3, Some(&one), |tree| write(tree, "two", "3")).await;
    make(&store, 4, Some(&base), |tree| write(tree, "aside", "4")).await;
    store
}

/// Opens the store, which has exactly these layers then, all whole, and nothing else.
async fn reopened(home: &Home, layers: &[u32]) -> Store {
    let store = home.open().await;
    let listed = store.list().await.unwrap();
    let found = listed.iter().map(|info| info.id).collect::<Vec<_>>();
    assert_eq!(found, layers.iter().map(|n| id(*n)).collect::<Vec<_>>());
    assert_eq!(home.names("tmp"), [""; 0]);
    assert_eq!(home.names("layers").len(), layers.len());
    assert_eq!(store.check().await.unwrap(), []);
    assert_eq!(home.mounts(), [""; 0]);
    for n in layers {
        let layer = store.layer(id(*n)).await.unwrap();
        assert_eq!(read(&layer, "base").await.as_deref(), Some("1"));
    }
    store
}

#[tokio::test]
async fn a_step_that_was_under_way_is_gone() {
    let home = Home::new();
    let store = family(&home).await;
    let one = store.layer(id(2)).await.unwrap();
    let draft = begin(&store, 5, Some(&one)).await;
    draft
        .rootfs()
        .with(|tree| write(tree, "half", "x"))
        .await
        .unwrap();
    until("only the step is left", || home.names("tmp").len() == 2).await;
    // What is there now is what is there when the process is killed.
    let debris = home.names("tmp");
    let copy = home.root().with_file_name("copy");
    copy_all(&home.root().join("tmp"), &copy);
    drop((draft, one, store));
    until("the store is closed", || home.names("tmp").is_empty()).await;
    copy_all(&copy, &home.root().join("tmp"));
    assert_eq!(home.names("tmp"), debris);
    reopened(&home, &[1, 2, 3, 4]).await;
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    let status = std::process::Command::new("cp")
        .args(["-a", "--no-target-directory"])
        .args([from, to])
        .status()
        .unwrap();
    assert!(status.success());
}

#[tokio::test]
async fn a_layer_that_was_complete_but_not_in_its_place_is_gone() {
    let home = Home::new();
    drop(family(&home).await);
    let stage = home.root().join("tmp/half-0123");
    fs::create_dir_all(stage.with_extension("work").join("w/work")).unwrap();
    copy_all(&home.layer_dir(3), &stage);
    // Its short name was made already.
    symlink(format!("../layers/{}/fs", id(9)), home.root().join("l/9")).unwrap();
    reopened(&home, &[1, 2, 3, 4]).await;
}

#[tokio::test]
async fn a_layer_that_was_being_removed_is_gone() {
    let home = Home::new();
    drop(family(&home).await);
    // It left its place, and some of its files are gone. Its short name is still there.
    let gone = home.root().join("tmp/gone-0123");
    fs::rename(home.layer_dir(3), &gone).unwrap();
    fs::remove_file(gone.join("meta.json")).unwrap();
    fs::create_dir(home.root().join("mnt/2")).unwrap();
    reopened(&home, &[1, 2, 4]).await;
}

#[tokio::test]
async fn a_layer_without_its_description_or_its_tree_goes_with_all_that_is_built_on_it() {
    for what in ["meta.json", "fs", "half of meta.json", "everything"] {
        let home = Home::new();
        drop(family(&home).await);
        let dir = home.layer_dir(2);
        match what {
            "meta.json" => fs::remove_file(dir.join(what)).unwrap(),
            "fs" => fs::remove_dir_all(dir.join(what)).unwrap(),
            "everything" => fs::remove_dir_all(dir).unwrap(),
            _ => {
                let meta = fs::File::options()
                    .write(true)
                    .open(dir.join("meta.json"))
                    .unwrap();
                meta.set_len(meta.metadata().unwrap().len() / 2).unwrap();
            }
        }
        let store = reopened(&home, &[1, 4]).await;
        let base = store.layer(id(1)).await.unwrap();
        make(&store, 2, Some(&base), |_| ()).await;
    }
}

#[tokio::test]
async fn short_names_that_are_wrong_are_made_right() {
    let home = Home::new();
    drop(family(&home).await);
    let links = home.root().join("l");
    fs::remove_file(links.join("0")).unwrap();
    fs::remove_file(links.join("1")).unwrap();
    symlink("/etc", links.join("1")).unwrap();
    symlink("/etc", links.join("stranger")).unwrap();
    fs::create_dir_all(links.join("2.d/etc")).unwrap();
    reopened(&home, &[1, 2, 3, 4]).await;
    assert_eq!(home.names("l"), ["0", "1", "2", "3"]);
    assert!(fs::metadata("/etc").unwrap().is_dir());
}

#[tokio::test]
async fn nothing_outside_of_the_store_is_removed() {
    let home = Home::new();
    drop(family(&home).await);
    let outside = home.root().with_file_name("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    symlink(&outside, home.root().join("tmp/link")).unwrap();
    symlink(&outside, home.root().join("mnt/link")).unwrap();
    fs::create_dir(home.root().join("tmp/dir")).unwrap();
    symlink(&outside, home.root().join("tmp/dir/link")).unwrap();
    // A layer that is none, and whose tree is elsewhere.
    let false_layer = home.layer_dir(7);
    fs::create_dir(&false_layer).unwrap();
    symlink(&outside, false_layer.join("fs")).unwrap();
    symlink(&outside, home.layer_dir(8)).unwrap();
    reopened(&home, &[1, 2, 3, 4]).await;
    assert_eq!(names(&outside), ["precious"]);
}

#[tokio::test]
async fn what_is_left_mounted_in_the_store_is_unmounted_before_anything_is_removed() {
    let home = Home::new();
    drop(family(&home).await);
    let outside = home.root().with_file_name("out side");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("precious"), "x").unwrap();
    let at = home.root().join("tmp/a b\\c/at");
    fs::create_dir_all(&at).unwrap();
    for _ in 0..2 {
        rustix::mount::mount_bind(&outside, &at).unwrap();
    }
    assert_eq!(home.mounts().len(), 2);
    reopened(&home, &[1, 2, 3, 4]).await;
    assert_eq!(names(&outside), ["precious"]);
}

/// A file that nobody can remove, until this is dropped.
struct Stubborn(fs::File);

impl Stubborn {
    fn new(path: &std::path::Path) -> Self {
        let file = fs::File::create(path).unwrap();
        rustix::fs::ioctl_setflags(&file, rustix::fs::IFlags::IMMUTABLE)
            .expect("files can be made immutable on the filesystem of the temporary directory");
        Self(file)
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        let _ = rustix::fs::ioctl_setflags(&self.0, rustix::fs::IFlags::empty());
    }
}

#[tokio::test]
async fn a_store_can_be_used_though_something_left_over_cannot_be_removed() {
    let home = Home::new();
    drop(family(&home).await);
    let [left, cache] = ["tmp/gone-1", "caches/c-left"].map(|dir| home.root().join(dir));
    fs::create_dir(&left).unwrap();
    fs::create_dir(&cache).unwrap();
    let stubborn = [&left, &cache].map(|dir| Stubborn::new(&dir.join("file")));
    let store = home.open().await;
    assert_eq!(store.list().await.unwrap().len(), 4);
    make(&store, 5, None, |tree| write(tree, "more", "5")).await;
    drop(store);
    assert!(left.join("file").exists() && cache.join("file").exists());
    drop(stubborn);
    drop(home.open().await);
    assert!(!left.exists() && !cache.exists());
}

/// Makes the layer one of an earlier run of the machine.
fn of_an_earlier_run(home: &Home, n: u32) {
    let meta = home.layer_dir(n).join("meta.json");
    let text = fs::read_to_string(&meta).unwrap();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    assert!(text.contains(boot.trim()));
    fs::write(meta, text.replace(boot.trim(), "an-earlier-one")).unwrap();
}

#[tokio::test]
async fn after_a_crash_of_the_machine_layers_that_may_not_be_on_the_disk_go() {
    let home = Home::new();
    let store = family(&home).await;
    store.sync().await.unwrap();
    let two = store.layer(id(3)).await.unwrap();
    let late = make(&store, 5, Some(&two), |tree| write(tree, "late", "5")).await;
    make(&store, 6, Some(&late), |tree| write(tree, "later", "6")).await;
    drop((late, two, store));
    // A crash of the process alone loses nothing.
    drop(reopened(&home, &[1, 2, 3, 4, 5, 6]).await);
    for n in 1..=5 {
        of_an_earlier_run(&home, n);
    }
    let store = reopened(&home, &[1, 2, 3, 4]).await;
    // The number of a lost layer is not taken for one that is on the disk.
    let two = store.layer(id(3)).await.unwrap();
    make(&store, 7, Some(&two), |_| ()).await;
    drop((two, store));
    of_an_earlier_run(&home, 7);
    reopened(&home, &[1, 2, 3, 4]).await;
}

#[tokio::test]
async fn a_layer_that_is_on_the_disk_survives_any_number_of_restarts() {
    let home = Home::new();
    let store = family(&home).await;
    store.sync().await.unwrap();
    drop(store);
    for n in 1..=4 {
        of_an_earlier_run(&home, n);
    }
    for _ in 0..3 {
        drop(reopened(&home, &[1, 2, 3, 4]).await);
    }
}

#[tokio::test]
async fn a_store_that_was_closed_has_nothing_left_over_and_survives_a_crash_of_the_machine() {
    let home = Home::new();
    let store = family(&home).await;
    drop(begin(&store, 5, None).await);
    store.close().await.unwrap();
    assert_eq!(home.names("tmp"), [""; 0]);
    assert_eq!(check_closed(&home.location()).await.unwrap(), []);
    for n in 1..=4 {
        of_an_earlier_run(&home, n);
    }
    reopened(&home, &[1, 2, 3, 4]).await;
    // Who still has something of it keeps it open.
    let store = home.open().await;
    let layer = store.layer(id(4)).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(read(&layer, "aside").await.as_deref(), Some("4"));
}
