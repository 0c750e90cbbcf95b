//! Many layers above each other.

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt, chown, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use ocluster_obuilder::Rootfs;
use ocluster_obuilder::store::{Layer, Store};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::*;

/// Makes the layers `from` to `to`, each with a file of its number, and each with the file of three layers before removed.
async fn pile(store: &Store, from: u32, to: u32, base: Option<Layer>) -> Layer {
    let mut top = base;
    for n in from..=to {
        let made = make(store, n, top.as_ref(), move |tree| {
            write(tree, &format!("numbers/{n}"), &n.to_string());
            if n > 3 {
                fs::remove_file(tree.join(format!("numbers/{}", n - 3))).unwrap();
            }
        });
        top = Some(made.await);
    }
    top.unwrap()
}

fn last_three(n: u32) -> Vec<String> {
    let mut names = [n - 2, n - 1, n].map(|n| n.to_string()).to_vec();
    names.sort();
    names
}

fn layers_mounted(rootfs: &Rootfs) -> usize {
    match rootfs {
        Rootfs::Plain(_) => 1,
        Rootfs::Overlay(overlay) => overlay.lower.len(),
    }
}

#[tokio::test]
async fn more_than_46_layers_are_seen_merged_however_long_the_path_of_the_store() {
    let home = Home::new();
    let deep = home.root().join("a-directory-with-a-long-name/".repeat(8));
    fs::create_dir_all(deep.parent().unwrap()).unwrap();
    let store = home.open_at(&deep).await;
    let top = pile(&store, 1, 60, None).await;
    assert_eq!(layers_mounted(&top.view().unwrap()), 60);
    let seen = look(&top, |tree| names(&tree.join("numbers"))).await;
    assert_eq!(seen, last_three(60));
}

#[tokio::test]
async fn a_build_has_more_than_500_steps() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1000, None, fill).await;
    let at_limit = pile(&store, 1, 479, Some(base)).await;
    assert_eq!(layers_mounted(&at_limit.view().unwrap()), 480);
    assert!(!home.layer_dir(479).join("flat").exists());

    let top = pile(&store, 480, 510, Some(at_limit)).await;
    assert!(home.layer_dir(479).join("flat").is_dir());
    assert_eq!(layers_mounted(&top.view().unwrap()), 32);
    look(&top, |tree| {
        assert_eq!(names(&tree.join("numbers")), last_three(510));
        check(tree);
    })
    .await;
    // Whoever builds on the same layer uses the same copy.
    let made = fs::metadata(home.layer_dir(479).join("flat")).unwrap();
    let at_limit = store.layer(id(479)).await.unwrap();
    let other = make(&store, 2000, Some(&at_limit), |tree| {
        write(tree, "other", "")
    })
    .await;
    assert_eq!(layers_mounted(&other.view().unwrap()), 2);
    let again = fs::metadata(home.layer_dir(479).join("flat")).unwrap();
    assert_eq!(made.ino(), again.ino());
    assert_eq!(
        look(&at_limit, |tree| names(&tree.join("numbers"))).await,
        last_three(479)
    );
    assert_eq!(store.check().await.unwrap(), []);

    // It is known after a restart.
    drop((top, at_limit, other, store));
    let store = home.open().await;
    let top = store.layer(id(510)).await.unwrap();
    assert_eq!(layers_mounted(&top.view().unwrap()), 32);
    let top = pile(&store, 511, 512, Some(top)).await;
    look(&top, |tree| {
        assert_eq!(names(&tree.join("numbers")), last_three(512));
        check(tree);
    })
    .await;
    // And it goes with its layer.
    drop(top);
    store.delete(id(1000), |_| ()).await.unwrap();
    assert_eq!(store.count(), 0);
    assert_eq!(store.check().await.unwrap(), []);
    assert_eq!(home.names("l"), [""; 0]);
}

