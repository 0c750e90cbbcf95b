//! What every store does with caches.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use bstr::BStr;
use ocluster_obuilder::store::{CacheLease, CacheTable};

use crate::lab::Lab;
use crate::tree::set_mode;

const ROOT: (u32, u32) = (0, 0);

fn acquire(lab: &Lab, caches: &CacheTable, name: &str, owner: (u32, u32)) -> CacheLease {
    lab.runtime
        .block_on(caches.acquire(BStr::new(name), owner))
        .unwrap()
}

fn release(lab: &Lab, lease: CacheLease) -> bool {
    lab.runtime.block_on(lease.release()).unwrap()
}

fn settle(lab: &Lab, caches: &CacheTable) {
    lab.runtime.block_on(caches.settled());
}

fn write(lab: &Lab, lease: &CacheLease, file: &str, text: &str) {
    let (file, text) = (file.to_owned(), text.to_owned());
    lab.within(lease.rootfs(), move |tree| {
        fs::write(tree.join(file), text).unwrap();
    });
}

fn read(lab: &Lab, lease: &CacheLease, file: &str) -> Option<String> {
    let file = file.to_owned();
    lab.within(lease.rootfs(), move |tree| {
        fs::read_to_string(tree.join(file)).ok()
    })
}

/// Uses the cache once, alone.
fn put(lab: &Lab, caches: &CacheTable, name: &str, file: &str, text: &str) {
    let lease = acquire(lab, caches, name, ROOT);
    write(lab, &lease, file, text);
    assert!(release(lab, lease));
}

fn get(lab: &Lab, caches: &CacheTable, name: &str, file: &str) -> Option<String> {
    let lease = acquire(lab, caches, name, ROOT);
    read(lab, &lease, file)
}

fn names(caches: &CacheTable) -> Vec<String> {
    let infos = caches.list();
    infos.iter().map(|info| info.name.to_string()).collect()
}

pub(crate) fn a_cache_is_created_empty_and_belongs_to_its_user(lab: &Lab) {
    let caches = lab.caches(None);
    let lease = acquire(lab, &caches, "c", (1000, 1001));
    lab.within(lease.rootfs(), |tree| {
        let found = fs::metadata(tree).unwrap();
        assert_eq!((found.uid(), found.gid()), (1000, 1001));
        assert_eq!(found.mode(), 0o040_755);
        assert_eq!(fs::read_dir(tree).unwrap().count(), 0);
    });
    let [info] = &caches.list()[..] else {
        panic!("{:?}", caches.list());
    };
    assert_eq!((info.generation, info.bytes, info.users), (0, None, 1));
    drop(lease);
    settle(lab, &caches);
    assert_eq!(caches.list(), []);
    assert_eq!(lab.names("tmp"), [""; 0]);
    assert_eq!(lab.names("caches"), [""; 0]);
}

pub(crate) fn data_persists_and_only_the_top_changes_hands(lab: &Lab) {
    let caches = lab.caches(None);
    let lease = acquire(lab, &caches, "c", (1000, 1000));
    lab.within(lease.rootfs(), |tree| {
        set_mode(tree, 0o1770);
        fs::create_dir(tree.join("dir")).unwrap();
        fs::write(tree.join("dir/file"), "1").unwrap();
        std::os::unix::fs::chown(tree.join("dir"), Some(1000), Some(1000)).unwrap();
    });
    assert!(release(lab, lease));
    for (owner, number) in [((2000, 2001), 2), (ROOT, 3), ((1000, 1000), 4)] {
        let lease = acquire(lab, &caches, "c", owner);
        lab.within(lease.rootfs(), move |tree| {
            let top = fs::metadata(tree).unwrap();
            assert_eq!(
                (top.uid(), top.gid(), top.mode()),
                (owner.0, owner.1, 0o041_770)
            );
            let dir = fs::metadata(tree.join("dir")).unwrap();
            assert_eq!((dir.uid(), dir.gid()), (1000, 1000));
            let text = fs::read_to_string(tree.join("dir/file")).unwrap();
            assert_eq!(text, (number - 1).to_string());
            fs::write(tree.join("dir/file"), number.to_string()).unwrap();
        });
        assert!(release(lab, lease));
    }
    assert_eq!(caches.list()[0].generation, 4);
}

