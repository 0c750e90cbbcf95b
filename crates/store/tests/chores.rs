//! Stories of chores: what an export holds, what an import refuses, what compacting keeps, and what a check finds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::io::Read as _;
use std::path::Path;

use common::{
    accepted, client, debt, ended, hint, job, keyed, open, rate, recorded, sealed, worker,
};
use ocluster_store::chores::{
    self, ImportError, Problem, Report, Source, check, compact, export, export_dir, import,
};
use ocluster_store::{
    Change, JobId, JobRecord, Pause, SledOptions, SledStore, Snapshot, Store, StoreError, Writer,
    WriterConfig,
};

/// A store with something of every kind.
fn filled(dir: &Path) -> SledStore {
    let store = open(dir);
    for n in 1..=30u8 {
        let name = format!("n\0-{n}-é");
        let id = u64::from(n);
        store
            .apply(&[
                worker("p", &name, n % 2 == 0),
                hint(&name, &name, u32::from(n)),
                rate("p", &name, 0.1 + f64::from(n)),
                debt("p", &name, 1_700_000_000.1 + f64::from(n) / 3.0),
                client(&name, n),
                accepted(id),
                recorded(keyed(ended(id + 100, 5), &name)),
                recorded(keyed(job(id + 200), "key")),
            ])
            .unwrap();
    }
    let odd = JobRecord {
        fair_start: f64::NEG_INFINITY,
        log_digest: Some([255; 32]),
        ..job(300)
    };
    let paused = Change::WorkerKnown {
        pool: "p".to_owned(),
        name: "paused".to_owned(),
        paused: true,
        pause: Some(Pause {
            by: None,
            why: Some("why".to_owned()),
            since_ms: u64::MAX,
        }),
    };
    store
        .apply(&[recorded(odd), paused, Change::JobIdsReserved { next: 1000 }])
        .unwrap();
    store
}

/// Everything that can be asked of a store.
type Content = (
    Snapshot,
    Vec<JobRecord>,
    Vec<Option<Vec<u8>>>,
    Option<JobRecord>,
);

fn content(store: &dyn Store) -> Content {
    let jobs = store.jobs(None, 10_000).unwrap();
    let descriptions = jobs.iter().map(|job| store.description(job.id).unwrap());
    (
        store.load(0).unwrap(),
        jobs.clone(),
        descriptions.collect(),
        store.job_by_key("alice", "n\0-7-é").unwrap(),
    )
}

/// The same, but for the ids that an import leaves out.
fn same(imported: Content, mut expected: Content) {
    assert!(imported.0.next_job_id > expected.0.next_job_id);
    expected.0.next_job_id = imported.0.next_job_id;
    assert_eq!(imported, expected);
}

fn exported(store: &SledStore) -> Vec<u8> {
    let mut bytes = Vec::new();
    export(Source::Store(store), &mut bytes).unwrap();
    bytes
}

fn try_import(bytes: &[u8], dir: &Path) -> Result<chores::Imported, ImportError> {
    import(bytes, dir, SledOptions::default())
}

#[test]
fn an_export_that_is_imported_is_the_same_store() {
    let root = tempfile::tempdir().unwrap();
    let store = filled(&root.path().join("old"));
    let expected = content(&store);
    drop(store);
    let mut bytes = Vec::new();
    let options = SledOptions::default();
    let told = export_dir(&root.path().join("old"), options, &mut bytes).unwrap();
    assert_eq!((told.jobs, told.damaged.len()), (91, 0));
    let new = root.path().join("new");
    let imported = try_import(&bytes, &new).unwrap();
    assert_eq!((imported.rows, imported.jobs), (told.rows, told.jobs));
    assert!(imported.next_job_id > JobId::new(1000 + 1_000_000));
    same(content(&open(&new)), expected);
    // Nothing but the store is left.
    let mut names: Vec<_> = std::fs::read_dir(&new)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["lock", "store", "store.json"]);
    assert!(check(&new, options).unwrap().is_sound());
}