/// All that a copy of a whole tree has to keep.
fn fill(tree: &Path) {
    let dir = tree.join("kinds");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("suid"), "suid").unwrap();
    chown(dir.join("suid"), Some(12), Some(34)).unwrap();
    fs::set_permissions(dir.join("suid"), PermissionsExt::from_mode(0o6711)).unwrap();
    xattr::set(dir.join("suid"), "security.capability", CAPABILITY).unwrap();
    fs::hard_link(dir.join("suid"), dir.join("twin")).unwrap();
    symlink("../kinds/suid", dir.join("link")).unwrap();
    chown_link(&dir.join("link"));
    let character = FileType::CharacterDevice;
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, dir.join("null"), character, mode, makedev(1, 3)).unwrap();
    mknodat(CWD, dir.join("fifo"), FileType::Fifo, mode, 0).unwrap();
    mknodat(CWD, dir.join("socket"), FileType::Socket, mode, 0).unwrap();
    let sparse = fs::File::create(dir.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 30) - 3).unwrap();
    fs::create_dir_all(dir.join("closed/within")).unwrap();
    fs::set_permissions(dir.join("closed"), PermissionsExt::from_mode(0o0)).unwrap();
    xattr::set(dir.join("closed"), "user.note", b"kept").unwrap();
    fs::File::open(dir.join("closed"))
        .unwrap()
        .set_modified(long_ago())
        .unwrap();
    fs::File::open(dir.join("suid"))
        .unwrap()
        .set_modified(long_ago())
        .unwrap();
    fs::set_permissions(tree, PermissionsExt::from_mode(0o1755)).unwrap();
}

/// `cap_net_raw=ep`, which a change of owner would remove.
const CAPABILITY: &[u8] = &[1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn chown_link(path: &Path) {
    std::os::unix::fs::lchown(path, Some(5), Some(6)).unwrap();
}

fn long_ago() -> std::time::SystemTime {
    std::time::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789)
}

fn check(tree: &Path) {
    let dir = tree.join("kinds");
    let suid = fs::metadata(dir.join("suid")).unwrap();
    assert_eq!(
        (suid.uid(), suid.gid(), suid.mode() & 0o7777),
        (12, 34, 0o6711)
    );
    assert_eq!(suid.modified().unwrap(), long_ago());
    assert_eq!(suid.ino(), fs::metadata(dir.join("twin")).unwrap().ino());
    let capability = xattr::get(dir.join("suid"), "security.capability").unwrap();
    assert_eq!(capability.as_deref(), Some(CAPABILITY));
    assert_eq!(fs::read_to_string(dir.join("link")).unwrap(), "suid");
    assert_eq!(fs::symlink_metadata(dir.join("link")).unwrap().uid(), 5);
    let null = fs::metadata(dir.join("null")).unwrap();
    assert!(null.file_type().is_char_device());
    assert_eq!((null.rdev(), null.mode() & 0o7777), (makedev(1, 3), 0o640));
    assert!(
        fs::metadata(dir.join("fifo"))
            .unwrap()
            .file_type()
            .is_fifo()
    );
    assert!(
        fs::metadata(dir.join("socket"))
            .unwrap()
            .file_type()
            .is_socket()
    );
    let sparse = fs::metadata(dir.join("sparse")).unwrap();
    assert_eq!(sparse.len(), 1 << 30);
    assert!(sparse.blocks() < 1000, "holes stay holes");
    let closed = fs::metadata(dir.join("closed")).unwrap();
    assert_eq!(closed.mode() & 0o7777, 0);
    assert_eq!(closed.modified().unwrap(), long_ago());
    assert_eq!(
        xattr::get(dir.join("closed"), "user.note")
            .unwrap()
            .unwrap(),
        b"kept"
    );
    assert!(dir.join("closed/within").is_dir());
    assert_eq!(fs::metadata(tree).unwrap().mode() & 0o7777, 0o1755);
}

#[tokio::test]
async fn a_thousand_layers_are_kept_quickly() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 0, None, |_| ()).await;
    let mut took = Vec::new();
    for n in 1..=1000 {
        let started = Instant::now();
        let draft = begin(&store, n, Some(&base)).await;
        commit(draft).await;
        took.push(started.elapsed());
    }
    took.sort();
    let median = took[took.len() / 2];
    println!(
        "a layer was begun and kept in {median:?}; the slowest took {:?}",
        took[999]
    );
    assert!(median < Duration::from_millis(10), "{median:?}");
    drop(base);
    let started = Instant::now();
    drop(store);
    let store = home.open().await;
    println!("opened again after {:?}", started.elapsed());
    assert_eq!(store.count(), 1001);
    let started = Instant::now();
    for n in 1..=1000 {
        assert!(store.layer(id(n)).await.is_some());
    }
    println!("a thousand hits took {:?}", started.elapsed());
    assert_eq!(store.check().await.unwrap(), []);
}
