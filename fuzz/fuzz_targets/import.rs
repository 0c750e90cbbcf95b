//! Importing anything gives a store that holds what the lines say, or an error that says which line is wrong.

#![no_main]

use ocluster_store::chores::{ImportError, Imported, import_into};
use ocluster_store::{JobId, MemoryStore, Store as _};
use sha2::{Digest as _, Sha256};

/// The lines, a last line that fits them, compressed: what a fuzzer does not come upon.
fn sealed(lines: &[u8]) -> Vec<u8> {
    let count = lines.iter().filter(|byte| **byte == b'\n').count();
    let digest: String = Sha256::digest(lines)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let end = format!("{{\"end\":{{\"lines\":{count},\"sha256\":\"{digest}\"}}}}\n");
    zstd::bulk::compress(&[lines, end.as_bytes()].concat(), 1).unwrap()
}

fn import(export: &[u8]) -> Result<Imported, ImportError> {
    let store = MemoryStore::new();
    let imported = import_into(export, &store)?;
    assert!(imported.jobs <= imported.rows);
    let found = store.load(0).unwrap();
    assert_eq!(found.next_job_id, imported.next_job_id);
    let jobs = store.jobs(None, usize::MAX).unwrap();
    assert!(jobs.len() as u64 <= imported.jobs);
    // The very last id there can be has none after it.
    let last = JobId::new(u64::MAX - 1);
    for job in jobs.iter().filter(|job| job.id <= last) {
        assert!(job.id < imported.next_job_id);
        assert_eq!(
            store.job(job.id).unwrap().map(|found| found.id),
            Some(job.id)
        );
    }
    Ok(imported)
}

fn check(error: &ImportError) {
    match error {
        ImportError::Line { line, why } => assert!(!why.is_empty() && *line > 0),
        ImportError::Store(error) => panic!("a store in memory failed: {error}"),
        error => assert!(error.to_string().len() <= 1024, "{error}"),
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(error) = import(data) {
        check(&error);
    }
    let lines = data.iter().filter(|byte| **byte == b'\n').count() as u64;
    match import(&sealed(data)) {
        // The first line is no row, and neither is the last.
        Ok(imported) => assert_eq!(imported.rows + 1, lines),
        Err(error) => {
            check(&error);
            if let ImportError::Line { line, .. } = error {
                assert!(line <= lines + 1);
            }
        }
    }
});
