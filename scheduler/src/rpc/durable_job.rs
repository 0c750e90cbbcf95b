//! From the wire's `DurableJob` to a submission: reads and measures; decides nothing about the job.

use ocluster_api::Descriptor;
use ocluster_api::cluster_capnp::job_descr;
use ocluster_api::extensions_capnp::{durable_job, time_limits};
use ocluster_store::TimeLimits;
use ocluster_vat::error as rpc_error;

use crate::job::MAX_TEXT;
use crate::jobs::Submission;

/// The longest key a client may choose, in bytes.
const MAX_KEY: usize = 256;

/// How many bytes of its message a job takes, roughly: what a copy of it will need.
///
/// # Errors
/// If the message is broken.
pub(super) fn size_in_bytes(job: durable_job::Reader<'_>) -> capnp::Result<u64> {
    Ok(job.total_size()?.word_count.saturating_mul(8))
}

/// Reads one job.
///
/// # Errors
/// What of it is too long, or that the message is broken.
pub(super) fn read(job: durable_job::Reader<'_>) -> capnp::Result<Submission> {
    let pool = job.get_pool()?;
    check_length("pool's name", pool.len(), MAX_TEXT)?;
    let key = job.get_key()?;
    check_length("key", key.len(), MAX_KEY)?;
    let descr = job.get_descr()?;
    check_length("cache hint", descr.get_cache_hint()?.len(), MAX_TEXT)?;
    if let Ok(job_descr::action::Custom(custom)) = descr.get_action().which() {
        check_length("kind", custom?.get_kind()?.len(), MAX_TEXT)?;
    }
    let key = key.to_str()?;
    Ok(Submission {
        pool: pool.to_str()?.into(),
        descriptor: Descriptor::copy_of(descr)
            .map_err(|error| rpc_error::failed(error.to_string()))?,
        urgent: job.get_urgent(),
        key: (!key.is_empty()).then(|| key.to_owned()),
        limits: limits(job.get_limits()?),
    })
}

fn limits(limits: time_limits::Reader<'_>) -> TimeLimits {
    let given = |limit: u64| (limit > 0).then_some(limit);
    TimeLimits {
        running: given(limits.get_running()),
        queued: given(limits.get_queued()),
        silent: given(limits.get_silent()),
    }
}

fn check_length(what: &str, length: usize, allowed: usize) -> capnp::Result<()> {
    if length > allowed {
        return Err(rpc_error::failed(format!(
            "The job was not accepted: its {what} has {length} bytes, and {allowed} are allowed"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use capnp::message::{Builder, HeapAllocator};

    use super::*;

    fn read_back(
        fill: impl FnOnce(durable_job::Builder<'_>),
    ) -> (Builder<HeapAllocator>, Result<Submission, String>) {
        let mut message = Builder::new_default();
        fill(message.init_root());
        let job = message.get_root_as_reader().unwrap();
        let read = read(job).map_err(|error| error.extra);
        (message, read)
    }

    fn refusal(fill: impl FnOnce(durable_job::Builder<'_>)) -> String {
        match read_back(fill).1 {
            Ok(_) => panic!("it should have been refused"),
            Err(error) => error,
        }
    }

    #[test]
    fn a_job_is_read_with_all_that_it_asks_for() {
        let (message, read) = read_back(|mut job| {
            job.set_pool("linux");
            job.set_urgent(true);
            job.set_key("nightly-7");
            let mut limits = job.reborrow().init_limits();
            limits.set_running(60_000);
            limits.set_silent(1);
            let mut descr = job.init_descr();
            descr.set_cache_hint("a-hint");
            descr.init_action().init_obuilder().set_spec("((from x))");
        });
        let submission = read.unwrap();
        assert_eq!(submission.pool.as_str(), "linux");
        assert!(submission.urgent);
        assert_eq!(submission.key.as_deref(), Some("nightly-7"));
        assert_eq!(
            submission.limits,
            TimeLimits {
                running: Some(60_000),
                queued: None,
                silent: Some(1),
            }
        );
        let descr = submission.descriptor.message();
        let hint = descr.get().unwrap().get_cache_hint().unwrap();
        assert_eq!(hint, "a-hint");
        let job: durable_job::Reader<'_> = message.get_root_as_reader().unwrap();
        let size = size_in_bytes(job).unwrap();
        assert!(
            size > submission.descriptor.size_in_bytes() as u64,
            "{size}"
        );
    }

    #[test]
    fn a_job_that_asks_for_nothing_has_neither_key_nor_limits() {
        let submission = read_back(|mut job| job.set_pool("linux")).1.unwrap();
        assert_eq!(submission.key, None);
        assert_eq!(submission.limits, TimeLimits::default());
        assert!(!submission.urgent);
    }

    #[test]
    fn what_is_too_long_is_refused_by_name() {
        let key = refusal(|mut job| job.set_key("k".repeat(257)));
        assert_eq!(
            key,
            "The job was not accepted: its key has 257 bytes, and 256 are allowed"
        );
        assert!(read_back(|mut job| job.set_key("k".repeat(256))).1.is_ok());
        let hint = refusal(|job| job.init_descr().set_cache_hint("h".repeat(1 << 20)));
        assert!(
            hint.ends_with("its cache hint has 1048576 bytes, and 65536 are allowed"),
            "{hint}"
        );
        let kind = refusal(|job| {
            let mut action = job.init_descr().init_action();
            action.reborrow().init_custom().set_kind("k".repeat(65_537));
        });
        assert!(
            kind.ends_with("its kind has 65537 bytes, and 65536 are allowed"),
            "{kind}"
        );
        let pool = refusal(|mut job| job.set_pool("p".repeat(65_537)));
        assert!(pool.contains("its pool's name has 65537 bytes"), "{pool}");
    }
}
