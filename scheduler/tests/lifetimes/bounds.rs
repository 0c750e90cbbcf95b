//! What the scheduler will not hold, and what it makes of workers that answer nonsense.

use ocluster_api::cluster_capnp::job_descr;

use crate::support::client::{cancel_ticket, describe, follow, result};
use crate::support::site::Site;
use crate::support::{POOL, story};

#[test]
fn jobs_that_do_not_fit_into_memory_are_refused_until_there_is_room() {
    story(async {
        // Given a scheduler that may hold some thousand bytes, and no worker,
        let site = Site::with(|config| config.max_queued_bytes = 1000);
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let large = "x".repeat(2000);
        let first = client.submit(&large);
        let waiting = result(&first.job);
        // when another job comes, it is refused with the reason,
        let refused = result(&client.submit("second").job).await.unwrap_err();
        assert!(
            refused.contains("as much as the scheduler may hold"),
            "{refused}"
        );
        // until the first one is gone.
        cancel_ticket(&first.ticket).await.unwrap();
        assert!(waiting.await.unwrap_err().contains("Ticket cancelled"));
        let mut worker = scheduler.worker("w").await;
        let third = client.submit("third");
        worker.next().await.succeed("");
        result(&third.job).await.unwrap();
    });
}

/// All of it is on its way before the scheduler has looked at the client's sturdy ref.
#[test]
fn a_client_may_submit_hundreds_of_jobs_in_its_first_breath() {
    story(async {
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let jobs: Vec<_> = (0..500).map(|_| client.submit("example")).collect();
        let waiting: Vec<_> = jobs.iter().map(|job| result(&job.job)).collect();
        for job in &jobs {
            cancel_ticket(&job.ticket).await.unwrap();
        }
        for result in waiting {
            assert_eq!(result.await, Err("Failed: Ticket cancelled".to_owned()));
        }
    });
}

#[test]
fn a_cache_hint_of_megabytes_is_refused_by_name() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let refused = client.submit_to(POOL, |mut descr: job_descr::Builder<'_>| {
            describe(&mut descr, "job");
            descr.set_cache_hint("h".repeat(1 << 20));
        });
        let error = result(&refused.job).await.unwrap_err();
        assert!(
            error.contains("its cache hint has 1048576 bytes, and 65536 are allowed"),
            "{error}"
        );
    });
}

#[test]
fn a_worker_whose_log_goes_backwards_is_not_followed_for_ever() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let client = scheduler.client().await;
        let job = client.submit("job");
        let given = worker.next().await;
        // Given a worker that says each time to go on from the beginning,
        given.build.always_says_next.set(Some(0));
        given.write("the same again\n");
        // then the log ends with what is wrong, and nothing is in it twice,
        let (log, error) = follow(&job.job).await;
        assert!("Building on w\nthe same again\n".starts_with(&log), "{log}");
        let error = error.unwrap();
        assert!(error.contains("goes on at byte 0 instead of"), "{error}");
        // and the job has its result all the same.
        given.succeed("fine");
        assert_eq!(result(&job.job).await.unwrap(), "fine");
    });
}
