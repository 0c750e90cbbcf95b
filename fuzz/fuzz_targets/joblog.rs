//! Any file in a log's place is a log that can be read to its end and gone on with, or is refused.

#![no_main]

use std::sync::Arc;
use std::time::Duration;

use ocluster_joblog::{End, LogConfig, LogInfo, LogReader, LogStore, ReadError};
use sha2::{Digest as _, Sha256};

/// Bytes of a log's header.
const HEADER: usize = 64;

/// How a log is gone on with.
struct More<'a> {
    /// Where, on the way from its beginning to its end.
    at: u8,
    /// Its limit; none if 0.
    limit: u8,
    bytes: &'a [u8],
}

/// All bytes of a log, and the reason if it broke. `None`: its file was not what it said.
async fn all(reader: &LogReader) -> Option<(Vec<u8>, Option<String>)> {
    let mut found = Vec::new();
    loop {
        let start = i64::try_from(found.len()).unwrap();
        match reader.read(start, 4096).await {
            Ok(chunk) if chunk.data.is_empty() => return Some((found, None)),
            Ok(chunk) => {
                found.extend_from_slice(&chunk.data);
                assert_eq!(chunk.next, found.len() as u64);
            }
            Err(ReadError::Broken { reason }) => return Some((found, Some(reason))),
            Err(_) => return None,
        }
    }
}

/// What the file says, held against what it is.
async fn check(store: &LogStore, file: &[u8], info: &LogInfo) -> Vec<u8> {
    let content = file.get(HEADER..).unwrap_or_default();
    let length = usize::try_from(info.length).unwrap();
    assert!(length <= content.len());
    let reader = store.reader(1).await.unwrap();
    let (found, reason) = all(&reader).await.unwrap();
    assert_eq!(found, content[..length]);
    match &info.end {
        Some(End::Closed) => assert_eq!(reason, None),
        Some(End::Broken { reason: expected }) => assert_eq!(reason.as_ref(), Some(expected)),
        None => assert!(reason.is_some(), "an unfinished log has an end"),
    }
    found
}

/// Goes on with the log, and reads what has become of it.
async fn go_on(store: &LogStore, more: &More<'_>, before: &[u8]) {
    let at = before.len() * usize::from(more.at) / 255;
    let limit = Some(u64::from(more.limit)).filter(|limit| *limit > 0);
    let Ok(mut writer) = store.reopen_within(1, at as u64, limit).await else {
        panic!("a log that could be read cannot be gone on with");
    };
    writer.append(more.bytes.to_vec().into()).await.unwrap();
    let info = writer.finish(End::Closed).await.unwrap();
    let reader = store.reader(1).await.unwrap();
    let (found, reason) = all(&reader).await.unwrap();
    assert_eq!(reason, None);
    assert_eq!(info.length, found.len() as u64);
    assert_eq!(info.digest, Some(<[u8; 32]>::from(Sha256::digest(&found))));
    assert_eq!(found[..at], before[..at]);
    if limit.is_none() {
        assert_eq!(&found[at..], more.bytes);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Some((&[at, limit, length], file)) = data.split_first_chunk() else {
        return;
    };
    let bytes = &file[..file.len().min(usize::from(length))];
    let more = More { at, limit, bytes };
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("0")).unwrap();
    std::fs::write(dir.path().join("0/1.log"), file).unwrap();
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
        let listed = store.list().await;
        let Ok(info) = store.info(1).await else {
            assert!(listed.is_empty());
            return;
        };
        assert_eq!(listed, [info.clone()]);
        let before = check(&store, file, &info).await;
        go_on(&store, &more, &before).await;
        store.close().await;
    });
});
