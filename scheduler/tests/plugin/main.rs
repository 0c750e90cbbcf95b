//! What OCurrent's plugin depends on: its sequences of calls, played by a double of it, and its own tests under their names.
//!
//! Layout: `double` is the plugin; the stories are here. Each ends with all gauges of the plugin at zero.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod double;
#[path = "../support/mod.rs"]
mod support;

use std::rc::Rc;

use ocluster_api::cluster_capnp::o_builder;

use double::{Build, CANCELLED, Order, Plugin};
use support::client::describe;
use support::site::{Running, Site, show};
use support::worker::Traits;
use support::{POOL, eventually, story};

/// The sturdy ref of the plugin.
const CAP: &str = "submit-client.cap";

/// A Docker build.
fn docker(what: &'static str) -> Order {
    Order {
        pool: POOL,
        urgent: false,
        describe: Rc::new(move |mut descr| describe(&mut descr, what)),
    }
}

/// Waits until as many builds are in the stages: connect, rate-limit, get-ticket, get-worker.
async fn until_gauges(plugin: &Plugin, expected: [u32; 4]) {
    eventually(&format!("the gauges {expected:?}"), async || {
        (plugin.gauges() == expected).then_some(())
    })
    .await;
}

/// Waits until the pool's text has this in it.
async fn until_shown(scheduler: &Running, text: &str) {
    let pool = scheduler.pool_admin().await;
    eventually(text, async || {
        show(&pool).await.contains(text).then_some(())
    })
    .await;
}

const NO_GAUGES: [u32; 4] = [0; 4];

#[test]
fn plugin_simple() {
    story(async {
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut build = plugin.build(docker("example"));
        worker.next().await.succeed("");
        // Anything but an empty output would be taken for a bug of the scheduler.
        assert_eq!(build.ended().await, Ok(String::new()));
        assert_eq!(
            build.log(),
            "Waiting for worker…\nBuilding on worker-1\nJob succeeded\n"
        );
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}

#[test]
fn plugin_simple_custom() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut build = plugin.build(Order {
            describe: Rc::new(|descr| {
                let mut custom = descr.init_action().init_custom();
                custom.set_kind("obuilder");
                let mut payload: o_builder::Builder<'_> = custom.init_payload().init_as();
                payload.set_spec("((from busybox))");
            }),
            ..docker("")
        });
        let given = worker.next().await;
        assert_eq!(given.what, "obuilder:((from busybox))");
        given.succeed("");
        assert_eq!(build.ended().await, Ok(String::new()));
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}

#[test]
fn plugin_disconnect_while_queued() {
    story(async {
        // Given a job in the queue,
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut build = plugin.build(docker("example"));
        until_shown(&scheduler, "queue: (backlog) [client:").await;
        until_gauges(&plugin, [0, 0, 0, 1]).await;
        // when the connection breaks,
        plugin.lose_connection().await;
        // then it is submitted again, and runs.
        eventually("a second submission", async || {
            (plugin.submissions() == 2).then_some(())
        })
        .await;
        let mut worker = scheduler.worker("worker-1").await;
        worker.next().await.succeed("");
        assert_eq!(build.ended().await, Ok(String::new()));
        assert_eq!(plugin.connections(), 2);
        assert_eq!(plugin.gauges(), NO_GAUGES);
        // The first submission went with its connection.
        assert!(worker.given_now().is_none());
    });
}

#[test]
fn plugin_two_jobs() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut builds = [plugin.build(docker("one")), plugin.build(docker("two"))];
        until_gauges(&plugin, [0, 0, 0, 2]).await;
        let mut worker = scheduler.worker("worker-1").await;
        let first = worker.next().await;
        until_gauges(&plugin, [0, 0, 0, 1]).await;
        let started = usize::from(first.what == "two");
        builds[started].cancel();
        let other = worker.next().await;
        other.succeed("");
        assert_eq!(
            builds[started].ended().await,
            Err("Failed: Build cancelled".to_owned())
        );
        assert_eq!(builds[1 - started].ended().await, Ok(String::new()));
        assert_eq!(plugin.connections(), 1);
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}

#[test]
fn plugin_cancel_rate_limit() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let cap = scheduler.cap(CAP);
        // Given a plugin that may never submit, and finds nobody at the address it has,
        let mut nowhere = cap.clone();
        nowhere.address.location = ocluster_vat::Location::tcp("127.0.0.1", 1);
        let plugin = Plugin::with_max_pipeline(nowhere, 0);
        let mut connecting = plugin.build(docker("one"));
        until_gauges(&plugin, [1, 0, 0, 0]).await;
        // when builds are cancelled while it connects and while it waits for its turn,
        connecting.cancel();
        assert_eq!(connecting.ended().await, Err(CANCELLED.to_owned()));
        assert_eq!(plugin.gauges(), NO_GAUGES);
        plugin.moved_to(cap);
        let mut limited = plugin.build(docker("two"));
        until_gauges(&plugin, [0, 1, 0, 0]).await;
        limited.cancel();
        // then that is that, and the scheduler has never heard of them.
        assert_eq!(limited.ended().await, Err(CANCELLED.to_owned()));
        assert_eq!(plugin.submissions(), 0);
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}

