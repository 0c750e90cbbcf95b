//! What every store does with trees, asked of its backend.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use ocluster_obuilder::Rootfs;

use crate::filesystem::{Mounted, where_nobody_sees};
use crate::lab::Lab;
use crate::tree::{set_mode, set_time, strange};

pub(crate) fn a_new_tree_is_empty_and_like_any_directory(lab: &Lab) {
    let empty = lab.layer("empty", &[], |_| {});
    lab.view(&empty, |tree| {
        let found = fs::metadata(tree).unwrap();
        assert_eq!(found.permissions().mode(), 0o040_755);
        assert_eq!((found.uid(), found.gid()), (0, 0));
        assert_eq!(fs::read_dir(tree).unwrap().count(), 0);
    });
    let above = lab.layer("above", &empty, |tree| {
        fs::write(tree.join("file"), "1").unwrap()
    });
    lab.view(&above, |tree| {
        assert_eq!(fs::read(tree.join("file")).unwrap(), b"1");
    });
}

pub(crate) fn everything_about_files_survives_layers(lab: &Lab) {
    let first = lab.layer("1", &[], strange);
    let made = lab.describe(&first);
    assert!(made.len() > 35, "{made:#?}");
    let second = lab.layer("2", &first, |tree| {
        fs::write(tree.join("second"), "2").unwrap()
    });
    let third = lab.layer("3", &second, |tree| {
        fs::write(tree.join("private/third"), "3").unwrap();
    });
    let seen = lab.describe(&third);
    let lost: Vec<_> = made.iter().filter(|line| !seen.contains(line)).collect();
    assert!(lost.is_empty(), "{lost:#?} of {seen:#?}");
    assert_eq!(seen.len(), made.len() + 2);
    assert_eq!(lab.describe(&first), made);
    lab.view(&third, |tree| {
        let sparse = fs::metadata(tree.join("sparse")).unwrap();
        assert!(sparse.blocks() * 512 < sparse.len(), "its holes are gone");
    });
}

pub(crate) fn sealed_layers_are_not_changed_by_those_above(lab: &Lab) {
    let trusting = lab.case.trusts_times;
    let first = lab.layer("1", &[], |tree| {
        for name in [
            "overwritten",
            "longer",
            "mode",
            "owner",
            "attribute",
            "time",
        ] {
            fs::write(tree.join(name), "first").unwrap();
            set_time(&tree.join(name), 1_500_000_000, 1);
        }
        fs::write(tree.join("name 1"), "first").unwrap();
        fs::hard_link(tree.join("name 1"), tree.join("name 2")).unwrap();
    });
    // Once without a change, so that the hard-linking stores share the files with the layer in the middle, too.
    let second = lab.layer("2", &first, |_| {});
    let before = [lab.describe(&first), lab.describe(&second)];
    let third = lab.layer("3", &second, move |tree| {
        use std::io::Write as _;
        let write = |name: &str, append: bool, text: &[u8]| {
            let mut options = fs::OpenOptions::new();
            options.write(true).append(append);
            let mut file = options.open(tree.join(name)).unwrap();
            file.write_all(text).unwrap();
        };
        write("overwritten", false, b"third");
        if !trusting {
            set_time(&tree.join("overwritten"), 1_500_000_000, 1);
        }
        write("longer", true, b" and more");
        write("name 2", true, b" by its other name");
        set_mode(&tree.join("mode"), 0o4711);
        chown(tree.join("owner"), Some(7), Some(8)).unwrap();
        xattr::set(tree.join("attribute"), "user.new", b"new").unwrap();
        set_time(&tree.join("time"), 1_600_000_000, 2);
    });
    assert_eq!([lab.describe(&first), lab.describe(&second)], before);
    lab.view(&third, |tree| {
        let read = |name: &str| fs::read_to_string(tree.join(name)).unwrap();
        let about = |name: &str| fs::metadata(tree.join(name)).unwrap();
        assert_eq!(read("overwritten"), "third");
        assert_eq!(read("longer"), "first and more");
        assert_eq!(read("name 2"), "first by its other name");
        assert_eq!(about("mode").permissions().mode(), 0o104_711);
        assert_eq!((about("owner").uid(), about("owner").gid()), (7, 8));
        assert_eq!(
            xattr::get(tree.join("attribute"), "user.new").unwrap(),
            Some(b"new".to_vec())
        );
        assert_eq!(about("time").mtime(), 1_600_000_000);
    });
    let fourth = lab.layer("4", &third, |tree| {
        fs::write(tree.join("overwritten"), "4").unwrap();
    });
    lab.view(&third, |tree| {
        assert_eq!(fs::read(tree.join("overwritten")).unwrap(), b"third");
    });
    assert_ne!(lab.describe(&fourth), lab.describe(&third));
}