pub(crate) fn of_two_users_the_first_to_release_wins(lab: &Lab) {
    let caches = lab.caches(None);
    put(lab, &caches, "c", "file", "v1");
    let a = acquire(lab, &caches, "c", ROOT);
    let b = acquire(lab, &caches, "c", ROOT);
    assert_eq!(caches.list()[0].users, 2);
    write(lab, &a, "file", "v2a");
    write(lab, &b, "file", "v2b");
    assert_eq!(read(lab, &a, "file").unwrap(), "v2a");
    assert!(release(lab, b));
    assert_eq!(get(lab, &caches, "c", "file").unwrap(), "v2b");
    assert!(!release(lab, a));
    assert_eq!(get(lab, &caches, "c", "file").unwrap(), "v2b");
    settle(lab, &caches);
    assert_eq!(lab.names("tmp"), [""; 0]);
    assert_eq!(caches.list()[0].users, 0);
}

pub(crate) fn dropped_clones_change_nothing(lab: &Lab) {
    let caches = lab.caches(None);
    put(lab, &caches, "c", "file", "v1");
    let lease = acquire(lab, &caches, "c", ROOT);
    write(lab, &lease, "file", "v2");
    drop(lease);
    assert_eq!(get(lab, &caches, "c", "file").unwrap(), "v1");
    settle(lab, &caches);
    assert_eq!(lab.names("tmp"), [""; 0]);
    assert_eq!(caches.list()[0].generation, 1);
}

pub(crate) fn a_cache_that_is_removed_while_used_stays_removed(lab: &Lab) {
    let caches = lab.caches(None);
    put(lab, &caches, "c", "file", "v1");
    let old = acquire(lab, &caches, "c", ROOT);
    lab.runtime.block_on(caches.remove(BStr::new("c"))).unwrap();
    lab.runtime
        .block_on(caches.remove(BStr::new("never there")))
        .unwrap();
    // Whoever has it goes on with it.
    assert_eq!(read(lab, &old, "file").unwrap(), "v1");
    write(lab, &old, "more", "v1");
    let new = acquire(lab, &caches, "c", ROOT);
    assert_eq!(read(lab, &new, "file"), None);
    assert!(!release(lab, old));
    assert_eq!(get(lab, &caches, "c", "more"), None);
    write(lab, &new, "file", "v2");
    assert!(release(lab, new));
    assert_eq!(get(lab, &caches, "c", "file").unwrap(), "v2");
    settle(lab, &caches);
    assert_eq!(lab.names("tmp"), [""; 0]);
    lab.runtime.block_on(caches.remove(BStr::new("c"))).unwrap();
    settle(lab, &caches);
    assert_eq!(caches.list(), []);
    let left: Vec<_> = lab.names("caches");
    for dir in left {
        assert_eq!(lab.names(&format!("caches/{dir}")), [""; 0]);
    }
}

pub(crate) fn no_name_leads_out_of_the_caches(lab: &Lab) {
    let caches = lab.caches(None);
    let long = "long/".repeat(100);
    let strange = [
        "../result/evil",
        "../../evil",
        "/etc/evil",
        "",
        ".",
        "..",
        "a b\n\u{e9}",
        "%2e%2e",
        &long,
    ];
    for name in strange {
        put(lab, &caches, name, "file", name);
    }
    for name in strange {
        assert_eq!(get(lab, &caches, name, "file").unwrap(), name);
    }
    settle(lab, &caches);
    assert_eq!(lab.names("."), ["caches", "layers", "tmp"]);
    assert_eq!(lab.names("layers"), [""; 0]);
    let dirs = lab.names("caches");
    assert_eq!(dirs.len(), strange.len());
    assert!(
        dirs.contains(&"c-..%2fresult%2fevil".to_owned()),
        "{dirs:?}"
    );
    assert!(dirs.iter().all(|dir| dir.starts_with("c-")));
}

