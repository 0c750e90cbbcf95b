//! Workers that are killed, frozen or drained while they have durable jobs.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use ocluster_client::JobState;
use ocluster_tests::{Cluster, SOON, Story, wait_for};
use serde_json::Value;

use super::customer::{Customer, common, counting, output, parts};
use super::{passes, until_printed, worker};

/// How long a worker may be silent before its jobs are given to others: 12 s, and then some.
const REPLACED_WITHIN: Duration = Duration::from_secs(15);

#[test]
fn a_job_whose_worker_is_killed_runs_again_on_another() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut first = cluster.add_worker_with(worker("first"))?;
        let alice = cluster.add_client("alice")?;
        let steps = counting("it", 40, Duration::from_millis(50));
        let customer = Customer::with(alice.cap())?;
        let id = customer.submit("one", "", &steps)?;
        let mut reader = alice.start_asking(&["log", &id, "-f"])?;
        reader.wait_for_log("it says 9\n")?;
        let _second = cluster.add_worker_with(worker("second"))?;
        // When the worker that runs it is killed, and does not come back,
        first.process().kill()?;
        // then another one runs it from the beginning,
        passes(&mut reader)?;
        let job = customer.ended(&id)?;
        ensure!(job.state == JobState::Passed && job.attempt == 2, "{job:?}");
        ensure!(job.worker.as_deref() == Some("second"), "{job:?}");
        // the record tells why,
        let [lost, _] = job.attempts.as_slice() else {
            anyhow::bail!("{job:?}")
        };
        ensure!(lost.number == 1 && lost.worker == "first", "{job:?}");
        ensure!(
            lost.cause
                .as_ref()
                .is_some_and(|cause| cause.code == "worker-lost"),
            "{job:?}"
        );
        let told = alice.ask(&["status", &id])?.success()?.stdout;
        ensure!(told.contains("1 on first"), "{told}");
        // and the log is a beginning of the first attempt's, a word about its end, and all of the second's.
        let log = customer.log(&id)?;
        ensure!(reader.log().as_bytes() == log, "the reader has another log");
        let parts = parts(&job, &log)?;
        let [(_, begun), (_, whole)] = parts.as_slice() else {
            anyhow::bail!("{parts:?}")
        };
        ensure!(*whole == output("second", &steps), "{}", reader.log());
        let (_, words) = begun.split_at(common(begun, &output("first", &steps)));
        ensure!(
            begun.len() > words.len() && String::from_utf8_lossy(words).contains("first"),
            "{}",
            reader.log()
        );
        Ok(())
    })
}

#[test]
fn a_frozen_worker_is_replaced_and_does_no_harm_when_it_goes_on() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a job on one of two workers,
        let mut cluster = Cluster::start(story)?;
        let mut frozen = cluster.add_worker_with(worker("frozen"))?;
        let alice = cluster.add_client("alice")?;
        let customer = Customer::with(alice.cap())?;
        let steps = counting("it", 60, Duration::from_millis(100));
        let id = customer.submit("one", "", &steps)?;
        until_printed(&alice, &id, "it says 5\n")?;
        let _other = cluster.add_worker_with(worker("other"))?;
        // when that worker stands still,
        frozen.process().freeze()?;
        let since = Instant::now();
        // then the other one has the job within 15 seconds.
        wait_for("the job to run elsewhere", SOON, || {
            let job = customer.info(&id)?;
            Ok((job.attempt == 2 && job.worker.as_deref() == Some("other")).then_some(()))
        })?;
        let replaced = since.elapsed();
        ensure!(replaced <= REPLACED_WITHIN, "it took {replaced:?}");
        // And when the first goes on, in the middle of the second attempt,
        until_printed(&alice, &id, "Building on other\n")?;
        let registered = cluster.registrations("frozen")?;
        frozen.process().thaw()?;
        // it comes back, is told that the job is not its any more, and stops it,
        cluster.wait_until_registered("frozen", registered)?;
        cluster.wait_for_show("linux", "the worker to have stopped", SOON, |show| {
            show.lines().any(|line| {
                line.contains("frozen (0)")
                    || line.contains("frozen (") && line.contains("(0 running)")
            })
        })?;
        // while the result is the second attempt's, and so is every byte of the log from its beginning on.
        let job = customer.ended(&id)?;
        ensure!(
            job.state == JobState::Passed && job.attempt == 2 && job.attempts.len() == 2,
            "{job:?}"
        );
        let log = customer.log(&id)?;
        let parts = parts(&job, &log)?;
        let [_, (_, second)] = parts.as_slice() else {
            anyhow::bail!("{parts:?}")
        };
        ensure!(
            *second == output("other", &steps),
            "{}",
            String::from_utf8_lossy(&log)
        );
        wait_for("the worker to forget the job", SOON, || {
            Ok(frozen.spooled_logs().is_empty().then_some(()))
        })?;
        ensure!(frozen.process().is_running()?);
        Ok(())
    })
}

#[test]
fn a_worker_is_drained_by_a_deadline_and_its_durable_jobs_move() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let _first = cluster.add_worker_with(worker("first"))?;
        let alice = cluster.add_client("alice")?;
        let customer = Customer::with(alice.cap())?;
        let steps = counting("it", 60, Duration::from_millis(50));
        let id = customer.submit("one", "", &steps)?;
        until_printed(&alice, &id, "it says 1\n")?;
        let _second = cluster.add_worker_with(worker("second"))?;
        // A deadline without consequences names what still runs.
        let late = cluster.admin(&["drain", "linux", "first", "--deadline=100ms"])?;
        let late = late.exits_with(1)?;
        ensure!(late.stderr.contains(&id), "{late}");
        // With consequences, the job goes elsewhere, and that attempt does not count against the job.
        let drain = [
            "drain",
            "linux",
            "first",
            "--deadline=100ms",
            "--then=evict",
        ];
        let moved = cluster
            .admin(&[&drain[..], &["--reason=new disk"]].concat())?
            .success()?;
        ensure!(
            moved.stdout.contains("first: 1 job moved, 0 cancelled"),
            "{moved}"
        );
        let job = customer.ended(&id)?;
        ensure!(
            job.state == JobState::Passed && job.worker.as_deref() == Some("second"),
            "{job:?}"
        );
        // Everybody can see who did it, and why, also after a crash.
        cluster.kill_scheduler()?;
        cluster.restart_scheduler()?;
        let shown = cluster
            .admin(&["show", "linux", "first", "--output=json"])?
            .success()?
            .stdout;
        let shown: Value = serde_json::from_str(&shown)?;
        ensure!(
            shown["pause_reason"] == "new disk"
                && shown["paused_by"]
                    .as_str()
                    .is_some_and(|by| by.contains('@')),
            "{shown}"
        );
        Ok(())
    })
}
