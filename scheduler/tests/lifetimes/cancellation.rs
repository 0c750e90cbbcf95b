//! The table of what cancels a job, row by row: where the job is, and what its client does with the ticket and the job.
//!
//! Whether something *did not* cancel a job shows when the job then ends by itself.

use crate::support::client::{Submitted, cancel, cancel_ticket, read_at, result};
use crate::support::site::{Running, Site, show};
use crate::support::worker::{FakeWorker, Given};
use crate::support::{POOL, eventually, story};

use super::logs::arrived;

/// A job on a worker, with its client.
struct Scene {
    scheduler: Running,
    worker: FakeWorker,
    client: crate::support::client::Client,
    _site: Site,
}

impl Scene {
    async fn new() -> Self {
        // Upstream's policy makes a job wait for the worker that has its cache, busy or not.
        let site = Site::with(|config| {
            config.pools = vec![(POOL.to_owned(), ocluster_scheduling::Policy::Upstream)];
        });
        let scheduler = site.start().await;
        Self {
            worker: scheduler.worker("w").await,
            client: scheduler.client().await,
            scheduler,
            _site: site,
        }
    }

    async fn run(&mut self, what: &str) -> (Submitted, Given) {
        let job = self.client.submit(what);
        (job, self.worker.next().await)
    }

    /// A job on the worker, and another in the worker's own queue, because its cache is there.
    async fn queue_at_worker(&mut self) -> Waiting {
        let running = self.client.submit_urgently("running", "hint");
        let given = self.worker.next().await;
        let waiting = self.client.submit_urgently("waiting", "hint");
        // Another worker asks, and is passed over. The worker's own queue shows behind its name.
        let other = self.scheduler.worker("other").await;
        self.pool_shows("w (10): [client:hint@").await;
        Waiting {
            running,
            given,
            waiting,
            other,
        }
    }

    async fn pool_shows(&self, text: &str) {
        let pool = self.scheduler.pool_admin().await;
        eventually(&format!("the pool shows {text:?}"), async || {
            show(&pool).await.contains(text).then_some(())
        })
        .await;
    }
}

/// A job that waits at a worker.
struct Waiting {
    running: Submitted,
    given: Given,
    waiting: Submitted,
    other: FakeWorker,
}

impl Waiting {
    /// After the waiting job was cancelled: nobody is given anything when the worker is free again.
    async fn gone_from(mut self, scene: &mut Scene) {
        scene.pool_shows("w (0): [] (1 running)").await;
        self.given.succeed("");
        assert_eq!(result(&self.running.job).await, Ok(String::new()));
        scene.pool_shows("queue: (ready) [w other]").await;
        assert!(scene.worker.given_now().is_none());
        assert!(self.other.given_now().is_none());
    }
}

fn failed<T>(reason: &str) -> Result<T, String> {
    Err(format!("Failed: {reason}"))
}

// ---- queued, with no worker in sight ----

#[test]
fn cancelling_the_ticket_of_a_queued_job_takes_it_from_the_queue() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let job = client.submit("cancelled");
        let after = client.submit("after");
        let outcome = result(&job.job);
        assert_eq!(cancel_ticket(&job.ticket).await, Ok(()));
        assert_eq!(outcome.await, failed("Ticket cancelled"));
        let mut worker = scheduler.worker("w").await;
        let given = worker.next().await;
        assert_eq!(given.what, "after", "a cancelled job was given out");
        given.succeed("");
        assert_eq!(result(&after.job).await, Ok(String::new()));
    });
}

#[test]
fn releasing_the_ticket_of_a_queued_job_takes_it_from_the_queue_though_the_job_is_held() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let Submitted { ticket, job } = client.submit("released");
        let outcome = result(&job);
        drop(ticket);
        assert_eq!(outcome.await, failed("Ticket released (cancelled)"));
        let after = client.submit("after");
        let mut worker = scheduler.worker("w").await;
        assert_eq!(worker.next().await.what, "after");
        drop(after);
    });
}

