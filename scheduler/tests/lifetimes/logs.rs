//! Following logs, which come from the scheduler's own copy.

use ocluster_api::cluster_capnp::ticket;

use crate::support::client::{Client, Submitted, cancel, follow, read_at, result, whole_log};
use crate::support::site::Site;
use crate::support::stoppable::Stoppable;
use crate::support::story;

/// Waits for the scheduler to have received what was sent before the ticket was.
pub(crate) async fn arrived(ticket: &ticket::Client) {
    ticket.job_request().send().promise.await.unwrap();
}

#[test]
fn many_followers_read_the_same_log_and_the_worker_is_asked_once() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let job = scheduler.client().await.submit("example");
        let followers: Vec<_> = (0..50)
            .map(|_| {
                let job = job.job.clone();
                tokio::task::spawn_local(async move { whole_log(&job).await })
            })
            .collect();
        let given = worker.next().await;
        let mut expected = "Building on w\n".to_owned();
        for number in 0..100 {
            let line = format!("line {number}\n");
            given.write(&line);
            expected.push_str(&line);
        }
        given.succeed("");
        expected.push_str("Job succeeded\n");
        for follower in followers {
            assert_eq!(follower.await.unwrap(), expected);
        }
        // And whoever comes later.
        assert_eq!(whole_log(&job.job).await, expected);
        assert_eq!(given.build.result_calls.get(), 1);
    });
}

#[test]
fn a_negative_offset_counts_from_the_present_end() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let job = scheduler.client().await.submit("example");
        let given = worker.next().await;
        given.succeed("");
        let log = whole_log(&job.job).await;
        let length = i64::try_from(log.len()).unwrap();
        assert_eq!(
            read_at(&job.job, -10).await,
            Ok(("succeeded\n".to_owned(), length))
        );
        assert_eq!(read_at(&job.job, -1000).await, Ok((log.clone(), length)));
        assert_eq!(read_at(&job.job, i64::MIN).await, Ok((log, length)));
        assert_eq!(read_at(&job.job, length).await, Ok((String::new(), length)));
        let past = read_at(&job.job, length + 1).await.unwrap_err();
        assert!(past.starts_with("Failed: "), "{past}");
    });
}

/// The slow one asks for megabytes and reads nothing.
#[test]
fn a_follower_that_does_not_read_holds_up_nobody() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let cap = scheduler.cap("submit-client.cap");
        let (connection, stopped) = Stoppable::connect(&scheduler).await;
        let slow = Client {
            submission: connection.bootstrap(&cap.id),
            connection,
        };
        let slow_job = slow.submit("slow");
        let given = worker.next().await;
        read_at(&slow_job.job, 0).await.unwrap();
        stopped.set(true);
        let line = format!("{}\n", "x".repeat(1023));
        let pending: Vec<_> = (0..200).map(|_| read_at(&slow_job.job, 0)).collect();
        for _ in 0..2048 {
            given.write(&line);
        }
        given.succeed("done");
        // The copy reached the scheduler's store, so the worker may forget the job.
        given.build.released.cancelled().await;
        let client = scheduler.client().await;
        let job = client.submit("fast");
        let given = worker.next().await;
        given.succeed("");
        assert_eq!(whole_log(&job.job).await, "Building on w\nJob succeeded\n");
        drop(pending);
    });
}

#[test]
fn calls_under_way_end_well_when_their_job_is_let_go_of_at_the_end() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let Submitted { ticket, job } = scheduler.client().await.submit("example");
        let given = worker.next().await;
        let (_, next) = read_at(&job, 0).await.unwrap();
        let (log, outcome) = (read_at(&job, next), result(&job));
        drop(ticket);
        drop(job);
        given.build.cancelled.cancelled().await;
        assert_eq!(log.await.unwrap().0, "Job cancelled\n");
        assert_eq!(outcome.await, Err("Failed: Build cancelled".to_owned()));
        given.build.released.cancelled().await;
    });
}

/// A worker that loses its connection: what came before is kept, and the end says what happened.
#[test]
fn a_lost_worker_ends_the_log_with_an_error_after_what_it_had_said() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("w").await;
        let job = scheduler.client().await.submit("example");
        let given = worker.next().await;
        given.write("half of it\n");
        let (first, next) = read_at(&job.job, 0).await.unwrap();
        let mut seen = first;
        let mut next = next;
        while !seen.ends_with("half of it\n") {
            let (more, after) = read_at(&job.job, next).await.unwrap();
            seen.push_str(&more);
            next = after;
        }
        worker.vanish().await;
        let lost = "Disconnected: Connection closed (the scheduler lost the worker \"w\" while it ran this job)";
        assert_eq!(read_at(&job.job, next).await, Err(lost.to_owned()));
        assert_eq!(
            follow(&job.job).await,
            (
                "Building on w\nhalf of it\n".to_owned(),
                Some(lost.to_owned())
            )
        );
        assert_eq!(result(&job.job).await, Err(lost.to_owned()));
        // It is over: nothing is left to cancel, and nothing breaks.
        assert_eq!(cancel(&job.job).await, Ok(()));
    });
}
