//! Receives a draining worker's progress from the scheduler.

use std::rc::Rc;

use ocluster_api::cluster_capnp::progress;

/// A capability for the scheduler to report to; each report is passed to `report`.
pub(crate) fn reporter(report: impl Fn(&str) + 'static) -> progress::Client {
    capnp_rpc::new_client(Reporter { report })
}

struct Reporter<F> {
    report: F,
}

impl<F: Fn(&str) + 'static> progress::Server for Reporter<F> {
    async fn report(
        self: Rc<Self>,
        params: progress::ReportParams,
        _: progress::ReportResults,
    ) -> Result<(), capnp::Error> {
        let status = params.get()?.get_status()?;
        (self.report)(&String::from_utf8_lossy(status.as_bytes()));
        Ok(())
    }
}