#[test]
fn releasing_the_job_alone_leaves_it_queued() {
    story(async {
        let mut scene = Scene::new().await;
        scene.worker.set_active(false).await;
        let Submitted { ticket, job } = scene.client.submit("kept by its ticket");
        drop(job);
        arrived(&ticket).await;
        let again = ticket.job_request().send().pipeline.get_job();
        let outcome = result(&again);
        scene.worker.set_active(true).await;
        let given = scene.worker.next().await;
        assert_eq!(given.what, "kept by its ticket");
        given.succeed("out");
        assert_eq!(outcome.await, Ok("out".to_owned()));
        assert_eq!(given.build.cancel_calls.get(), 0);
    });
}

#[test]
fn cancelling_a_job_that_is_queued_waits_for_its_worker() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        let cancelled = job.job.cancel_request().send().promise;
        arrived(&job.ticket).await;
        let mut worker = scheduler.worker("w").await;
        let given = worker.next().await;
        given.build.cancelled.cancelled().await;
        cancelled.await.unwrap();
        assert_eq!(result(&job.job).await, failed("Build cancelled"));
    });
}

// ---- queued at a worker ----

#[test]
fn cancelling_the_ticket_of_a_job_that_waits_at_a_worker_takes_it_from_there() {
    story(async {
        let mut scene = Scene::new().await;
        let at_worker = scene.queue_at_worker().await;
        let outcome = result(&at_worker.waiting.job);
        assert_eq!(cancel_ticket(&at_worker.waiting.ticket).await, Ok(()));
        assert_eq!(outcome.await, failed("Ticket cancelled"));
        at_worker.gone_from(&mut scene).await;
    });
}

#[test]
fn releasing_the_ticket_of_a_job_that_waits_at_a_worker_takes_it_from_there() {
    story(async {
        let mut scene = Scene::new().await;
        let mut at_worker = scene.queue_at_worker().await;
        let outcome = result(&at_worker.waiting.job);
        // Something else takes the place of the ticket and the job.
        at_worker.waiting = scene.client.submit_to("nowhere", |_| {});
        assert_eq!(outcome.await, failed("Ticket released (cancelled)"));
        at_worker.gone_from(&mut scene).await;
    });
}

// ---- running ----

#[test]
fn cancelling_the_ticket_of_a_running_job_cancels_it_on_the_worker() {
    story(async {
        let mut scene = Scene::new().await;
        let (job, given) = scene.run("example").await;
        assert_eq!(cancel_ticket(&job.ticket).await, Ok(()));
        given.build.cancelled.cancelled().await;
        assert_eq!(result(&job.job).await, failed("Build cancelled"));
    });
}

#[test]
fn releasing_the_ticket_of_a_running_job_does_nothing_while_the_job_is_held() {
    story(async {
        let mut scene = Scene::new().await;
        let (Submitted { ticket, job }, given) = scene.run("example").await;
        // Wait for the job to be ours before the ticket goes.
        read_at(&job, 0).await.unwrap();
        drop(ticket);
        read_at(&job, -1).await.unwrap();
        assert!(!given.build.cancelled.is_cancelled());
        given.succeed("done");
        assert_eq!(result(&job).await, Ok("done".to_owned()));
        assert_eq!(given.build.cancel_calls.get(), 0);
    });
}

#[test]
fn releasing_the_job_does_nothing_while_the_ticket_is_held() {
    story(async {
        let mut scene = Scene::new().await;
        let (Submitted { ticket, job }, given) = scene.run("example").await;
        read_at(&job, 0).await.unwrap();
        drop(job);
        let again = ticket.job_request().send().pipeline.get_job();
        read_at(&again, -1).await.unwrap();
        given.succeed("done");
        assert_eq!(result(&again).await, Ok("done".to_owned()));
        assert_eq!(given.build.cancel_calls.get(), 0);
    });
}