pub(crate) fn caches_survive_their_store_and_debris_does_not(lab: &Lab) {
    let caches = lab.caches(None);
    put(lab, &caches, "kept", "file", "v1");
    put(lab, &caches, "kept", "other", "v2");
    settle(lab, &caches);
    let infos = caches.list();
    assert!(infos[0].bytes.is_some());
    // A process that is killed leaves the clones of its users, and sealed trees that nothing names.
    let lost = acquire(lab, &caches, "kept", ROOT);
    write(lab, &lost, "file", "lost");
    let debris = lab.layer("debris", &[], |tree| {
        fs::write(tree.join("file"), "debris").unwrap();
    });
    lab.backend
        .seal(
            &{
                let (work, at) = lab.work("sealed");
                lab.backend.create(&[], &work, &at).unwrap();
                work
            },
            None,
            &lab.root.join("caches/c-kept/3-0123456789abcdef"),
        )
        .unwrap();
    fs::write(lab.root.join("caches/c-kept/version.json.new"), "{").unwrap();
    lab.backend.remove(&debris[0]).unwrap();
    #[expect(
        clippy::disallowed_methods,
        reason = "nobody cleans up after a process that was killed"
    )]
    std::mem::forget(lost);

    let caches = lab.caches(None);
    assert_eq!(names(&caches), ["kept"]);
    let [info] = &caches.list()[..] else {
        panic!("one cache was kept");
    };
    assert_eq!((info.generation, info.bytes), (2, infos[0].bytes));
    assert_eq!(lab.names("tmp"), [""; 0]);
    let left = lab.names("caches/c-kept");
    assert!(!left.iter().any(|name| name.starts_with("3-")), "{left:?}");
    assert_eq!(get(lab, &caches, "kept", "file").unwrap(), "v1");
    assert_eq!(get(lab, &caches, "kept", "other").unwrap(), "v2");
    put(lab, &caches, "kept", "file", "v3");
    assert_eq!(get(lab, &caches, "kept", "file").unwrap(), "v3");
}

pub(crate) fn broken_versions_are_dropped(lab: &Lab) {
    let caches = lab.caches(None);
    for name in ["fine", "garbage", "cut", "tree gone", "renamed", "escape"] {
        put(lab, &caches, name, "file", "v1");
    }
    settle(lab, &caches);
    drop(caches);
    let dir = |name: &str| lab.root.join("caches").join(name);
    let version = |name: &str| dir(name).join("version.json");
    fs::write(version("c-garbage"), "not json").unwrap();
    let bytes = fs::read(version("c-cut")).unwrap();
    fs::write(version("c-cut"), &bytes[..bytes.len() / 2]).unwrap();
    let tree = lab
        .names("caches/c-tree%20gone")
        .into_iter()
        .find(|name| name.starts_with("1-"))
        .unwrap();
    lab.backend
        .remove(&dir("c-tree%20gone").join(tree))
        .unwrap();
    fs::rename(dir("c-renamed"), dir("c-other")).unwrap();
    let text = fs::read_to_string(version("c-escape")).unwrap();
    let own = lab
        .names("caches/c-escape")
        .into_iter()
        .find(|name| name.starts_with("1-"))
        .unwrap();
    fs::write(version("c-escape"), text.replace(&own, "../../layers")).unwrap();
    fs::create_dir(dir("c-empty")).unwrap();
    fs::write(dir("c-file"), "").unwrap();

    let caches = lab.caches(None);
    assert_eq!(names(&caches), ["fine"]);
    assert_eq!(lab.names("caches"), ["c-fine"]);
    assert!(lab.root.join("layers").exists());
    put(lab, &caches, "garbage", "file", "v2");
    assert_eq!(get(lab, &caches, "garbage", "file").unwrap(), "v2");
}

pub(crate) fn the_least_recently_used_go_when_the_quota_is_full(lab: &Lab) {
    let caches = lab.caches(Some(5 << 20));
    let large = "x".repeat(1_500 << 10);
    for name in ["a", "b", "c"] {
        put(lab, &caches, name, "file", &large);
        settle(lab, &caches);
    }
    assert_eq!(names(&caches), ["a", "b", "c"]);
    // `a` is used again, so `b` is the oldest now.
    assert_eq!(get(lab, &caches, "a", "file").unwrap(), large);
    put(lab, &caches, "d", "file", &large);
    settle(lab, &caches);
    assert_eq!(names(&caches), ["a", "c", "d"]);
    assert_eq!(get(lab, &caches, "b", "file"), None);
    assert_eq!(get(lab, &caches, "c", "file").unwrap(), large);
    settle(lab, &caches);
    drop(caches);
    let caches = lab.caches(Some(2 << 20));
    settle(lab, &caches);
    assert_eq!(names(&caches), ["c"], "the last that was used stays");
}

