//! Stores that should not be opened: in use, gone, cut, altered, foreign, from the future. Each is refused with the way
//! out, and none is ever taken for an empty one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};

use common::{client, ended, hint, job, open, rate, recorded, try_open, worker};
use ocluster_store::{JobRecord, Snapshot, Store, StoreError};

/// Fills a new store and closes it.
fn filled(dir: &Path) -> (Snapshot, Vec<JobRecord>) {
    let store = open(dir);
    for n in 0..40u8 {
        let name = format!("worker-{n}");
        store
            .apply(&[
                worker("p", &name, n % 2 == 0),
                hint(&name, &name, u32::from(n)),
                rate("p", &name, 1.5),
                client(&name, n),
                recorded(job(u64::from(n) + 1)),
                recorded(ended(u64::from(n) + 1001, 5)),
            ])
            .unwrap();
    }
    (store.load(0).unwrap(), store.jobs(None, 1000).unwrap())
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn refused(dir: &Path) -> StoreError {
    match try_open(dir) {
        Ok(_) => panic!("it should be refused"),
        Err(error) => error,
    }
}

#[test]
fn a_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path());
    let error = refused(dir.path());
    assert_eq!(
        error.to_string(),
        format!(
            "state directory {} is in use by another scheduler (pid {}); stop it first, or give this one a directory of its own",
            dir.path().display(),
            std::process::id()
        )
    );
    drop(first);
    open(dir.path());
}

#[test]
fn data_that_is_gone_is_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let data = dir.path().join("store");
    for also_the_directory in [false, true] {
        if also_the_directory {
            std::fs::remove_dir_all(&data).unwrap();
        } else {
            std::fs::remove_file(data.join("db")).unwrap();
        }
        let error = refused(dir.path());
        assert_eq!(error.code(), "missing", "{error}");
    }
    let shown = dir.path().display().to_string();
    let error = refused(dir.path()).to_string();
    assert!(
        error.contains(&format!(
            "restore {shown}/store and {shown}/store.json from a backup"
        )) && error.contains(&format!("mv {shown}/store.json {shown}/store.json.old")),
        "the way out: {error}"
    );
    // The steps work as printed.
    std::fs::rename(
        dir.path().join("store.json"),
        dir.path().join("store.json.old"),
    )
    .unwrap();
    assert_eq!(open(dir.path()).load(0).unwrap().workers, []);
}

#[test]
fn a_store_whose_files_were_emptied_is_not_an_empty_store() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let fresh = tempfile::tempdir().unwrap();
    drop(open(fresh.path()));
    // Somebody put a new, empty store where the full one was.
    std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    copy(&fresh.path().join("store"), &dir.path().join("store"));
    let error = refused(dir.path());
    assert!(
        error.to_string().contains("its last changes are missing"),
        "{error}"
    );
}

/// Opens a store that was tampered with: it must be the same, or refused.
fn same_or_refused(dir: &Path, right: &(Snapshot, Vec<JobRecord>), how: &str) -> bool {
    let store = match try_open(dir) {
        Ok(store) => store,
        Err(error) => {
            assert!(
                matches!(
                    error,
                    StoreError::Damaged { .. }
                        | StoreError::Missing { .. }
                        | StoreError::Newer { .. }
                        | StoreError::Foreign { .. }
                ),
                "{how}: {error}"
            );
            return false;
        }
    };
    assert_eq!(store.load(0).unwrap(), right.0, "{how}: silently different");
    // Records of ended jobs are not verified at the start, but they are never wrong.
    match store.jobs(None, 1000) {
        Ok(jobs) => assert_eq!(jobs, right.1, "{how}: silently different"),
        Err(error) => assert_eq!(error.code(), "damaged", "{how}"),
    }
    true
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

#[test]
fn a_cut_store_is_refused() {
    let original = tempfile::tempdir().unwrap();
    let right = filled(original.path());
    let mut refusals = 0;
    for file in files(&original.path().join("store")) {
        let name = file.strip_prefix(original.path()).unwrap();
        let length = std::fs::metadata(&file).unwrap().len();
        for part in 0..8 {
            let dir = tempfile::tempdir().unwrap();
            copy(original.path(), dir.path());
            let cut = std::fs::File::options()
                .write(true)
                .open(dir.path().join(name))
                .unwrap();
            cut.set_len(length * part / 8).unwrap();
            let how = format!("{} cut to {part}/8", name.display());
            if !same_or_refused(dir.path(), &right, &how) {
                refusals += 1;
            }
        }
    }
    assert!(refusals > 0, "nothing was refused");
}

#[test]
fn flipped_bits_are_noticed_or_harmless() {
    let original = tempfile::tempdir().unwrap();
    let right = filled(original.path());
    let mut refusals = 0;
    for file in files(&original.path().join("store")) {
        let name = file.strip_prefix(original.path()).unwrap();
        let bytes = std::fs::read(&file).unwrap();
        // Where the bytes are, and not in the zeroes behind them.
        let used = bytes
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        for n in 0..40 {
            let place = used * n / 40;
            if place >= used {
                break;
            }
            let dir = tempfile::tempdir().unwrap();
            copy(original.path(), dir.path());
            let mut altered = bytes.clone();
            altered[place] ^= 1 << (n % 8);
            std::fs::write(dir.path().join(name), altered).unwrap();
            let how = format!("{} with a bit flipped at {place}", name.display());
            if !same_or_refused(dir.path(), &right, &how) {
                refusals += 1;
            }
        }
    }
    assert!(refusals > 0, "nothing was refused");
}

#[test]
fn a_store_from_the_future_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let marker = dir.path().join("store.json");
    let text = std::fs::read_to_string(&marker).unwrap();
    let newer = text.replace("\"format\":2", "\"format\":3");
    assert_ne!(text, newer);
    std::fs::write(&marker, &newer).unwrap();
    assert_eq!(
        refused(dir.path()).to_string(),
        format!(
            "the store in {} was made by a newer version of this program (format 3, and this one knows up to 2); use that version, or start with an empty state directory",
            dir.path().display()
        )
    );
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), newer);
    std::fs::write(&marker, text).unwrap();
    open(dir.path());
}

