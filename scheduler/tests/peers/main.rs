//! Bad input at the scheduler's port: peers that are not what they should be, or do not do what they should. Each story ends with
//! the same good worker and client that it began with, whose jobs have gone on all the while.
//!
//! Layout: `strange` holds the strange peers, `witness` the good ones.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod strange;
#[path = "../support/mod.rs"]
mod support;
mod witness;

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use capnp_rpc::rpc_capnp::message;
use ocluster_vat::{ServiceId, SturdyRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use strange::{bootstrap, call, last_word, read_to_end};
use support::client::{describe, result};
use support::site::{Site, show};
use support::{POOL, eventually, kind_and_reason, story};
use witness::Witness;

/// The largest time a peer may take here for what it never does.
const SHORT: Duration = Duration::from_millis(300);

// ---- at the door ----

#[test]
fn a_tls_peer_without_a_certificate_is_turned_away() {
    story(async {
        let mut witness = Witness::with(Site::with_tls()).await;
        let refused = strange::tls_without_certificate(witness.scheduler.socket()).await;
        assert!(refused.contains("CertificateRequired"), "{refused}");
        witness.is_unharmed().await;
    });
}

#[test]
fn a_plain_text_peer_at_a_tls_port_is_turned_away() {
    story(async {
        let mut witness = Witness::with(Site::with_tls()).await;
        let mut peer = TcpStream::connect(witness.scheduler.socket())
            .await
            .unwrap();
        let id = witness.scheduler.cap("admin.cap").id;
        peer.write_all(&bootstrap(0, &id)).await.unwrap();
        // At most a TLS alert comes back, and then the end.
        assert!(read_to_end(&mut peer).await.len() < 16);
        witness.is_unharmed().await;
    });
}

#[test]
fn a_tls_peer_at_a_plain_text_port_is_told_so() {
    story(async {
        let mut witness = Witness::with(Site::new()).await;
        let mut peer = TcpStream::connect(witness.scheduler.socket())
            .await
            .unwrap();
        let client_hello = [0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 1, 2, 3, 4, 5];
        peer.write_all(&client_hello).await.unwrap();
        let word = last_word(&mut peer).await;
        assert!(word.contains("the peer speaks TLS"), "{word}");
        witness.is_unharmed().await;
    });
}

#[test]
fn a_peer_that_never_finishes_its_handshake_is_dropped_in_time() {
    story(async {
        let site = Site::with(|config| {
            config.disable_tls = false;
            config.limits.handshake_timeout = SHORT;
        });
        let mut witness = Witness::with(site).await;
        let mut peers = Vec::new();
        for _ in 0..20 {
            let peer = TcpStream::connect(witness.scheduler.socket()).await;
            peers.push(peer.unwrap());
        }
        // One says a little, the others nothing.
        peers[0].write_all(&[0x16, 3, 1]).await.unwrap();
        for mut peer in peers {
            read_to_end(&mut peer).await;
        }
        witness.is_unharmed().await;
    });
}

#[test]
fn a_peer_that_presents_no_sturdy_ref_is_dropped_in_time() {
    story(async {
        let site = Site::with(|config| config.limits.before_sturdy_ref.deadline = SHORT);
        let mut witness = Witness::with(site).await;
        let mut peer = TcpStream::connect(witness.scheduler.socket())
            .await
            .unwrap();
        let word = last_word(&mut peer).await;
        assert!(word.contains("sturdy ref"), "{word}");
        witness.is_unharmed().await;
    });
}

// ---- before a valid sturdy ref ----

#[test]
fn garbage_ends_its_own_connection() {
    story(async {
        let mut witness = Witness::with(Site::new()).await;
        let sizes: &[&[u8]] = &[
            b"GET / HTTP/1.1\r\nHost: cluster\r\n\r\n",
            &[0xff; 64],
            // A frame of one segment that is no RPC message.
            &[
                0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
        ];
        for garbage in sizes {
            let mut peer = TcpStream::connect(witness.scheduler.socket())
                .await
                .unwrap();
            peer.write_all(garbage).await.unwrap();
            // It ends; what the last word is depends on what the garbage looks like.
            read_to_end(&mut peer).await;
        }
        witness.is_unharmed().await;
    });
}

#[test]
fn a_stranger_may_not_send_large_messages() {
    story(async {
        let mut witness = Witness::with(Site::new()).await;
        let mut peer = TcpStream::connect(witness.scheduler.socket())
            .await
            .unwrap();
        // One segment of a mebibyte, of which nothing follows.
        peer.write_all(&[0, 0, 0, 0, 0, 0, 2, 0]).await.unwrap();
        let word = last_word(&mut peer).await;
        assert_eq!(
            word,
            "Failed: message of 1048576 bytes is larger than the limit of 65536 bytes (max_message_bytes)"
        );
        witness.is_unharmed().await;
    });
}

#[test]
fn an_unknown_sturdy_ref_fails_its_calls_and_makes_nobody_known() {
    story(async {
        let site = Site::with(|config| config.limits.before_sturdy_ref.deadline = SHORT);
        let mut witness = Witness::with(site).await;
        let mut cap = witness.scheduler.cap("submit-client.cap");
        for id in [
            ServiceId::random().unwrap(),
            ServiceId::new(Vec::new()),
            ServiceId::new(cap.id.as_bytes()[1..].to_vec()),
            ServiceId::new(vec![7; 10_000]),
        ] {
            cap = SturdyRef::new(cap.address, id);
            let client = witness.scheduler.client_by(&cap).await;
            let job = client.submit("example");
            assert_eq!(
                result(&job.job).await,
                Err("Failed: Unknown persistent service ID".to_owned())
            );
            let reason = client.connection.closed().await;
            assert!(reason.as_str().contains("sturdy ref"), "{reason}");
        }
        witness.is_unharmed().await;
    });
}

// ---- with a valid sturdy ref ----

#[test]
fn a_message_larger_than_the_limit_ends_its_own_connection() {
    story(async {
        let site = Site::with(|config| config.limits.max_message_bytes = 1 << 20);
        let mut witness = Witness::with(site).await;
        let client = witness.scheduler.client().await;
        let job = client.submit("first");
        job.ticket.job_request().send().promise.await.unwrap();
        let huge = client.submit(&"x".repeat(2 << 20));
        let error = result(&huge.job).await.unwrap_err();
        assert!(error.starts_with("Disconnected: message of 2"), "{error}");
        assert!(
            error.ends_with("larger than the limit of 1048576 bytes (max_message_bytes)"),
            "{error}"
        );
        witness.is_unharmed().await;
    });
}

#[test]
fn unknown_methods_are_unimplemented_and_the_object_serves_on() {
    story(async {
        let mut witness = Witness::with(Site::new()).await;
        let pool = witness.scheduler.pool_admin().await;
        let admin = witness.scheduler.admin().await;
        let client = witness.scheduler.client().await;
        let ticket = client.submit("example").ticket;
        let objects: [capnp::capability::Client; 4] = [
            pool.clone().cast_to(),
            admin.cast_to(),
            client.submission.clone().cast_to(),
            ticket.clone().cast_to(),
        ];
        for object in &objects {
            let unknown = |interface, method| {
                let call = object.new_call::<capnp::any_pointer::Owned, capnp::any_pointer::Owned>(
                    interface, method, None,
                );
                call.send().promise
            };
            use capnp::traits::HasTypeId as _;
            let queue = ocluster_api::cluster_capnp::queue::Client::TYPE_ID;
            for (interface, method) in [(0xdead_beef_dead_beef, 0), (queue, 0), (queue, 99)] {
                let error = unknown(interface, method).await.err().unwrap();
                let error = kind_and_reason(error);
                assert!(error.starts_with("Unimplemented: "), "{error}");
            }
        }
        assert!(show(&pool).await.starts_with("capacity: "));
        ticket.job_request().send().promise.await.unwrap();
        witness.is_unharmed().await;
    });
}

/// A client that asks and asks and never hears an answer, because there is none yet.
#[test]
fn more_calls_in_flight_than_the_limit_end_their_own_connection() {
    story(async {
        let site = Site::with(|config| config.limits.max_calls_in_flight = 1000);
        let mut witness = Witness::with(site).await;
        let client = witness.scheduler.client().await;
        let job = client.submit("endless");
        let given = witness.next("endless").await;
        support::client::read_at(&job.job, 0).await.unwrap();
        let asked: Vec<_> = (0..1100).map(|_| result(&job.job)).collect();
        for outcome in asked {
            assert_eq!(
                outcome.await,
                Err(
                    "Disconnected: more than 1000 calls in flight (max_calls_in_flight)".to_owned()
                )
            );
        }
        given.build.cancelled.cancelled().await;
        witness.is_unharmed().await;
    });
}

/// A client that asks and asks, and reads none of the answers: the scheduler stops reading its questions.
#[test]
fn a_flood_of_calls_whose_answers_are_not_read_is_not_listened_to() {
    story(async {
        let site = Site::with(|config| {
            // So that every answer of `Admin.pools` is large.
            let names = (0..1000).map(|number| format!("{number:0100}"));
            let policy = ocluster_scheduling::Policy::default();
            config.pools.extend(names.map(|name| (name, policy)));
            config.limits.outgoing_high_water = 1 << 20;
        });
        let mut witness = Witness::with(site).await;
        let id = witness.scheduler.cap("admin.cap").id;
        let mut peer = TcpStream::connect(witness.scheduler.socket())
            .await
            .unwrap();
        peer.write_all(&bootstrap(0, &id)).await.unwrap();
        strange::read_message(&mut peer).await.unwrap();
        let sent = Rc::new(Cell::new(0_u32));
        let counter = sent.clone();
        let flood = tokio::task::spawn_local(async move {
            loop {
                let question = counter.get() + 1;
                if peer.write_all(&call(question, 0)).await.is_err() {
                    return;
                }
                counter.set(question);
            }
        });
        // It stands still when nothing more was taken while others got fifty answers.
        let pool = witness.scheduler.pool_admin().await;
        loop {
            let before = sent.get();
            for _ in 0..50 {
                show(&pool).await;
            }
            if before > 0 && sent.get() == before {
                break;
            }
        }
        assert!(!flood.is_finished(), "the connection was closed");
        witness.is_unharmed().await;
        flood.abort();
    });
}

/// Answers pile up until the limit; then the connection goes, with what waited for it.
#[test]
fn a_peer_that_lets_its_answers_pile_up_is_dropped() {
    story(async {
        let site = Site::with(|config| {
            config.limits.outgoing_high_water = 1 << 20;
            config.limits.max_outgoing_bytes = 2 << 20;
            config.limits.close_timeout = SHORT;
        });
        let mut witness = Witness::with(site).await;
        let hoarder = witness.scheduler.client().await;
        let job = hoarder.submit("talkative");
        let given = witness.next("talkative").await;
        let line = format!("{}\n", "x".repeat(128 * 1024 - 1));
        given.write(&line);
        given.succeed("");
        given.build.released.cancelled().await;
        // A hundred followers on one connection want the same 128 KiB at once: more than may wait.
        let followers: Vec<_> = (0..100)
            .map(|_| support::client::read_at(&job.job, 0))
            .collect();
        let mut lost = 0;
        for follower in followers {
            if let Err(error) = follower.await {
                assert!(error.starts_with("Disconnected: "), "{error}");
                assert!(error.contains("max_outgoing_bytes"), "{error}");
                lost += 1;
            }
        }
        assert!(lost > 0, "nothing was too much");
        witness.is_unharmed().await;
    });
}

/// What a job's description holds beyond our schema, or instead of it, is the worker's business.
#[test]
fn a_job_that_says_nothing_is_passed_on() {
    story(async {
        let mut witness = Witness::with(Site::new()).await;
        let client = witness.scheduler.client().await;
        let empty = client.submit_to(POOL, |_| {});
        let given = witness.next("").await;
        given.fail("nothing to build\n");
        assert_eq!(
            result(&empty.job).await,
            Err("Failed: Build failed".to_owned())
        );
        let odd = client.submit_to(POOL, |mut descr| {
            describe(&mut descr, "odd");
            descr.set_cache_hint("a hint\nwith \"everything\" \u{1F980}");
        });
        witness.next("odd").await.succeed("");
        assert_eq!(result(&odd.job).await, Ok(String::new()));
        witness.is_unharmed().await;
    });
}

#[test]
fn too_many_strangers_do_not_keep_out_those_who_are_known() {
    story(async {
        let site = Site::with(|config| {
            config.limits.before_sturdy_ref.max_connections_per_ip = 8;
        });
        let mut witness = Witness::with(site).await;
        let mut strangers = Vec::new();
        for _ in 0..8 {
            let peer = TcpStream::connect(witness.scheduler.socket()).await;
            strangers.push(peer.unwrap());
        }
        let mut one_too_many = TcpStream::connect(witness.scheduler.socket())
            .await
            .unwrap();
        read_to_end(&mut one_too_many).await;
        // The witness' connections count no longer.
        witness.is_unharmed().await;
        drop(strangers);
        eventually("there is room again", async || {
            let mut peer = TcpStream::connect(witness.scheduler.socket())
                .await
                .unwrap();
            let id = witness.scheduler.cap("admin.cap").id;
            peer.write_all(&bootstrap(0, &id)).await.ok()?;
            strange::read_message(&mut peer).await
        })
        .await;
    });
}

/// The first message after a valid sturdy ref that breaks the protocol.
#[test]
fn an_answer_to_a_question_nobody_asked_ends_its_own_connection() {
    story(async {
        let mut witness = Witness::with(Site::new()).await;
        let id = witness.scheduler.cap("admin.cap").id;
        let mut peer = TcpStream::connect(witness.scheduler.socket())
            .await
            .unwrap();
        peer.write_all(&bootstrap(0, &id)).await.unwrap();
        strange::read_message(&mut peer).await.unwrap();
        let mut message = capnp::message::Builder::new_default();
        let mut answer = message.init_root::<message::Builder<'_>>().init_return();
        answer.set_answer_id(77);
        answer.init_results();
        let bytes = capnp::serialize::write_message_to_words(&message);
        peer.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        peer.read_to_end(&mut rest).await.unwrap();
        witness.is_unharmed().await;
    });
}
