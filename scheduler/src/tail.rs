//! Copying a running job's log from its worker into the scheduler's own store, once, whoever reads it.
//!
//! The copy goes at the pace of the slower of worker and disk; it never waits for a client.

use std::time::Duration;

use bytes::Bytes;
use ocluster_api::cluster_capnp::job;
use ocluster_joblog::{LogWriter, WriteError};
use ocluster_vat::RpcError;

use crate::job_run::Run;

/// How long a worker that has reported the result may be silent about the rest of the log.
const LOG_GRACE: Duration = Duration::from_secs(60);

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
pub(crate) async fn copy(source: &job::Client, run: &Run, log: &mut LogWriter) -> TailEnd {
    let mut start: i64 = 0;
    loop {
        let mut request = source.log_request();
        request.get().set_start(start);
        let response = tokio::select! {
            response = request.send().promise => response,
            () = too_late(run) => {
                let silence = "the worker did not complete the log in time";
                return TailEnd::Worker(RpcError::Failed(silence.into()));
            }
        };
        let response = match response {
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
        let length = i64::try_from(data.len()).unwrap_or(i64::MAX);
        if let Err(error) = log.append(data).await {
            return TailEnd::Disk(error);
        }
        let expected = start + length;
        if next != expected {
            let wrong = format!("the worker's log goes on at byte {next} instead of {expected}");
            return TailEnd::Worker(RpcError::Failed(wrong));
        }
        run.last_output.set(tokio::time::Instant::now());
        start = next;
    }
}

/// Waits until a worker that has reported the result was silent about the rest of the log for too long.
async fn too_late(run: &Run) {
    // Its words are for others.
    let _ = run.outcome().await;
    tokio::time::sleep(LOG_GRACE).await;
}