#[test]
fn a_store_that_only_its_rows_show_to_be_newer_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let db = sled::open(dir.path().join("store")).unwrap();
    db.insert(b"m", vec![9, 9, 9]).unwrap();
    db.flush().unwrap();
    drop(db);
    assert!(matches!(
        refused(dir.path()),
        StoreError::Newer { found: 9, .. }
    ));
}

#[test]
fn data_of_another_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let db = sled::open(dir.path().join("store")).unwrap();
    db.insert(b"their", b"data").unwrap();
    db.flush().unwrap();
    drop(db);
    let error = refused(dir.path());
    assert_eq!(error.code(), "foreign", "{error}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("store")).unwrap();
    std::fs::write(dir.path().join("store/notes.txt"), "mine").unwrap();
    let error = refused(dir.path());
    assert!(error.to_string().contains("\"notes.txt\""), "{error}");

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("store.json"),
        r#"{"format":1,"engine":"postgres","batch":1}"#,
    )
    .unwrap();
    let error = refused(dir.path());
    assert!(
        error.to_string().contains("kept by \"postgres\""),
        "{error}"
    );
}

#[test]
fn a_marker_that_cannot_be_read_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    std::fs::write(dir.path().join("store.json"), "{").unwrap();
    let error = refused(dir.path());
    assert!(
        error.to_string().contains("store.json cannot be read"),
        "{error}"
    );
}

#[test]
fn a_start_that_was_stopped_halfway_can_be_repeated() {
    // Sled's files were made, the marker was not.
    let dir = tempfile::tempdir().unwrap();
    drop(sled::open(dir.path().join("store")).unwrap());
    assert_eq!(open(dir.path()).load(0).unwrap().workers, []);
    // A full store without its marker is taken as it is: nothing is missing.
    let right = filled(dir.path());
    std::fs::remove_file(dir.path().join("store.json")).unwrap();
    assert_eq!(open(dir.path()).load(0).unwrap(), right.0);
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let error = refused(&dir.path().join("no/such")).to_string();
    assert!(
        error.starts_with("failed to make the state directory ") && error.contains("no/such"),
        "{error}"
    );
}

/// Opens the data past our back, as a repair tool gone wrong would.
fn tamper(dir: &Path, how: impl FnOnce(&sled::Db)) {
    let db = sled::open(dir.join("store")).unwrap();
    how(&db);
    db.flush().unwrap();
}

#[test]
fn rows_that_were_dropped_or_altered_are_noticed() {
    let original = tempfile::tempdir().unwrap();
    filled(original.path());
    let damaged = |how: fn(&sled::Db)| {
        let dir = tempfile::tempdir().unwrap();
        copy(original.path(), dir.path());
        tamper(dir.path(), how);
        refused(dir.path()).to_string()
    };
    let dropped = damaged(|db| {
        let (key, _) = db.scan_prefix(b"h").next().unwrap().unwrap();
        db.remove(key).unwrap();
    });
    assert!(
        dropped.contains("it has 199 rows, and should have 200"),
        "{dropped}"
    );
    let altered = damaged(|db| {
        let (key, value) = db.scan_prefix(b"w").next().unwrap().unwrap();
        let flipped = [value[0], value[1] ^ 1];
        db.insert(key, &flipped).unwrap();
    });
    assert!(
        altered.contains("some of its rows were altered"),
        "{altered}"
    );
}