pub(crate) fn a_cache_larger_than_the_quota_is_reset_and_used_ones_stay(lab: &Lab) {
    let caches = lab.caches(Some(2 << 20));
    put(lab, &caches, "small", "file", "x");
    let used = acquire(lab, &caches, "used", ROOT);
    write(lab, &used, "file", "x");
    put(lab, &caches, "large", "file", &"x".repeat(3 << 20));
    settle(lab, &caches);
    assert_eq!(names(&caches), ["small", "used"]);
    assert_eq!(get(lab, &caches, "large", "file"), None);
    assert!(release(lab, used));

    // One that is used is not reset before its users are gone.
    let first = acquire(lab, &caches, "large", ROOT);
    let second = acquire(lab, &caches, "large", ROOT);
    write(lab, &first, "file", &"x".repeat(3 << 20));
    assert!(release(lab, first));
    settle(lab, &caches);
    assert!(names(&caches).contains(&"large".to_owned()));
    drop(second);
    settle(lab, &caches);
    assert_eq!(names(&caches), ["small", "used"]);
}

/// The trees of the cache `c`.
fn tree_names(lab: &Lab) -> Vec<String> {
    let mut names = lab.names("caches/c-c");
    names.retain(|name| !name.contains("json"));
    names
}

pub(crate) fn many_releases_leave_few_trees(lab: &Lab) {
    let caches = lab.caches(None);
    let layered = lab.backend.longest_chain().is_some();
    let rounds = if layered { 45 } else { 8 };
    let mut old = None;
    for n in 0..rounds {
        let lease = acquire(lab, &caches, "c", ROOT);
        lab.within(lease.rootfs(), move |tree| {
            fs::write(tree.join(format!("file {n}")), n.to_string()).unwrap();
            fs::write(tree.join("last"), n.to_string()).unwrap();
            if n > 0 {
                fs::remove_file(tree.join(format!("short {}", n - 1))).unwrap();
                fs::remove_dir_all(tree.join("dir")).unwrap();
            }
            fs::write(tree.join(format!("short {n}")), "").unwrap();
            fs::create_dir(tree.join("dir")).unwrap();
            fs::write(tree.join(format!("dir/{n}")), "").unwrap();
        });
        assert!(release(lab, lease));
        if n == 10 {
            old = Some(acquire(lab, &caches, "c", ROOT));
        }
        if n % 15 == 14 {
            settle(lab, &caches);
        }
    }
    settle(lab, &caches);
    let trees = |caches: &CacheTable| {
        // Until a version is on the disk, the last one that was stays.
        lab.runtime.block_on(caches.sync()).unwrap();
        settle(lab, caches);
        tree_names(lab).len()
    };
    if let Some(old) = old {
        // The trees that an old clone is mounted above are there for as long as it.
        assert_eq!(read(lab, &old, "last").unwrap(), "10");
        assert_eq!(read(lab, &old, "file 10").unwrap(), "10");
        assert_eq!(read(lab, &old, "file 11"), None);
        assert!(!release(lab, old));
        settle(lab, &caches);
    }
    assert!(trees(&caches) <= if layered { 17 } else { 1 });
    let lease = acquire(lab, &caches, "c", ROOT);
    lab.within(lease.rootfs(), move |tree| {
        for n in 0..rounds {
            let text = fs::read_to_string(tree.join(format!("file {n}"))).unwrap();
            assert_eq!(text, n.to_string());
        }
        let last = (rounds - 1).to_string();
        assert_eq!(fs::read_to_string(tree.join("last")).unwrap(), last);
        assert_eq!(fs::read_dir(tree).unwrap().count(), rounds + 3);
        assert_eq!(fs::read_dir(tree.join("dir")).unwrap().count(), 1);
    });
    if layered {
        // A use that changed nothing makes no version, and is no reason to throw another's changes away.
        let before = caches.list()[0].generation;
        let other = acquire(lab, &caches, "c", ROOT);
        assert!(release(lab, lease));
        assert_eq!(caches.list()[0].generation, before);
        write(lab, &other, "more", "1");
        assert!(release(lab, other));
        assert_eq!(get(lab, &caches, "c", "more").unwrap(), "1");
    }
}

