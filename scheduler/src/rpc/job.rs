//! `Job`, as the scheduler serves it to clients: from its own log store and its own record, never from the worker.

use std::rc::Rc;

use ocluster_api::cluster_capnp::job;

use crate::job_run::Run;
use crate::jobs::log_error;

/// The largest piece of a log in one answer, in bytes.
const LOG_CHUNK: usize = 128 * 1024;

/// A job that a worker has taken.
pub(crate) struct JobServer {
    run: Rc<Run>,
}

impl JobServer {
    pub(crate) fn new(run: Rc<Run>) -> Self {
        Self { run }
    }
}

impl job::Server for JobServer {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        let start = params.get()?.get_start();
        let chunk = self
            .run
            .log()
            .read(start, LOG_CHUNK)
            .await
            .map_err(log_error)?;
        let mut results = results.get();
        results.set_log(&chunk.data);
        results.set_next(i64::try_from(chunk.next).unwrap_or(i64::MAX));
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        let output = self.run.outcome().await?;
        results.get().set_output(&output);
        Ok(())
    }

    async fn cancel(
        self: Rc<Self>,
        _: job::CancelParams,
        _: job::CancelResults,
    ) -> capnp::Result<()> {
        self.run.cancel();
        Ok(())
    }
}
