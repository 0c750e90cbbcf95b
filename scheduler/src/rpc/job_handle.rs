//! `JobHandle`: a job with a record, by its id. Whoever holds it keeps nothing alive: releasing it does nothing.
//!
//! Answers come from records and stored logs, whatever has become of the job and its workers.

use std::rc::Rc;

use ocluster_api::cluster_capnp::job;
use ocluster_api::extensions_capnp::job_handle;
use ocluster_scheduling::PauseNote;
use ocluster_store::JobId;
use ocluster_vat::error as rpc_error;

use super::caller::Caller;
use super::job_info;
use crate::jobs::StopError;

/// The largest piece of a log in one answer, in bytes.
const LOG_CHUNK: usize = 128 * 1024;

struct JobHandleServer {
    caller: Caller,
    id: JobId,
}

/// A handle on a job that `caller` has found or submitted.
pub(super) fn new_job_handle(caller: Caller, id: JobId) -> job_handle::Client {
    capnp_rpc::new_client(JobHandleServer { caller, id })
}

/// Words that a peer wants others to read, made one line of bounded length; nothing if there is nothing to read.
pub(super) fn one_line(text: capnp::text::Reader<'_>) -> capnp::Result<String> {
    let note = PauseNote::new(text.to_str()?);
    Ok(note.map_or_else(String::new, |note| note.to_string()))
}

impl JobHandleServer {
    async fn stop_for(&self, reason: String) -> capnp::Result<Result<(), StopError>> {
        let asker = self.caller.asker()?;
        let scheduler = self.caller.scheduler().clone();
        let id = self.id;
        self.caller
            .completely(async move { scheduler.stop_job(id, &asker, &reason).await })
            .await
    }
}

impl job::Server for JobHandleServer {
    async fn log(
        self: Rc<Self>,
        params: job::LogParams,
        mut results: job::LogResults,
    ) -> capnp::Result<()> {
        self.caller.asker()?;
        let start = params.get()?.get_start();
        let scheduler = self.caller.scheduler();
        let (data, next) = scheduler.read_job_log(self.id, start, LOG_CHUNK).await?;
        self.caller.asker()?;
        let mut results = results.get();
        results.set_log(&data);
        results.set_next(i64::try_from(next).unwrap_or(i64::MAX));
        Ok(())
    }

    async fn result(
        self: Rc<Self>,
        _: job::ResultParams,
        mut results: job::ResultResults,
    ) -> capnp::Result<()> {
        self.caller.asker()?;
        let outcome = self.caller.scheduler().job_result(self.id).await;
        self.caller.asker()?;
        results.get().set_output(outcome?);
        Ok(())
    }

    /// As that of any job: nothing happens if it is over.
    async fn cancel(
        self: Rc<Self>,
        _: job::CancelParams,
        _: job::CancelResults,
    ) -> capnp::Result<()> {
        match self.stop_for(String::new()).await? {
            Ok(()) | Err(StopError::Over { .. }) => Ok(()),
            Err(error) => Err(rpc_error::failed(error.to_string())),
        }
    }
}

impl job_handle::Server for JobHandleServer {
    async fn info(
        self: Rc<Self>,
        _: job_handle::InfoParams,
        mut results: job_handle::InfoResults,
    ) -> capnp::Result<()> {
        self.caller.asker()?;
        let shown = self.caller.scheduler().show_job(self.id).await;
        let shown = shown.map_err(|error| rpc_error::failed(error.to_string()))?;
        job_info::write(&shown, results.get().init_info());
        Ok(())
    }

    async fn stop(
        self: Rc<Self>,
        params: job_handle::StopParams,
        _: job_handle::StopResults,
    ) -> capnp::Result<()> {
        let reason = one_line(params.get()?.get_reason()?)?;
        drop(params);
        let stopped = self.stop_for(reason).await?;
        stopped.map_err(|error| rpc_error::failed(error.to_string()))
    }

    async fn explain(
        self: Rc<Self>,
        _: job_handle::ExplainParams,
        mut results: job_handle::ExplainResults,
    ) -> capnp::Result<()> {
        self.caller.asker()?;
        let explained = self.caller.scheduler().explain_job(self.id).await;
        let explained = explained.map_err(|error| rpc_error::failed(error.to_string()))?;
        job_info::write_explanation(&explained, results.get().init_explanation());
        Ok(())
    }

    async fn ended(
        self: Rc<Self>,
        _: job_handle::EndedParams,
        mut results: job_handle::EndedResults,
    ) -> capnp::Result<()> {
        self.caller.asker()?;
        let shown = self.caller.scheduler().job_ended(self.id).await;
        self.caller.asker()?;
        let shown = shown.map_err(|error| rpc_error::failed(error.to_string()))?;
        job_info::write(&shown, results.get().init_info());
        Ok(())
    }
}
