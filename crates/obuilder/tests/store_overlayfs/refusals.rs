//! Directories that are not, or not now, a store for us.

use std::fs;

use ocluster_obuilder::store::{Kind, Location, Store, StoreOptions, check_closed};

use crate::support::*;

/// The error of opening, after which nothing in the directory changed.
async fn refusal(home: &Home) -> String {
    let before = everything(home);
    let error = home.try_open().await.unwrap_err().to_string();
    assert_eq!(everything(home), before, "{error}");
    error
}

fn everything(home: &Home) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut waiting = vec![home.root()];
    while let Some(dir) = waiting.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path.clone());
            }
            let content = fs::read(&path).unwrap_or_default();
            found.push((path, content));
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_store_of_the_ocaml_version_is_refused_with_advice() {
    let home = Home::new();
    let root = home.root();
    fs::create_dir_all(root.join("result")).unwrap();
    fs::create_dir_all(root.join("state/db")).unwrap();
    fs::write(root.join("state/db/db.sqlite"), "SQLite format 3").unwrap();
    assert_eq!(
        refusal(&home).await,
        format!(
            "{} is a store of the OCaml version of OBuilder, whose layout is different; name an empty directory, and remove the old store \
             when nobody uses it any more",
            root.display()
        )
    );
}

#[tokio::test]
async fn a_directory_of_something_else_is_refused_and_not_touched() {
    let home = Home::new();
    fs::create_dir_all(home.root().join("tmp")).unwrap();
    fs::write(home.root().join("tmp/precious"), "x").unwrap();
    let error = refusal(&home).await;
    assert!(
        error.ends_with("holds something else than a store; name an empty directory"),
        "{error}"
    );
    fs::remove_dir_all(home.root()).unwrap();
    fs::write(home.root(), "a file").unwrap();
    assert!(home.try_open().await.is_err());
    assert_eq!(fs::read_to_string(home.root()).unwrap(), "a file");
}

#[tokio::test]
async fn a_store_of_another_kind_or_a_newer_one_is_refused_with_advice() {
    let home = Home::new();
    let root = home.root();
    drop(home.open().await);
    let format = fs::read_to_string(root.join("format")).unwrap();
    fs::write(root.join("format"), format.replace("overlayfs", "btrfs")).unwrap();
    let shown = root.display();
    assert_eq!(
        refusal(&home).await,
        format!(
            "{shown} is a store of the kind btrfs, not overlayfs; open it as btrfs:{shown}, or name an empty directory"
        )
    );
    fs::write(root.join("format"), format.replace("1", "2")).unwrap();
    let error = refusal(&home).await;
    assert!(
        error.contains("was made by a newer version of this program"),
        "{error}"
    );
    for nonsense in ["", "{}", "tar archive"] {
        fs::write(root.join("format"), nonsense).unwrap();
        let error = refusal(&home).await;
        assert!(error.contains("is no store of this program"), "{error}");
    }
    fs::write(root.join("format"), format).unwrap();
    home.open().await;
}

#[tokio::test]
async fn a_new_filesystem_may_become_a_store() {
    let home = Home::new();
    fs::create_dir_all(home.root().join("lost+found")).unwrap();
    let store = home.open().await;
    assert_eq!(store.check().await.unwrap(), []);
}

#[tokio::test]
async fn a_store_that_was_being_made_when_its_process_was_killed_is_made() {
    let home = Home::new();
    for dir in ["layers", "tmp", ".probe-abc/at"] {
        fs::create_dir_all(home.root().join(dir)).unwrap();
    }
    fs::write(home.root().join("lock"), "1234567\n").unwrap();
    fs::write(home.root().join("format.new"), "{").unwrap();
    let store = home.open().await;
    assert_eq!(store.check().await.unwrap(), []);
    make(&store, 1, None, |_| ()).await;
}

#[tokio::test]
async fn a_part_of_the_store_that_leads_elsewhere_is_refused() {
    let home = Home::new();
    drop(home.open().await);
    let elsewhere = home.root().with_file_name("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), "x").unwrap();
    fs::remove_dir(home.root().join("tmp")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, home.root().join("tmp")).unwrap();
    let error = home.try_open().await.unwrap_err().to_string();
    assert!(
        error.contains("is not a directory but leads elsewhere"),
        "{error}"
    );
    assert!(elsewhere.join("precious").exists());
}

#[tokio::test]
async fn a_filesystem_that_cannot_keep_layers_is_named_with_advice() {
    // Of those, there is one everywhere.
    let location = Location {
        kind: Kind::Overlayfs,
        root: "/proc/no/store".into(),
    };
    assert!(
        Store::open(&location, StoreOptions::default())
            .await
            .is_err()
    );
    let home = Home::new();
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    let layer = make(&store, 2, Some(&base), |_| ()).await;
    // An overlay cannot hold the changes of another.
    let root = begin(&store, 3, Some(&layer)).await;
    let error = root
        .rootfs()
        .with(|tree| {
            let location = Location {
                kind: Kind::Overlayfs,
                root: tree.join("store"),
            };
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .unwrap();
            let opened = runtime.block_on(Store::open(&location, StoreOptions::default()));
            opened.unwrap_err().to_string()
        })
        .await
        .unwrap();
    assert!(error.contains("cannot keep layers of overlayfs"), "{error}");
    assert!(error.contains("use a directory on ext4"), "{error}");
}

#[test]
fn who_is_not_root_is_told_so() {
    let home = Home::new();
    let location = home.location();
    let error = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        // Of this thread, and of those that it starts, only.
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let opened = runtime.block_on(Store::open(&location, StoreOptions::default()));
        opened.unwrap_err().to_string()
    });
    let error = error.join().unwrap();
    assert!(
        error.ends_with("which only root can do; run this as root"),
        "{error}"
    );
}

#[tokio::test]
async fn a_closed_store_can_be_checked_and_an_open_one_only_by_who_has_it() {
    let home = Home::new();
    let error = check_closed(&home.location())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("there is no store in "), "{error}");
    assert!(!home.root().exists());
    let store = home.open().await;
    let base = make(&store, 1, None, |_| ()).await;
    make(&store, 2, Some(&base), |_| ()).await.view().unwrap();
    drop((base, store));
    assert_eq!(check_closed(&home.location()).await.unwrap(), []);

    fs::write(home.root().join("strange"), "").unwrap();
    fs::create_dir(home.root().join("tmp/rest")).unwrap();
    fs::write(home.layer_dir(2).join("strange"), "").unwrap();
    fs::create_dir_all(home.layer_dir(3).join("fs")).unwrap();
    fs::remove_file(home.root().join("l/0")).unwrap();
    std::os::unix::fs::symlink("nowhere", home.root().join("l/zzz")).unwrap();
    fs::remove_dir_all(home.layer_dir(1)).unwrap();
    let problems = check_closed(&home.location()).await.unwrap();
    let mut told = problems
        .iter()
        .map(|problem| {
            problem
                .to_string()
                .replace(home.root().to_str().unwrap(), "")
        })
        .collect::<Vec<_>>();
    told.sort();
    assert_eq!(
        told,
        [
            "/l/zzz: is the short name of nothing".to_owned(),
            format!("/layers/{}/strange: does not belong to a layer", id(2)),
            format!("/layers/{}: is built on {}, which is gone", id(2), id(1)),
            format!(
                "/layers/{}/meta.json: cannot be read: No such file or directory (os error 2)",
                id(3)
            ),
            "/strange: is not the store's".to_owned(),
            "/tmp/rest: is left over".to_owned(),
        ]
    );
}