#[test]
fn releasing_both_of_a_running_job_cancels_it() {
    story(async {
        let mut scene = Scene::new().await;
        let (Submitted { ticket, job }, given) = scene.run("example").await;
        read_at(&job, 0).await.unwrap();
        drop(ticket);
        drop(job);
        given.build.cancelled.cancelled().await;
    });
}

/// As a client does that never asks for the job.
#[test]
fn a_running_job_whose_ticket_alone_exists_goes_with_the_ticket() {
    story(async {
        let mut scene = Scene::new().await;
        let mut request = scene.client.submission.submit_request();
        request.get().set_pool(POOL);
        crate::support::client::describe(&mut request.get().init_descr(), "example");
        let ticket = request.send().pipeline.get_ticket();
        let given = scene.worker.next().await;
        assert!(!given.build.cancelled.is_cancelled());
        drop(ticket);
        given.build.cancelled.cancelled().await;
    });
}

#[test]
fn cancelling_the_job_twice_tells_the_worker_once() {
    story(async {
        let mut scene = Scene::new().await;
        let (job, given) = scene.run("example").await;
        assert_eq!(cancel(&job.job).await, Ok(()));
        assert_eq!(cancel(&job.job).await, Ok(()));
        assert_eq!(result(&job.job).await, failed("Build cancelled"));
        drop(job);
        given.build.released.cancelled().await;
        assert_eq!(given.build.cancel_calls.get(), 1);
    });
}

/// The references that the scheduler holds for its own use do not keep a job alive, and the job's end lets go of the worker's job.
#[test]
fn the_job_of_the_worker_is_released_when_the_job_is_over() {
    story(async {
        let mut scene = Scene::new().await;
        let (job, given) = scene.run("example").await;
        given.succeed("done");
        given.build.released.cancelled().await;
        assert_eq!(given.build.result_calls.get(), 1);
        // Log and result are served from the scheduler's own copy.
        assert_eq!(result(&job.job).await, Ok("done".to_owned()));
        assert_eq!(read_at(&job.job, -4).await.unwrap().0, "ded\n");
    });
}

#[test]
fn cancelling_a_job_that_is_over_changes_nothing() {
    story(async {
        let mut scene = Scene::new().await;
        let (job, given) = scene.run("example").await;
        given.succeed("done");
        assert_eq!(result(&job.job).await, Ok("done".to_owned()));
        assert_eq!(cancel(&job.job).await, Ok(()));
        assert_eq!(cancel_ticket(&job.ticket).await, Ok(()));
        assert_eq!(result(&job.job).await, Ok("done".to_owned()));
        assert_eq!(given.build.cancel_calls.get(), 0);
    });
}

// ---- cancelled already ----

#[test]
fn a_ticket_that_was_cancelled_cannot_be_cancelled_again() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let client = scheduler.client().await;
        let job = client.submit("example");
        assert_eq!(cancel_ticket(&job.ticket).await, Ok(()));
        assert_eq!(cancel_ticket(&job.ticket).await, failed("Ticket cancelled"));
        assert_eq!(cancel(&job.job).await, failed("Ticket cancelled"));
        let again = job.ticket.job_request().send().pipeline.get_job();
        assert_eq!(result(&again).await, failed("Ticket cancelled"));
    });
}

// ---- the client is gone ----

#[test]
fn a_client_that_is_gone_takes_its_queued_and_its_running_jobs_along() {
    story(async {
        let mut scene = Scene::new().await;
        let (_running, given) = scene.run("running").await;
        let _queued = scene.client.submit("queued");
        scene.pool_shows("[client:(no cache hint)@").await;
        scene.client.connection.disconnect("Connection closed");
        given.build.cancelled.cancelled().await;
        scene.pool_shows("queue: (ready) [w]").await;
        let client = scene.scheduler.client().await;
        let _next = client.submit("next");
        assert_eq!(scene.worker.next().await.what, "next");
    });
}
