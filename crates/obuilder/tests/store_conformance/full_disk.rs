//! A disk that fills up, for every store. Each on a filesystem of its own.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use ocluster_obuilder::store::StoreError;
use rustix::fs::{FallocateFlags, fallocate};

use crate::filesystem::Mounted;
use crate::lab::Lab;
use crate::stores::{location, make, open, prune};

/// What a layer here takes, in bytes.
const LARGE: usize = 6 << 20;

pub(crate) fn a_full_disk_is_told_apart_and_is_no_end(shared: &Lab) {
    let mounted = Mounted::small(shared.case.filesystem);
    let lab = &Lab::new(shared.case, mounted.path());
    lab.backend.probe(&lab.root).unwrap();
    let base = lab.layer("base", &[], |tree| {
        fs::write(tree.join("large"), noise(LARGE)).unwrap();
        fs::write(tree.join("small"), "1").unwrap();
    });
    let before = lab.describe(&base);

    let (work, mount_point) = lab.work("above");
    let filler = lab.root.join("filler");
    fill(&filler, lab);
    let error = failure(lab, &base, &work, &mount_point);
    assert!(error.is_full_disk(), "{error}");
    // On a disk that is still as full.
    lab.backend.remove(&work).unwrap();
    assert_eq!(lab.names("layers"), ["base"]);
    assert_eq!(lab.describe(&base), before);

    fs::remove_file(&filler).unwrap();
    lab.backend.settle(&lab.root).unwrap();
    let space = lab.backend.space(&lab.root).unwrap();
    assert!(space.free > 2 * LARGE as u64, "{space:?}");
    let above = lab.layer("above", &base, |tree| {
        fs::write(tree.join("more"), noise(LARGE)).unwrap();
    });
    lab.view(&above, |tree| {
        assert_eq!(fs::metadata(tree.join("more")).unwrap().len(), LARGE as u64);
        assert_eq!(fs::read(tree.join("small")).unwrap(), b"1");
    });

    // What is removed gives its room back, at the latest when that was waited for: a step is retried right after pruning.
    lab.backend.settle(&lab.root).unwrap();
    let with = lab.backend.space(&lab.root).unwrap().free;
    lab.backend.remove(&above[0]).unwrap();
    lab.backend.settle(&lab.root).unwrap();
    let without = lab.backend.space(&lab.root).unwrap().free;
    assert!(
        without >= with + LARGE as u64 * 9 / 10,
        "{with} and then {without}"
    );
    lab.backend.remove(&base[0]).unwrap();
}

pub(crate) fn a_full_disk_does_not_keep_a_store_from_being_opened_and_pruned(shared: &Lab) {
    let mounted = Mounted::small(shared.case.filesystem);
    let lab = &Lab::new(shared.case, mounted.path());
    lab.runtime.block_on(async {
        let store = open(&location(lab)).await.unwrap();
        make(&store, 1, None).await.unwrap();
        store.close().await.unwrap();
    });
    // To the last byte, as far as the filesystem gives it.
    fill(&lab.root.join("filler"), lab);
    let mut rest = File::create(lab.root.join("rest")).unwrap();
    while rest
        .write_all(&[1; 512])
        .and_then(|()| rest.sync_data())
        .is_ok()
    {}
    lab.runtime.block_on(async {
        let store = open(&location(lab)).await.unwrap();
        assert_eq!(prune(&store).await, 1);
        assert_eq!(store.count(), 0);
    });
}

/// Makes a layer above `base` for which there is no room; answers what the store, or else the step, met.
fn failure(lab: &Lab, base: &[PathBuf], work: &Path, mount_point: &Path) -> StoreError {
    let rootfs = match lab.backend.create(base, work, mount_point) {
        Ok(rootfs) => rootfs,
        Err(error) => return error,
    };
    let written = lab.within(&rootfs, |tree| {
        let path = tree.join("more");
        fs::write(&path, noise(LARGE))
            .and_then(|()| File::open(&path)?.sync_all())
            .map_err(|source| StoreError::Io {
                action: "write",
                path,
                source,
            })
    });
    match written {
        Ok(()) => panic!("the disk is not full"),
        Err(error) => error,
    }
}

/// Takes room until there is less than a layer's left.
fn fill(filler: &Path, lab: &Lab) {
    let file = File::create(filler).unwrap();
    let mut length = 0;
    let mut piece = 64_u64 << 20;
    while piece >= 256 << 10 {
        let free = lab.backend.space(&lab.root).unwrap().free;
        if free < LARGE as u64 / 2 {
            break;
        }
        match fallocate(&file, FallocateFlags::empty(), length, piece) {
            Ok(()) => length += piece,
            Err(rustix::io::Errno::NOSPC) => piece /= 2,
            Err(error) => panic!("the disk cannot be filled: {error}"),
        }
    }
    file.sync_all().unwrap();
}

/// Bytes that no filesystem can make smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend(state.to_le_bytes());
    }
    bytes
}