#[test]
fn plugin_cancel_while_queued() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut build = plugin.build(docker("example"));
        until_gauges(&plugin, [0, 0, 0, 1]).await;
        build.cancel();
        let cancelled = Err("Failed: Ticket cancelled".to_owned());
        assert_eq!(build.ended().await, cancelled);
        assert_eq!(build.cancelled_by(), ["Ticket.cancel"]);
        assert_eq!(plugin.submissions(), 1, "a cancelled job came back");
        assert_eq!(plugin.gauges(), NO_GAUGES);
        until_shown(&scheduler, "queue: (backlog) []").await;
    });
}

#[test]
fn plugin_cancel_while_running() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut build = plugin.build(docker("example"));
        let given = worker.next().await;
        until_running(&plugin, &build).await;
        // The ticket is released by now, and that alone must not cancel anything.
        assert!(!given.build.is_over());
        build.cancel();
        let cancelled = Err("Failed: Build cancelled".to_owned());
        assert_eq!(build.ended().await, cancelled);
        assert_eq!(build.cancelled_by(), ["Job.cancel"]);
        assert_eq!(given.build.cancel_calls.get(), 1);
        assert!(build.log().ends_with("Job cancelled\n"), "{}", build.log());
    });
}

/// Waits until a build's job is on its worker, and the plugin knows.
async fn until_running(plugin: &Plugin, build: &Build) {
    eventually("the job runs", async || {
        let waited = build.log().contains("Waiting for worker…");
        (waited && plugin.gauges() == NO_GAUGES).then_some(())
    })
    .await;
}

#[test]
fn plugin_fails_what_a_healthy_scheduler_refuses() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut build = plugin.build(Order {
            pool: "elsewhere",
            ..docker("example")
        });
        let refused = "Failed: Pool ID \"elsewhere\" not one of {pool}";
        assert_eq!(build.ended().await, Err(refused.to_owned()));
        assert_eq!(plugin.submissions(), 1, "a refused job came back");
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}

#[test]
fn plugin_fails_the_queued_jobs_of_a_client_that_is_removed() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut build = plugin.build(docker("example"));
        until_gauges(&plugin, [0, 0, 0, 1]).await;
        let mut request = scheduler.admin().await.remove_client_request();
        request.get().set_id("client");
        request.send().promise.await.unwrap();
        let refused = Err("Failed: Access has been revoked".to_owned());
        assert_eq!(build.ended().await, refused);
        assert_eq!(plugin.submissions(), 1);
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}

#[test]
fn plugin_loses_a_build_with_its_worker() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let mut worker = scheduler.worker("worker-1").await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut build = plugin.build(docker("example"));
        let _given = worker.next().await;
        until_running(&plugin, &build).await;
        worker.vanish().await;
        let error = build.ended().await.unwrap_err();
        assert!(error.starts_with("Disconnected: "), "{error}");
        assert_eq!(plugin.submissions(), 1, "a lost build came back");
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}

#[test]
fn plugin_submits_again_when_the_scheduler_was_restarted() {
    story(async {
        let site = Site::with_tls();
        let scheduler = site.start().await;
        let plugin = Plugin::new(scheduler.cap(CAP));
        let mut builds = [plugin.build(docker("one")), plugin.build(docker("two"))];
        until_gauges(&plugin, [0, 0, 0, 2]).await;
        scheduler.stop().await;
        let scheduler = site.start().await;
        plugin.moved_to(scheduler.cap(CAP));
        let mut worker = scheduler
            .worker_with("worker-1", 2, Traits::default())
            .await;
        for _ in &builds {
            worker.next().await.succeed("");
        }
        for build in &mut builds {
            assert_eq!(build.ended().await, Ok(String::new()));
        }
        assert_eq!(plugin.submissions(), 4);
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}

#[test]
fn plugin_keeps_few_jobs_in_the_queue() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let plugin = Plugin::with_max_pipeline(scheduler.cap(CAP), 1);
        let urgent = Order {
            urgent: true,
            ..docker("urgent")
        };
        let mut builds = ["one", "two"].map(|what| plugin.build(docker(what)));
        let mut hurried = plugin.build(urgent);
        // One of each urgency is in the queue, the third waits for its turn.
        until_gauges(&plugin, [0, 1, 0, 2]).await;
        let mut worker = scheduler.worker("worker-1").await;
        let first = worker.next().await;
        assert_eq!(first.what, "urgent");
        first.succeed("");
        assert_eq!(hurried.ended().await, Ok(String::new()));
        // Its turn comes when the one before has a worker, not when that is done.
        let one = worker.next().await;
        until_gauges(&plugin, [0, 0, 0, 1]).await;
        one.succeed("");
        worker.next().await.succeed("");
        for build in &mut builds {
            assert_eq!(build.ended().await, Ok(String::new()));
        }
        assert_eq!(plugin.gauges(), NO_GAUGES);
    });
}