pub(crate) fn what_was_removed_or_replaced_stays_so(lab: &Lab) {
    let first = lab.layer("1", &[], |tree| {
        for dir in [
            "gone", "emptied", "anew", "file now", "link now", "moved", "kept",
        ] {
            fs::create_dir_all(tree.join(dir).join("deep")).unwrap();
            fs::write(tree.join(dir).join("old"), "1").unwrap();
            fs::write(tree.join(dir).join("deep/old"), "1").unwrap();
        }
        for file in ["no file", "dir now", "renamed", "again"] {
            fs::write(tree.join(file), "1").unwrap();
        }
    });
    let second = lab.layer("2", &first, |tree| {
        fs::remove_dir_all(tree.join("gone")).unwrap();
        fs::remove_file(tree.join("emptied/old")).unwrap();
        fs::remove_dir_all(tree.join("emptied/deep")).unwrap();
        fs::remove_dir_all(tree.join("anew")).unwrap();
        fs::create_dir(tree.join("anew")).unwrap();
        fs::write(tree.join("anew/new"), "2").unwrap();
        fs::remove_dir_all(tree.join("file now")).unwrap();
        fs::write(tree.join("file now"), "2").unwrap();
        fs::remove_dir_all(tree.join("link now")).unwrap();
        symlink("kept", tree.join("link now")).unwrap();
        // What `mv` does where a directory cannot be renamed in place.
        fs::create_dir_all(tree.join("moved to/deep")).unwrap();
        fs::rename(tree.join("moved/old"), tree.join("moved to/old")).unwrap();
        fs::rename(tree.join("moved/deep/old"), tree.join("moved to/deep/old")).unwrap();
        fs::remove_dir_all(tree.join("moved")).unwrap();
        fs::remove_file(tree.join("no file")).unwrap();
        fs::remove_file(tree.join("dir now")).unwrap();
        fs::create_dir(tree.join("dir now")).unwrap();
        fs::write(tree.join("dir now/new"), "2").unwrap();
        fs::rename(tree.join("renamed"), tree.join("new name")).unwrap();
        fs::remove_file(tree.join("again")).unwrap();
    });
    let third = lab.layer("3", &second, |tree| {
        fs::write(tree.join("anew/newer"), "3").unwrap();
        fs::write(tree.join("again"), "3").unwrap();
        fs::create_dir(tree.join("gone")).unwrap();
        fs::write(tree.join("kept/third"), "3").unwrap();
    });
    let names = |chain: &[std::path::PathBuf]| {
        let lines = lab.describe(chain);
        let name = |line: &String| line.split('"').nth(1).unwrap().to_owned();
        lines.iter().map(name).collect::<Vec<_>>()
    };
    let second_names = [
        "",
        "anew",
        "anew/new",
        "dir now",
        "dir now/new",
        "emptied",
        "file now",
        "kept",
        "kept/deep",
        "kept/deep/old",
        "kept/old",
        "link now",
        "moved to",
        "moved to/deep",
        "moved to/deep/old",
        "moved to/old",
        "new name",
    ];
    assert_eq!(names(&second), second_names);
    let mut third_names = second_names.to_vec();
    third_names.extend(["again", "anew/newer", "gone", "kept/third"]);
    let mut seen = names(&third);
    seen.sort();
    third_names.sort_unstable();
    assert_eq!(seen, third_names);
    lab.view(&third, |tree| {
        assert!(fs::metadata(tree.join("file now")).unwrap().is_file());
        assert_eq!(fs::read(tree.join("link now/old")).unwrap(), b"1");
        assert_eq!(fs::read(tree.join("again")).unwrap(), b"3");
    });
}

pub(crate) fn attributes_alone_can_be_changed(lab: &Lab) {
    let first = lab.layer("1", &[], |tree| {
        fs::write(tree.join("file"), "1").unwrap();
        fs::create_dir(tree.join("dir")).unwrap();
        fs::write(tree.join("dir/within"), "1").unwrap();
    });
    let second = lab.layer("2", &first, |tree| {
        set_mode(&tree.join("file"), 0o4750);
        set_mode(&tree.join("dir"), 0o1777);
        set_mode(tree, 0o700);
        chown(tree.join("dir"), Some(3), Some(4)).unwrap();
        xattr::set(tree.join("dir"), "user.a", b"b").unwrap();
    });
    let third = lab.layer("3", &second, |_| {});
    lab.view(&third, |tree| {
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(mode(tree), 0o040_700);
        assert_eq!(mode(&tree.join("file")), 0o104_750);
        assert_eq!(mode(&tree.join("dir")), 0o041_777);
        assert_eq!(fs::metadata(tree.join("dir")).unwrap().uid(), 3);
        assert_eq!(
            xattr::get(tree.join("dir"), "user.a").unwrap(),
            Some(b"b".to_vec())
        );
        assert_eq!(fs::read(tree.join("file")).unwrap(), b"1");
        assert_eq!(fs::read(tree.join("dir/within")).unwrap(), b"1");
    });
}

