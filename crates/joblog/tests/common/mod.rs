//! What the stories about logs share.

#![allow(dead_code, reason = "each test file uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use ocluster_joblog::{Chunk, LogConfig, LogReader, LogStore, ReadError};

/// A log store in a directory that goes away with it.
pub(crate) struct Logs {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) store: LogStore,
}

pub(crate) fn logs() -> Logs {
    logs_with(LogConfig::default())
}

pub(crate) fn logs_with(config: LogConfig) -> Logs {
    let dir = tempfile::tempdir().unwrap();
    let store = LogStore::open(dir.path(), config).unwrap();
    Logs { dir, store }
}

impl Logs {
    /// Closes the store and opens it again, as a restart does.
    pub(crate) async fn reopen(self) -> Logs {
        self.store.close().await;
        let store = LogStore::open(self.dir.path(), LogConfig::default()).unwrap();
        Logs {
            dir: self.dir,
            store,
        }
    }

    pub(crate) fn file(&self, id: u64) -> PathBuf {
        self.dir
            .path()
            .join((id / 1024).to_string())
            .join(format!("{id}.log"))
    }

    pub(crate) fn pack(&self, range: u64) -> PathBuf {
        let dir = self.dir.path().join(range.to_string());
        dir.join(format!("{range}.pack"))
    }

    /// Puts a whole log into a file of its own, as all logs once had one. Gives the file.
    pub(crate) fn put_file(&self, id: u64, text: &str) -> PathBuf {
        let file = self.file(id);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let header = format!("ocluster-log 1 closed {:020} {:020}\n", text.len(), 0);
        std::fs::write(&file, header + text).unwrap();
        file
    }

    /// All of a log, which must be whole.
    pub(crate) async fn text(&self, id: u64) -> String {
        let (data, end) = read_all(&self.store.reader(id).await.unwrap()).await;
        assert_eq!(end, Ok(()), "log {id}");
        String::from_utf8(data).unwrap()
    }

    /// The ids of all logs.
    pub(crate) async fn ids(&self) -> Vec<u64> {
        self.store.list().await.iter().map(|info| info.id).collect()
    }

    /// Writes a whole log and waits until it is recorded.
    pub(crate) async fn write(&self, id: u64, text: &str) {
        let mut writer = self.store.create(id).unwrap();
        writer.append(bytes(text)).await.unwrap();
        writer.finish(ocluster_joblog::End::Closed).await.unwrap();
    }
}

pub(crate) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Reads to the end, as a client does.
pub(crate) async fn read_all(reader: &LogReader) -> (Vec<u8>, Result<(), ReadError>) {
    let mut data = Vec::new();
    loop {
        let start = i64::try_from(data.len()).unwrap();
        match soon(reader.read(start, 10_240)).await {
            Ok(Chunk { data: piece, .. }) if piece.is_empty() => return (data, Ok(())),
            Ok(Chunk { data: piece, next }) => {
                data.extend_from_slice(&piece);
                assert_eq!(next, data.len() as u64);
            }
            Err(error) => return (data, Err(error)),
        }
    }
}

/// What should not hang fails instead.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("this should not take a minute")
}
