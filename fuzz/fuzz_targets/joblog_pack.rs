//! Any file in a pack's place gives logs that can be read, removed and added to, and nothing that is damaged is changed.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use ocluster_joblog::{End, LogConfig, LogReader, LogStore, ReadError, WriteError};

/// An id of the pack's range.
const NEW: u64 = 1000;

/// All bytes of a log, and the reason if it broke.
async fn all(reader: &LogReader) -> (Vec<u8>, Option<String>) {
    let mut found = Vec::new();
    loop {
        let start = i64::try_from(found.len()).unwrap();
        match reader.read(start, 4096).await {
            Ok(chunk) if chunk.data.is_empty() => return (found, None),
            Ok(chunk) => found.extend_from_slice(&chunk.data),
            Err(ReadError::Broken { reason }) => return (found, Some(reason)),
            Err(error) => panic!("a log that was found cannot be read: {error}"),
        }
    }
}

/// Every log that is there, as a reader has it.
async fn everything(store: &LogStore) -> Vec<(u64, Vec<u8>, Option<String>)> {
    let mut logs = Vec::new();
    for listed in store.list().await {
        assert_eq!(store.info(listed.id).await.unwrap(), listed);
        let reader = store.reader(listed.id).await.unwrap();
        let (found, reason) = all(&reader).await;
        assert_eq!(found.len() as u64, listed.length);
        match listed.end {
            Some(End::Closed) => assert_eq!(reason, None),
            Some(End::Broken { reason: expected }) => assert_eq!(reason, Some(expected)),
            None => panic!("what is in a pack has ended"),
        }
        logs.push((listed.id, found, reason));
    }
    logs
}

libfuzzer_sys::fuzz_target!(|pack: &[u8]| {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("0")).unwrap();
    std::fs::write(dir.path().join("0/0.pack"), pack).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let config = LogConfig {
            linger: Duration::ZERO,
            ..LogConfig::default()
        };
        let pace = Arc::new(|| Duration::ZERO);
        let store = LogStore::open_threadless(dir.path(), config, pace).unwrap();
        let mut before = everything(&store).await;
        // Another log is added to those that are there, and to nothing else.
        let mut writer = store.create(NEW).unwrap();
        writer.append(b"new".to_vec().into()).await.unwrap();
        match writer.finish(End::Closed).await {
            Ok(_) => before.push((NEW, b"new".to_vec(), None)),
            Err(error) => assert_eq!(error, WriteError::Exists { id: NEW }),
        }
        before.sort();
        assert_eq!(everything(&store).await, before);
        // The first one is removed, and another gone on with.
        if before.len() > 1 {
            let (first, ..) = before.remove(0);
            assert!(store.remove(first).await);
        }
        if let Some((last, text, end)) = before.last_mut() {
            let length = text.len() as u64;
            let mut writer = store.reopen_within(*last, length, None).await.unwrap();
            writer.append(b"more".to_vec().into()).await.unwrap();
            writer.finish(End::Closed).await.unwrap();
            text.extend_from_slice(b"more");
            *end = None;
        }
        assert_eq!(everything(&store).await, before);
        store.close().await;
    });
});
