//! Copying a running job's log from its worker into the scheduler's own store, once, whoever reads it.
//!
//! The copy goes at the pace of the slower of worker and disk; it never waits for a client.

use std::time::Duration;

use bytes::Bytes;
use capnp::capability::Response;
use ocluster_api::cluster_capnp::job;
use ocluster_joblog::{LogWriter, WriteError};
use ocluster_vat::RpcError;

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

/// Reads `source`'s log from byte `start` to its end and appends it to `log`. `told` waits until the worker has told how the job ended;
/// `copied` hears of each piece where in the worker's log it ended.
///
/// Not to be resumed after being dropped, but from where `log` says: the copy would have a hole.
pub(crate) async fn copy(
    source: &job::Client,
    mut start: u64,
    log: &mut LogWriter,
    told: impl AsyncFn(),
    mut copied: impl FnMut(u64, &LogWriter),
) -> TailEnd {
    let too_late = async || {
        told().await;
        tokio::time::sleep(LOG_GRACE).await;
    };
    let mut asked = ask(source, start);
    loop {
        let response = tokio::select! {
            response = asked => response,
            () = too_late() => {
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
        drop(response);
        if data.is_empty() {
            return TailEnd::Complete;
        }
        let expected = start + data.len() as u64;
        // So that the worker fetches the next piece while this one waits for the disk. There is never more than one ahead.
        asked = ask(source, expected);
        if let Err(error) = log.append(data).await {
            return TailEnd::Disk(error);
        }
        if u64::try_from(next).ok() != Some(expected) {
            let wrong = format!("the worker's log goes on at byte {next} instead of {expected}");
            return TailEnd::Worker(RpcError::Failed(wrong));
        }
        copied(expected, log);
        start = expected;
    }
}

/// Asks for the piece of the log that begins at `start`.
fn ask(
    source: &job::Client,
    start: u64,
) -> impl Future<Output = capnp::Result<Response<job::log_results::Owned>>> + use<> {
    let mut request = source.log_request();
    request
        .get()
        .set_start(i64::try_from(start).unwrap_or(i64::MAX));
    request.send().promise
}
