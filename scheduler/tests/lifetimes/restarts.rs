//! A scheduler that stops and starts again in the same directories.

use ocluster_joblog::{End, LogConfig, LogStore};
use ocluster_store::{JobState, SledOptions, SledStore, Store as _};

use crate::support::client::{read_at, result, whole_log};
use crate::support::site::{Site, add, copy_dir, set_active, show, workers};
use crate::support::{eventually, story};

use super::access::list;

#[test]
fn capabilities_and_clients_survive_byte_for_byte() {
    story(async {
        let site = Site::with(|config| {
            config.disable_tls = false;
            // What goes into the files does not depend on the port of the day.
            config.public = Some(ocluster_vat::Location::tcp("cluster.example", 9000));
        });
        let scheduler = site.start().await;
        let files = site.cap_files();
        let names: Vec<_> = files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["admin.cap", "pool-pool.cap", "submit-client.cap"]);
        add(&scheduler, &scheduler.admin().await, "alice")
            .await
            .unwrap();
        let client = scheduler.client().await;
        scheduler.stop().await;
        drop(client);

        let scheduler = site.start().await;
        assert_eq!(site.cap_files(), files);
        assert_eq!(list(&scheduler.admin().await).await, ["alice", "client"]);
        let mut worker = scheduler.worker("w").await;
        let job = scheduler.client().await.submit("example");
        worker.next().await.succeed("");
        assert_eq!(result(&job.job).await, Ok(String::new()));
    });
}

#[test]
fn rates_pauses_and_hints_survive() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let pool = scheduler.pool_admin().await;
        set_active(&pool, "paused", false, true).await.unwrap();
        let mut request = pool.set_rate_request();
        request.get().set_id("client");
        request.get().set_rate(7.0);
        request.send().promise.await.unwrap();
        let mut cached = scheduler.worker("cached").await;
        let client = scheduler.client().await;
        let job = client.submit_urgently("first", "hint");
        cached.next().await.succeed("");
        assert_eq!(result(&job.job).await, Ok(String::new()));
        scheduler.stop().await;

        let scheduler = site.start().await;
        let pool = scheduler.pool_admin().await;
        assert_eq!(
            workers(&pool).await,
            [
                ("cached".to_owned(), false, true),
                ("paused".to_owned(), false, false)
            ]
        );
        // Whichever asked last, or comes first in order, the job goes where its cache is.
        let mut cached = scheduler.worker("cached").await;
        let mut other = scheduler.worker("other").await;
        let mut another = scheduler.worker("another").await;
        let client = scheduler.client().await;
        let job = client.submit_urgently("second", "hint");
        tokio::select! {
            given = cached.next() => given.succeed(""),
            _ = other.next() => panic!("given to a worker without the cache"),
            _ = another.next() => panic!("given to a worker without the cache"),
        }
        assert_eq!(result(&job.job).await, Ok(String::new()));
        let shown = show(&pool).await;
        assert!(shown.contains("client(7)"), "{shown}");
    });
}

#[test]
fn a_graceful_stop_tells_every_peer() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        let given = worker.next().await;
        let (_, next) = read_at(&job.job, 0).await.unwrap();
        let (log, outcome) = (read_at(&job.job, next), result(&job.job));
        scheduler.stop().await;
        let goodbye = "Vat shut down";
        assert_eq!(client.connection.closed().await.as_str(), goodbye);
        assert_eq!(worker.connection.closed().await.as_str(), goodbye);
        assert_eq!(log.await, Err(format!("Disconnected: {goodbye}")));
        assert_eq!(outcome.await, Err(format!("Disconnected: {goodbye}")));
        // The worker's job is nobody's any more.
        given.build.released.cancelled().await;
    });
}

#[test]
fn a_job_that_ran_when_the_power_failed_is_lost_too() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let job = scheduler.client().await.submit("example");
        let _given = worker.next().await;
        read_at(&job.job, 0).await.unwrap();
        let mut copies = 0;
        let (mut after, state) =
            eventually("the job's record and its log are on disk", async || {
                copies += 1;
                let mut after = Site::new();
                let state = after.path().join(format!("state-{copies}"));
                copy_dir(&site.path().join("state"), &state);
                let log = std::fs::read_dir(state.join("logs")).unwrap().count();
                // A copy made in the middle of a write need not be one that can be opened.
                let store = SledStore::open(&state, SledOptions::default()).ok()?;
                let open = store.load(0).ok()?.open_jobs.len();
                drop(store);
                after.config().state_dir.clone_from(&state);
                (open == 1 && log > 0).then_some((after, state))
            })
            .await;
        after.config().key_file = None;
        after.start().await.stop().await;

        let store = SledStore::open(&state, SledOptions::default()).unwrap();
        assert!(store.load(0).unwrap().open_jobs.is_empty());
        let records = store.jobs(None, 10).unwrap();
        let [lost] = records.as_slice() else {
            panic!("one job was submitted: {records:?}");
        };
        assert_eq!(lost.state, JobState::Lost);
        assert_eq!(lost.cause.as_ref().unwrap().code, "scheduler-restarted");
        let logs = LogStore::open(&state.join("logs"), LogConfig::default()).unwrap();
        let log = logs.reader(lost.id.get()).await.unwrap();
        assert!(
            matches!(log.end(), Some(End::Broken { reason }) if reason.starts_with("Disconnected: ")),
            "{:?}",
            log.end()
        );
    });
}

#[test]
fn a_job_that_ran_when_the_scheduler_stopped_is_recorded_as_lost_and_its_log_can_be_read() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let client = scheduler.client().await;
        let done = client.submit("done");
        worker.next().await.succeed("output");
        assert_eq!(whole_log(&done.job).await, "Building on w\nJob succeeded\n");
        let job = client.submit("example");
        let _given = worker.next().await;
        read_at(&job.job, 0).await.unwrap();
        scheduler.stop().await;
        site.start().await.stop().await;

        let state = site.path().join("state");
        let store = SledStore::open(&state, SledOptions::default()).unwrap();
        let snapshot = store.load(0).unwrap();
        assert!(snapshot.open_jobs.is_empty(), "no job is left open");
        let mut records = store.jobs(None, 10).unwrap();
        records.sort_by_key(|job| job.id);
        let states: Vec<_> = records.iter().map(|job| job.state).collect();
        assert_eq!(states, [JobState::Passed, JobState::Lost]);
        assert_eq!(records[0].output, "output");
        let lost = &records[1];
        assert_eq!(lost.worker.as_deref(), Some("w"));
        assert!(lost.times.ended.is_some());
        let cause = lost.cause.as_ref().unwrap();
        assert!(
            cause.sentence.contains("scheduler") || cause.sentence.contains("Vat shut down"),
            "{cause:?}"
        );

        let logs = LogStore::open(&state.join("logs"), LogConfig::default()).unwrap();
        let log = logs.reader(lost.id.get()).await.unwrap();
        let piece = log.read(0, 1000).await.unwrap();
        assert_eq!(piece.data, "Building on w\n");
        assert!(
            matches!(log.end(), Some(End::Broken { .. })),
            "{:?}",
            log.end()
        );
    });
}
