//! What layers keep and how they are seen.

use std::ffi::CString;
use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt, chown, symlink};

use ocluster_obuilder::Rootfs;
use ocluster_obuilder::store::LayerMeta;
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

use crate::support::*;

#[tokio::test]
async fn a_file_made_two_steps_earlier_is_found_and_removed_ones_are_not() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |tree| {
        write(tree, "base/kept", "base");
        write(tree, "base/removed", "base");
        write(tree, "replaced/old", "base");
    })
    .await;
    let one = make(&store, 2, Some(&base), |tree| write(tree, "one", "1")).await;
    let two = make(&store, 3, Some(&one), |tree| {
        write(tree, "two", "2");
        fs::remove_file(tree.join("base/removed")).unwrap();
        fs::remove_dir_all(tree.join("replaced")).unwrap();
        write(tree, "replaced/new", "2");
    })
    .await;
    let three = make(&store, 4, Some(&two), |tree| write(tree, "three", "3")).await;

    assert_eq!(read(&three, "one").await.as_deref(), Some("1"));
    assert_eq!(read(&three, "base/kept").await.as_deref(), Some("base"));
    let (top, base_dir, replaced) = look(&three, |tree| {
        (
            names(tree),
            names(&tree.join("base")),
            names(&tree.join("replaced")),
        )
    })
    .await;
    assert_eq!(top, ["base", "one", "replaced", "three", "two"]);
    assert_eq!(base_dir, ["kept"]);
    assert_eq!(replaced, ["new"]);
    // The layers below are as they were.
    assert_eq!(read(&one, "replaced/old").await.as_deref(), Some("base"));
    assert_eq!(read(&base, "base/removed").await.as_deref(), Some("base"));
}

#[tokio::test]
async fn nobody_else_sees_a_mount_while_a_tree_is_looked_at() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |tree| write(tree, "a", "a")).await;
    let top = make(&store, 2, Some(&base), |tree| write(tree, "b", "b")).await;
    let draft = begin(&store, 3, Some(&top)).await;
    for tree in [top.view().unwrap(), draft.rootfs().clone()] {
        assert!(is_overlay(&tree));
        let at = tree.path().to_owned();
        let (inside, seen) = tree
            .with(|tree| {
                let mine = fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
                let mounted = mine
                    .lines()
                    .any(|line| line.split(' ').nth(4) == tree.to_str());
                (mounted, names(tree))
            })
            .await
            .unwrap();
        assert!(
            inside,
            "the tree is mounted for the thread that works in it"
        );
        assert_eq!(seen, ["a", "b"]);
        assert!(names(&at).is_empty(), "others see an empty directory");
    }
    // While it is mounted, too.
    let (mounted, is_mounted) = tokio::sync::oneshot::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let tree = top.view().unwrap();
    let at = tree.path().to_owned();
    let looking = tokio::spawn(async move {
        tree.with(move |tree| {
            mounted.send(names(tree)).unwrap();
            wait.recv().unwrap();
        })
        .await
        .unwrap();
    });
    assert_eq!(is_mounted.await.unwrap(), ["a", "b"]);
    assert_eq!(home.mounts(), [""; 0]);
    assert!(names(&at).is_empty());
    go_on.send(()).unwrap();
    looking.await.unwrap();
}

#[tokio::test]
async fn a_draft_can_be_worked_in_several_times_before_it_is_kept() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |tree| write(tree, "a", "a")).await;
    let draft = begin(&store, 2, Some(&base)).await;
    for n in 0..5 {
        let name = format!("made-{n}");
        draft
            .rootfs()
            .with(move |tree| write(tree, &name, "x"))
            .await
            .unwrap();
    }
    let seen = draft.rootfs().with(names).await.unwrap();
    assert_eq!(
        seen,
        ["a", "made-0", "made-1", "made-2", "made-3", "made-4"]
    );
    let layer = commit(draft).await;
    assert_eq!(look(&layer, names).await, seen);
}