pub(crate) fn many_layers_are_seen_through(lab: &Lab) {
    let mut chain = Vec::new();
    for n in 0..30 {
        chain = lab.layer(&format!("{n}"), &chain, move |tree| {
            fs::write(tree.join(format!("file {n}")), format!("{n}")).unwrap();
            fs::write(tree.join("last"), format!("{n}")).unwrap();
            if n > 0 {
                fs::remove_file(tree.join(format!("short {}", n - 1))).unwrap();
            }
            fs::write(tree.join(format!("short {n}")), "").unwrap();
        });
    }
    lab.view(&chain, |tree| {
        for n in 0..30 {
            let text = fs::read_to_string(tree.join(format!("file {n}"))).unwrap();
            assert_eq!(text, format!("{n}"));
        }
        assert_eq!(fs::read(tree.join("last")).unwrap(), b"29");
        assert_eq!(fs::read_dir(tree).unwrap().count(), 32);
    });
}

pub(crate) fn what_was_thrown_away_does_not_come_back(lab: &Lab) {
    let base = lab.layer("base", &[], |tree| {
        fs::write(tree.join("base"), "base").unwrap();
    });
    let before = lab.describe(&base);
    for chain in [&base[..], &[]] {
        let (work, mount_point) = lab.work("failed");
        let rootfs = lab.backend.create(chain, &work, &mount_point).unwrap();
        lab.within(&rootfs, |tree| {
            fs::write(tree.join("stale"), "stale").unwrap();
            fs::write(tree.join("base"), "changed").unwrap();
        });
        // A retry that finds what a killed step left must not build on it.
        assert!(lab.backend.create(chain, &work, &mount_point).is_err());
        lab.backend.remove(&work).unwrap();
        assert!(work.symlink_metadata().is_err());
        lab.backend.remove(&work).unwrap();
    }
    let retried = lab.layer("failed", &base, |_| {});
    assert_eq!(lab.describe(&retried), before);
    assert_eq!(lab.describe(&base), before);
    for layer in &retried {
        lab.backend.remove(layer).unwrap();
    }
    assert_eq!(lab.names("layers"), [""; 0]);
}

pub(crate) fn a_tree_of_any_depth_and_name_is_removed(lab: &Lab) {
    use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};
    let (work, mount_point) = lab.work("deep");
    let rootfs = lab.backend.create(&[], &work, &mount_point).unwrap();
    let Rootfs::Plain(tree) = rootfs else {
        panic!("a new tree is a directory");
    };
    strange(&tree);
    let name = "d".repeat(100);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mut dir = openat(CWD, &tree, flags, Mode::empty()).unwrap();
    for _ in 0..300 {
        mkdirat(&dir, name.as_str(), Mode::RWXU).unwrap();
        dir = openat(&dir, name.as_str(), flags, Mode::empty()).unwrap();
    }
    drop(dir);
    lab.backend.remove(&work).unwrap();
    assert!(work.symlink_metadata().is_err());
}

pub(crate) fn the_space_is_that_of_the_filesystem(lab: &Lab) {
    let space = lab.backend.space(&lab.root).unwrap();
    assert!(
        space.total > 100 << 20 && space.total < 1 << 30,
        "{space:?}"
    );
    assert!(
        space.free > space.total / 4 && space.free <= space.total,
        "{space:?}"
    );
    assert!(
        space.free_inodes_percent > 10.0 && space.free_inodes_percent <= 100.0,
        "{space:?}"
    );
}

pub(crate) fn the_filesystem_is_looked_at_before_it_is_used(lab: &Lab) {
    // The right one was probed already, and nothing may be left of that.
    assert_eq!(lab.names("."), ["layers", "tmp"]);
    let Some((wrong, advice)) = lab.case.wrong else {
        return;
    };
    where_nobody_sees(|| {
        let (_mounted, dir) = Mounted::shared(wrong);
        let said = lab.backend.probe(dir.path()).unwrap_err().to_string();
        assert!(said.contains(advice), "{said}");
        assert!(said.contains(dir.path().to_str().unwrap()), "{said}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    });
}
