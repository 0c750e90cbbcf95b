//! Copying a running job's log from its worker into the scheduler's own store, once, whoever reads it.
//!
//! The copy goes at the pace of the slower of worker and disk; it never waits for a client.

use bytes::Bytes;
use ocluster_api::cluster_capnp::job;
use ocluster_joblog::{LogWriter, WriteError};
use ocluster_vat::RpcError;

/// How the copying ended.
#[derive(Debug)]
pub(crate) enum TailEnd {
    /// The worker said that the log is complete.
    Complete,
    /// The worker is gone, or failed to answer.
    Worker(RpcError),
    /// The log could not be kept.
    Disk(WriteError),
}

/// Reads `source`'s log from the beginning to its end and appends it to `log`.
///
/// Not to be resumed after being dropped: the copy would have a hole.
pub(crate) async fn copy(source: &job::Client, log: &mut LogWriter) -> TailEnd {
    let mut start = 0;
    loop {
        let mut request = source.log_request();
        request.get().set_start(start);
        let response = match request.send().promise.await {
            Ok(response) => response,
            Err(error) => return TailEnd::Worker(error.into()),
        };
        let chunk = response.get().and_then(|results| {
            Ok((
                Bytes::copy_from_slice(results.get_log()?),
                results.get_next(),
            ))
        });
        let (data, next) = match chunk {
            Ok(chunk) => chunk,
            Err(error) => return TailEnd::Worker(error.into()),
        };
        if data.is_empty() {
            return TailEnd::Complete;
        }
        if let Err(error) = log.append(data).await {
            return TailEnd::Disk(error);
        }
        start = next;
    }
}