#[tokio::test]
async fn modes_owners_links_devices_and_attributes_are_kept() {
    let home = Home::new();
    let store = home.open().await;
    let fill = |tree: &std::path::Path, name: &str| {
        let dir = tree.join(name);
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("suid"), "x").unwrap();
        chown(dir.join("suid"), Some(12), Some(34)).unwrap();
        fs::set_permissions(dir.join("suid"), PermissionsExt::from_mode(0o6755)).unwrap();
        fs::hard_link(dir.join("suid"), dir.join("twin")).unwrap();
        symlink("/nowhere", dir.join("link")).unwrap();
        xattr::set(dir.join("suid"), "user.note", b"\xff\0kept").unwrap();
        xattr::set(dir.join("suid"), "trusted.note", b"kept").unwrap();
        let device = CString::new(dir.join("null").to_str().unwrap()).unwrap();
        mknodat(
            CWD,
            &device,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            makedev(1, 3),
        )
        .unwrap();
        mknodat(
            CWD,
            dir.join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        fs::set_permissions(&dir, PermissionsExt::from_mode(0o1777)).unwrap();
    };
    let check = |tree: &std::path::Path, name: &str| {
        let dir = tree.join(name);
        let suid = fs::metadata(dir.join("suid")).unwrap();
        assert_eq!(
            (suid.uid(), suid.gid(), suid.mode() & 0o7777),
            (12, 34, 0o6755)
        );
        assert_eq!(suid.nlink(), 2);
        assert_eq!(suid.ino(), fs::metadata(dir.join("twin")).unwrap().ino());
        assert_eq!(
            fs::read_link(dir.join("link")).unwrap().to_str(),
            Some("/nowhere")
        );
        assert_eq!(
            xattr::get(dir.join("suid"), "user.note").unwrap().unwrap(),
            b"\xff\0kept"
        );
        assert_eq!(
            xattr::get(dir.join("suid"), "trusted.note")
                .unwrap()
                .unwrap(),
            b"kept"
        );
        let null = fs::metadata(dir.join("null")).unwrap();
        assert!(null.file_type().is_char_device());
        assert_eq!(null.rdev(), makedev(1, 3));
        assert!(
            fs::metadata(dir.join("fifo"))
                .unwrap()
                .file_type()
                .is_fifo()
        );
        assert_eq!(fs::metadata(&dir).unwrap().mode() & 0o7777, 0o1777);
    };
    let base = make(&store, 1, None, move |tree| fill(tree, "below")).await;
    let layer = make(&store, 2, Some(&base), move |tree| fill(tree, "above")).await;
    look(&layer, move |tree| {
        check(tree, "below");
        check(tree, "above");
    })
    .await;
}

#[tokio::test]
async fn the_top_directory_keeps_its_mode_and_owner_from_layer_to_layer() {
    let home = Home::new();
    let store = home.open().await;
    let about = |tree: &std::path::Path| {
        let about = fs::metadata(tree).unwrap();
        (about.mode() & 0o7777, about.uid(), about.gid())
    };
    let base = make(&store, 1, None, |_| ()).await;
    assert_eq!(look(&base, about).await, (0o755, 0, 0));
    let changed = make(&store, 2, Some(&base), |tree| {
        chown(tree, Some(5), Some(6)).unwrap();
        fs::set_permissions(tree, PermissionsExt::from_mode(0o1711)).unwrap();
        xattr::set(tree, "user.top", b"1").unwrap();
    })
    .await;
    let next = make(&store, 3, Some(&changed), |tree| write(tree, "x", "x")).await;
    assert_eq!(look(&next, about).await, (0o1711, 5, 6));
    let kept = look(&next, |tree| xattr::get(tree, "user.top").unwrap()).await;
    assert_eq!(kept.as_deref(), Some(&b"1"[..]));
}

