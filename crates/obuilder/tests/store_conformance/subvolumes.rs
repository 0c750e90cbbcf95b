//! What only btrfs has: steps, or processes that were killed, leave subvolumes within trees.

use std::fs;
use std::path::Path;
use std::process::Command;

use ocluster_obuilder::store::{Kind, Location};

use crate::lab::{Case, Lab};

fn btrfs(arguments: &[&str], path: &Path, more: &[&str]) {
    let done = Command::new("btrfs")
        .args(arguments)
        .arg(path)
        .args(more)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "btrfs {arguments:?}: {}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[test]
fn trees_with_subvolumes_within_are_removed() {
    Case::BTRFS.run(|lab: &Lab| {
        let chain = lab.layer("layer", &[], |tree| {
            let outer = tree.join("dir/outer");
            fs::create_dir(tree.join("dir")).unwrap();
            btrfs(&["subvolume", "create"], &outer, &[]);
            fs::create_dir(outer.join("dir")).unwrap();
            btrfs(&["subvolume", "create"], &outer.join("dir/inner"), &[]);
            fs::write(outer.join("dir/inner/file"), "x").unwrap();
            // Read-only ones cannot even be emptied.
            btrfs(
                &["property", "set", "-t", "subvol"],
                &outer.join("dir/inner"),
                &["ro", "true"],
            );
            btrfs(
                &["property", "set", "-t", "subvol"],
                &outer,
                &["ro", "true"],
            );
        });
        lab.backend.remove(&chain[0]).unwrap();
        assert_eq!(lab.names("layers"), [""; 0]);
    });
}

/// Directories of a subvolume cannot be moved out of it, so that how deep they are must not matter.
#[test]
fn subvolumes_deep_within_subvolumes_are_removed() {
    Case::BTRFS.run(|lab: &Lab| {
        let chain = lab.layer("layer", &[], |tree| {
            let outer = tree.join("outer");
            btrfs(&["subvolume", "create"], &outer, &[]);
            let deep = outer.join("d/".repeat(300));
            fs::create_dir_all(&deep).unwrap();
            btrfs(&["subvolume", "create"], &deep.join("inner"), &[]);
        });
        lab.backend.remove(&chain[0]).unwrap();
        assert_eq!(lab.names("layers"), [""; 0]);
    });
}

#[test]
fn sealed_layers_cannot_be_written_to() {
    Case::BTRFS.run(|lab: &Lab| {
        let chain = lab.layer("layer", &[], |tree| {
            fs::write(tree.join("file"), "x").unwrap()
        });
        let error = fs::write(chain[0].join("file"), "y").unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem);
    });
}

#[test]
fn a_bare_path_on_btrfs_is_a_btrfs_store() {
    Case::BTRFS.run(|lab: &Lab| {
        for path in [lab.root.clone(), lab.root.join("not/there/yet")] {
            let location: Location = path.to_str().unwrap().parse().unwrap();
            assert_eq!(location.kind, Kind::Btrfs);
            assert_eq!(location.root, path);
        }
    });
}