pub(crate) fn concurrent_users_never_see_half_a_version(lab: &Lab) {
    let caches = lab.caches(None);
    let won: usize = lab.runtime.block_on(async {
        let users = (0..24).map(|user| {
            let caches = caches.clone();
            tokio::spawn(async move {
                let lease = caches.acquire(BStr::new("c"), (user, user)).await.unwrap();
                lease.rootfs().with(count_one_up).await.unwrap();
                if user % 8 == 7 {
                    assert_eq!(caches.list().len(), 1);
                    drop(lease);
                    return false;
                }
                lease.release().await.unwrap()
            })
        });
        let mut won = 0;
        for user in futures::future::join_all(users).await {
            won += usize::from(user.unwrap());
        }
        won
    });
    assert!(won > 0);
    assert_eq!(get(lab, &caches, "c", "count").unwrap(), won.to_string());
    assert_eq!(get(lab, &caches, "c", "twin").unwrap(), won.to_string());
    settle(lab, &caches);
    assert_eq!(lab.names("tmp"), [""; 0]);
    assert_eq!(caches.list()[0].generation, won as u64);
}

/// Two files that must agree, each one more than it was.
fn count_one_up(tree: &Path) {
    let count = |name: &str| {
        let text = fs::read_to_string(tree.join(name)).unwrap_or_else(|_| "0".into());
        text.parse::<usize>().unwrap()
    };
    let (count, twin) = (count("count"), count("twin"));
    assert_eq!(count, twin);
    for name in ["count", "twin"] {
        fs::write(tree.join(name), (count + 1).to_string()).unwrap();
    }
}

pub(crate) fn what_a_crash_of_the_machine_may_have_cut_is_dropped(lab: &Lab) {
    let caches = lab.caches(None);
    put(lab, &caches, "synced", "file", "v1");
    lab.runtime.block_on(caches.sync()).unwrap();
    put(lab, &caches, "new", "file", "v1");
    settle(lab, &caches);
    drop(caches);
    for name in ["synced", "new"] {
        restart_the_machine(lab, name);
    }
    let caches = lab.caches(None);
    assert_eq!(names(&caches), ["synced"]);
    assert_eq!(get(lab, &caches, "synced", "file").unwrap(), "v1");
    put(lab, &caches, "synced", "file", "v2");
    settle(lab, &caches);
    drop(caches);
    // In the same run of the machine, what is new is as good.
    assert_eq!(get(lab, &lab.caches(None), "synced", "file").unwrap(), "v2");
}

/// Makes the current version of the cache look as it does after the machine was started again.
fn restart_the_machine(lab: &Lab, name: &str) {
    let version = lab.root.join(format!("caches/c-{name}/version.json"));
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let text = fs::read_to_string(&version).unwrap();
    assert!(text.contains(boot.trim()), "{text}");
    fs::write(&version, text.replace(boot.trim(), "another")).unwrap();
}

pub(crate) fn a_crash_of_the_machine_takes_no_more_than_what_is_new(lab: &Lab) {
    let caches = lab.caches(None);
    put(lab, &caches, "c", "file", "v1");
    lab.runtime.block_on(caches.sync()).unwrap();
    for text in ["v2", "v3"] {
        put(lab, &caches, "c", "file", text);
        settle(lab, &caches);
    }
    drop(caches);
    // A crash of the process loses nothing, and takes nothing of what a crash of the machine would need.
    let caches = lab.caches(None);
    assert_eq!(get(lab, &caches, "c", "file").unwrap(), "v3");
    settle(lab, &caches);
    drop(caches);
    restart_the_machine(lab, "c");
    let caches = lab.caches(None);
    assert_eq!(get(lab, &caches, "c", "file").unwrap(), "v1");
    settle(lab, &caches);
    assert_eq!(tree_names(lab).len(), 1, "{:?}", tree_names(lab));

    // What the disk cut is no version.
    put(lab, &caches, "c", "file", "v4");
    settle(lab, &caches);
    drop(caches);
    fs::write(lab.root.join("caches/c-c/version.json"), "").unwrap();
    let caches = lab.caches(None);
    assert_eq!(get(lab, &caches, "c", "file").unwrap(), "v1");

    // With a newer version on the disk the older one goes.
    put(lab, &caches, "c", "file", "v5");
    lab.runtime.block_on(caches.sync()).unwrap();
    settle(lab, &caches);
    let layers = if lab.backend.longest_chain().is_some() {
        2
    } else {
        1
    };
    assert_eq!(tree_names(lab).len(), layers, "{:?}", tree_names(lab));

    // A cache that was removed does not come back.
    lab.runtime.block_on(caches.remove(BStr::new("c"))).unwrap();
    settle(lab, &caches);
    drop(caches);
    assert_eq!(names(&lab.caches(None)), [""; 0]);
    assert_eq!(lab.names("caches"), [""; 0]);
}