#[tokio::test]
async fn a_running_store_is_exported_in_steps() {
    let root = tempfile::tempdir().unwrap();
    let store = filled(&root.path().join("old"));
    // More than one question's worth.
    let more: Vec<Change> = (400..1600).map(accepted).collect();
    store.apply(&more).unwrap();
    let expected = content(&store);
    let writer = Writer::start(Box::new(store), WriterConfig::default()).unwrap();
    let handle = writer.handle();
    let exporting = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        export(Source::Live(&handle), &mut bytes).map(|told| (told, bytes))
    });
    let (told, bytes) = common::soon(exporting).await.unwrap().unwrap();
    assert_eq!(told.jobs, 91 + 1200);
    writer.close().await.unwrap();
    let new = root.path().join("new");
    try_import(&bytes, &new).unwrap();
    same(content(&open(&new)), expected);
}

/// Lines of an export.
fn unpacked(bytes: &[u8]) -> Vec<String> {
    let mut text = String::new();
    zstd::stream::read::Decoder::new(bytes)
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    text.lines().map(str::to_owned).collect()
}

fn packed(lines: &[String]) -> Vec<u8> {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    zstd::encode_all(text.as_bytes(), 1).unwrap()
}

#[test]
fn an_export_is_lines_of_json_in_a_form_that_stays() {
    let root = tempfile::tempdir().unwrap();
    let store = open(&root.path().join("old"));
    store
        .apply(&[
            worker("p", "w", false),
            client("alice", 171),
            debt("p", "alice", f64::INFINITY),
            accepted(1),
        ])
        .unwrap();
    let lines = unpacked(&exported(&store));
    assert_eq!(
        lines[..4],
        [
            r#"{"ocluster_store_export":{"version":1,"next_job_id":1}}"#.to_owned(),
            r#"{"worker":{"pool":"p","name":"w","paused":false,"pause":null}}"#.to_owned(),
            r#"{"debt":{"pool":"p","client":"alice","next_fair_start":"inf"}}"#.to_owned(),
            format!(
                r#"{{"client":{{"client":"alice","hash":"{}","created_day":20000}}}}"#,
                "ab".repeat(32)
            ),
        ]
    );
    assert!(
        lines[4].contains(r#""description":"c2VhbGVkIGRlc2NyaXB0aW9uIG9mIDE=""#),
        "{}",
        lines[4]
    );
    assert!(lines[5].starts_with(r#"{"end":{"lines":5,"sha256":""#));
    assert_eq!(lines.len(), 6);
}

fn refused(bytes: &[u8]) -> ImportError {
    let dir = tempfile::tempdir().unwrap();
    let error = try_import(bytes, dir.path()).unwrap_err();
    // Whatever it was, there is no store, nor part of one.
    assert!(!SledStore::exists(dir.path()), "{error}");
    assert!(!dir.path().join("store.import").exists(), "{error}");
    error
}

#[test]
fn an_export_that_is_not_whole_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = filled(root.path());
    let bytes = exported(&store);
    for part in 0..16 {
        let error = refused(&bytes[..bytes.len() * part / 16]);
        assert!(
            matches!(
                error,
                ImportError::Cut { .. } | ImportError::NotAnExport { .. }
            ),
            "{error}"
        );
    }
    assert!(matches!(
        refused(&bytes[..bytes.len() - 1]),
        ImportError::Cut { .. } | ImportError::Line { .. }
    ));
    // Also if what compresses it is whole.
    let mut lines = unpacked(&bytes);
    let end = lines.pop().unwrap();
    let error = refused(&packed(&lines));
    assert_eq!(
        error.to_string(),
        format!(
            "the export is not whole: it ends after line {}, before its last line; nothing was imported: take another export",
            lines.len()
        )
    );
    // A line was left out,
    let mut shorter = lines.clone();
    shorter.remove(3);
    shorter.push(end.clone());
    let error = refused(&packed(&shorter)).to_string();
    assert!(error.contains("lines come before it"), "{error}");
    // another one altered,
    let mut altered = lines.clone();
    altered[1] = altered[1].replace("\"paused\":false", "\"paused\":true");
    altered.push(end.clone());
    assert_ne!(altered[1], lines[1]);
    let error = refused(&packed(&altered)).to_string();
    assert!(error.contains("not those that were exported"), "{error}");
    // or something put behind.
    lines.extend([end, "{}".to_owned()]);
    let error = refused(&packed(&lines)).to_string();
    assert!(error.contains("something follows the last line"), "{error}");
}

#[test]
fn a_line_that_is_wrong_is_named() {
    let root = tempfile::tempdir().unwrap();
    let store = filled(root.path());
    let lines = unpacked(&exported(&store));
    for wrong in ["", "{", "{\"secret\":{}}", "{\"rate\":{\"pool\":1}}"] {
        let mut lines = lines.clone();
        lines[4] = wrong.to_owned();
        let error = refused(&packed(&lines));
        assert!(
            matches!(error, ImportError::Line { line: 5, .. }),
            "{error}"
        );
        assert!(
            error
                .to_string()
                .starts_with("line 5 of the export is wrong: "),
            "{error}"
        );
    }
    let mut twice = lines.clone();
    twice[2] = twice[0].clone();
    let error = refused(&packed(&twice)).to_string();
    assert!(
        error.contains("line 3") && error.contains("out of place"),
        "{error}"
    );
}

#[test]
fn what_is_no_export_or_a_newer_one_is_refused() {
    for foreign in [b"".as_slice(), b"hello", &[0; 100]] {
        assert!(matches!(
            refused(foreign),
            ImportError::NotAnExport { .. } | ImportError::Cut { .. }
        ));
    }
    assert!(matches!(
        refused(&packed(&["{\"job\":{}}".to_owned()])),
        ImportError::NotAnExport { .. }
    ));
    let newer = r#"{"ocluster_store_export":{"version":2,"what":"ever"}}"#.to_owned();
    let error = refused(&packed(&[newer]));
    assert_eq!(error, ImportError::Newer { found: 2, known: 1 });
}

#[test]
fn an_import_never_touches_a_store_that_is_there() {
    let root = tempfile::tempdir().unwrap();
    let store = filled(&root.path().join("old"));
    let bytes = exported(&store);
    let other = root.path().join("other");
    drop(open(&other));
    let error = try_import(&bytes, &other).unwrap_err();
    assert!(matches!(error, ImportError::NotNew { .. }), "{error}");
    assert_eq!(open(&other).load(0).unwrap().workers, []);
}

#[test]
fn compacting_keeps_everything_and_the_files_get_smaller() {
    let dir = tempfile::tempdir().unwrap();
    let store = filled(dir.path());
    for round in 0..200 {
        let large = Change::JobAccepted {
            record: Box::new(common::durable(900)),
            description: vec![round; 20_000],
        };
        store.apply(&[large]).unwrap();
    }
    store
        .apply(&[Change::JobDropped {
            id: JobId::new(900),
        }])
        .unwrap();
    let expected = content(&store);
    drop(store);
    let sizes = compact(dir.path(), SledOptions::default()).unwrap();
    assert!(sizes.after < sizes.before, "{sizes:?}");
    assert!(!dir.path().join("store.compact").exists());
    let store = open(dir.path());
    assert_eq!(content(&store), expected);
    store.apply(&[worker("p", "after", false)]).unwrap();
    drop(store);
    drop(open(dir.path()));
    assert!(
        check(dir.path(), SledOptions::default())
            .unwrap()
            .is_sound()
    );
}

#[test]
fn a_compaction_that_was_killed_leaves_a_whole_store() {
    let dir = tempfile::tempdir().unwrap();
    let expected = content(&filled(dir.path()));
    let path = |name: &str| dir.path().join(name);
    // Killed while the new one was made,
    std::fs::create_dir_all(path("store.compact/store")).unwrap();
    std::fs::write(path("store.compact/store/db"), "half").unwrap();
    assert_eq!(content(&open(dir.path())), expected);
    assert!(!path("store.compact").exists(), "what is left is removed");
    // between the two steps that some file systems need,
    std::fs::rename(path("store"), path("store.before")).unwrap();
    assert_eq!(content(&open(dir.path())), expected);
    assert!(!path("store.before").exists());
    // and behind them.
    std::fs::create_dir(path("store.before")).unwrap();
    assert_eq!(content(&open(dir.path())), expected);
    assert!(!path("store.before").exists());
}

/// Changes rows behind the store's back, and checks it.
fn tampered(how: impl FnOnce(&sled::Db)) -> Report {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let db = sled::open(dir.path().join("store")).unwrap();
    how(&db);
    db.flush().unwrap();
    drop(db);
    let report = check(dir.path(), SledOptions::default()).unwrap();
    assert_eq!(
        report.can_start,
        common::try_open(dir.path()).is_ok(),
        "{report:?}"
    );
    report
}

fn key(kind: u8, id: u64) -> Vec<u8> {
    [&[kind][..], &id.to_be_bytes()].concat()
}

#[test]
fn a_sound_store_is_counted() {
    let report = tampered(|_| {});
    assert!(report.is_sound(), "{report:?}");
    let counts = report.counts;
    assert_eq!(
        (counts.workers, counts.hints, counts.rates, counts.debts),
        (31, 30, 30, 30)
    );
    assert_eq!((counts.clients, counts.descriptions), (30, 30));
    assert_eq!((counts.open_jobs, counts.ended_jobs), (61, 30));
    assert_eq!(counts.keys, 31);
    assert_eq!(report.next_job_id, JobId::new(1000));
}

#[test]
fn a_check_finds_what_a_start_does_not_look_at() {
    let report = tampered(|db| {
        db.insert(key(b's', 3), b"\x02damaged").unwrap();
        db.remove(key(b's', 4)).unwrap();
        db.insert(key(b's', 105), b"\x02x").unwrap();
        db.insert(key(b'e', 106), b"\x02").unwrap();
        db.insert(b"k\0\0\0\x01c\0\0\0\x01k", b"\x02\x01").unwrap();
    });
    assert!(report.can_start);
    for expected in [
        Problem::Description(JobId::new(3)),
        Problem::NoDescription(JobId::new(4)),
        Problem::StrayDescription(JobId::new(105)),
        Problem::Record(JobId::new(106)),
        Problem::StrayKey {
            client: "c".to_owned(),
            key: "k".to_owned(),
        },
    ] {
        assert!(
            report.problems.contains(&expected),
            "{expected}: {report:?}"
        );
    }
}

#[test]
fn a_check_says_what_keeps_a_scheduler_from_starting() {
    let lost = tampered(|db| {
        db.remove(key(b'o', 5)).unwrap();
    });
    assert!(!lost.can_start);
    assert_eq!(
        lost.problems[0].to_string(),
        "its index has 211 rows, and should have 212"
    );
    let unreadable = tampered(|db| {
        db.insert(key(b'o', 5), b"\x02").unwrap();
    });
    let said: Vec<String> = unreadable.problems.iter().map(Problem::to_string).collect();
    assert!(
        said.contains(&format!(
            "the record of job {} cannot be read",
            JobId::new(5)
        )),
        "{said:?}"
    );
}

#[test]
fn chores_need_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let options = SledOptions::default();
    let none = check(dir.path(), options).unwrap_err().to_string();
    assert!(none.contains("there is none"), "{none}");
    assert!(compact(dir.path(), options).is_err());
    assert!(export_dir(dir.path(), options, Vec::new()).is_err());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let _held = open(dir.path());
    let busy = check(dir.path(), options).unwrap_err();
    assert!(matches!(busy, StoreError::InUse { .. }), "{busy}");
}

#[test]
fn a_damaged_description_concerns_its_job_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let db = sled::open(dir.path().join("store")).unwrap();
    let mut bytes = db.get(key(b's', 3)).unwrap().unwrap().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    db.insert(key(b's', 3), bytes).unwrap();
    db.flush().unwrap();
    drop(db);
    let store = open(dir.path());
    let error = store.description(JobId::new(3)).unwrap_err();
    assert_eq!(error.code(), "damaged");
    let named = format!("the description of job {}", JobId::new(3));
    assert!(error.to_string().contains(&named), "{error}");
    assert_eq!(store.description(JobId::new(4)).unwrap(), Some(sealed(4)));
    assert_eq!(store.load(0).unwrap().open_jobs.len(), 61);
    // The store goes on, and the job can end.
    store.apply(&[recorded(ended(3, 9))]).unwrap();
    assert_eq!(store.health(), Ok(()));
    assert_eq!(store.description(JobId::new(3)).unwrap(), None);
}

#[test]
fn a_damaged_description_is_left_out_of_an_export_and_stops_compacting() {
    let dir = tempfile::tempdir().unwrap();
    drop(filled(dir.path()));
    let db = sled::open(dir.path().join("store")).unwrap();
    db.insert(key(b's', 3), b"\x02damaged").unwrap();
    db.flush().unwrap();
    drop(db);
    let options = SledOptions::default();
    let told = export_dir(dir.path(), options, Vec::new()).unwrap();
    assert_eq!((told.jobs, told.damaged), (91, vec![JobId::new(3)]));
    let error = compact(dir.path(), options).unwrap_err();
    assert_eq!(error.code(), "damaged", "{error}");
    assert!(!dir.path().join("store.compact").exists());
    assert_eq!(open(dir.path()).load(0).unwrap().open_jobs.len(), 61);
}