#[tokio::test]
async fn what_overlayfs_would_take_for_its_marks_does_not_stay_in_a_lowest_layer() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |tree| {
        write(tree, "dir/file", "x");
        for at in ["gone", "dir/gone"] {
            let path = tree.join(at);
            mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        }
        xattr::set(tree.join("dir"), "trusted.overlay.redirect", b"/etc").unwrap();
        xattr::set(tree.join("dir/file"), "trusted.overlay.metacopy", b"").unwrap();
        xattr::set(tree, "trusted.overlay.opaque", b"y").unwrap();
    })
    .await;
    assert!(!is_overlay(&base.view().unwrap()));
    look(&base, |tree| {
        assert_eq!(names(tree), ["dir"]);
        assert_eq!(names(&tree.join("dir")), ["file"]);
        for path in [tree.to_owned(), tree.join("dir"), tree.join("dir/file")] {
            assert_eq!(xattr::list(&path).unwrap().count(), 0, "{}", path.display());
        }
    })
    .await;
}

#[tokio::test]
async fn the_environment_of_a_base_image_is_inherited() {
    let home = Home::new();
    let store = home.open().await;
    let env = vec![
        ("PATH".into(), "/bin".into()),
        ("ODD".into(), b"\xff"[..].into()),
    ];
    let meta = LayerMeta {
        env: env.clone(),
        origin: [("name".to_owned(), "busybox".to_owned())].into(),
    };
    let base = begin(&store, 1, None)
        .await
        .commit(meta.clone())
        .await
        .unwrap();
    let one = make(&store, 2, Some(&base), |_| ()).await;
    let two = make(&store, 3, Some(&one), |_| ()).await;
    assert_eq!(two.base_env(), env);
    assert_eq!(two.meta(), &LayerMeta::default());
    assert_eq!(base.meta(), &meta);
    drop((base, one, two, store));
    let store = home.open().await;
    let two = store.layer(id(3)).await.unwrap();
    assert_eq!(two.base_env(), env);
    assert_eq!(store.layer(id(1)).await.unwrap().meta(), &meta);
}

#[tokio::test]
async fn a_log_is_kept_with_its_layer_and_outside_of_its_tree() {
    let home = Home::new();
    let store = home.open().await;
    let draft = begin(&store, 1, None).await;
    fs::write(draft.log_path(), "printed").unwrap();
    let layer = commit(draft).await;
    assert_eq!(fs::read_to_string(layer.log_path()).unwrap(), "printed");
    assert!(look(&layer, names).await.is_empty());
    let silent = make(&store, 2, Some(&layer), |_| ()).await;
    assert!(!silent.log_path().exists());
    let listed = store.list().await.unwrap();
    assert_eq!(
        listed
            .iter()
            .map(|info| (info.id, info.parent, info.log_size))
            .collect::<Vec<_>>(),
        [(id(1), None, 7), (id(2), Some(id(1)), 0)]
    );
    assert_eq!(store.count(), 2);
}

#[tokio::test]
async fn two_views_can_be_looked_at_together() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |tree| write(tree, "file", "base")).await;
    let one = make(&store, 2, Some(&base), |tree| write(tree, "file", "one")).await;
    let two = make(&store, 3, Some(&base), |tree| write(tree, "file", "two")).await;
    let (one, two) = (one.view().unwrap(), two.view().unwrap());
    let seen = one
        .with(move |one| {
            two.with_blocking(|two| {
                [one, two].map(|tree| fs::read_to_string(tree.join("file")).unwrap())
            })
            .unwrap()
        })
        .await
        .unwrap();
    assert_eq!(seen, ["one", "two"]);
}

#[tokio::test]
async fn who_works_in_a_tree_may_panic() {
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let layer = make(&store, 2, Some(&base), |_| ()).await;
    let view = layer.view().unwrap();
    let ended =
        tokio::spawn(async move { view.with(|_| panic!("on purpose")).await.is_ok() }).await;
    assert!(ended.unwrap_err().is_panic());
    assert!(look(&layer, names).await.is_empty());
    let missing = Rootfs::Plain("/no/such/tree".into());
    assert!(!missing.with(|tree| tree.exists()).await.unwrap());
}
