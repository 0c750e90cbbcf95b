//! Reading the log of a job, whatever kind of job it is.

use bytes::Bytes;
use futures::{Stream, stream};
use ocluster_api::cluster_capnp::job;
use ocluster_vat::RpcError;

/// The log from byte `start` on, in the pieces in which the scheduler sends it; negative counts from the present end. The stream
/// waits for the job to say something, and ends with the log. At most one piece is held in memory.
pub(crate) fn log(job: job::Client, start: i64) -> impl Stream<Item = Result<Bytes, RpcError>> {
    stream::try_unfold((job, start), |(job, at)| async move {
        let mut request = job.log_request();
        request.get().set_start(at);
        let response = request.send().promise.await?;
        let answer = response.get()?;
        let piece = answer.get_log()?;
        if piece.is_empty() {
            return Ok(None);
        }
        let next = answer.get_next();
        if at >= 0 && next <= at {
            return Err(RpcError::Failed(format!(
                "the log went back from byte {at} to byte {next}"
            )));
        }
        Ok(Some((Bytes::copy_from_slice(piece), (job, next))))
    })
}

/// Waits for the job to end, and gives its output.
pub(crate) async fn result(job: &job::Client) -> Result<String, RpcError> {
    let response = job.result_request().send().promise.await?;
    let output = response.get()?.get_output()?;
    Ok(String::from_utf8_lossy(output.as_bytes()).into_owned())
}
