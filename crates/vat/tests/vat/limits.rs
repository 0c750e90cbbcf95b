//! Each limit: the peer that breaks it is told which and loses its connection; nobody else does.

use std::rc::Rc;
use std::time::Duration;

use capnp::capability::Client;
use ocluster_vat::{Limits, StrangerLimits};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::raw::*;
use crate::support::*;

fn strangers(limits: StrangerLimits) -> Limits {
    Limits {
        before_sturdy_ref: limits,
        ..Limits::default()
    }
}

/// A raw peer which has presented a valid sturdy ref, as question 0.
async fn known_peer(limits: Limits) -> (RawPeer, ocluster_vat::Connection, Rc<Thing>) {
    let thing = Thing::named("a");
    let known = Known::default();
    known.add(b"a", thing.client());
    let (mut peer, connection) = raw_client(Rc::new(known), limits);
    peer.bootstrap(0, b"a").await;
    assert_eq!(
        describe(&peer.receive().await.unwrap()),
        "return 0 results [hosted 1]"
    );
    (peer, connection, thing)
}

#[test]
fn a_message_over_the_limit() {
    vat_test(async {
        let limits = Limits {
            max_message_bytes: 100_000,
            ..Limits::default()
        };
        let (mut peer, connection, _) = known_peer(limits).await;
        peer.call(1, 0, ECHO, &"x".repeat(90_000)).await;
        assert!(describe(&peer.receive().await.unwrap()).starts_with("return 1"));
        peer.call(2, 0, ECHO, &"x".repeat(110_000)).await;
        let reason = peer.abort_reason().await.unwrap();
        assert!(reason.contains("(max_message_bytes)"), "{reason}");
        let closed = connection.closed().await;
        assert!(closed.as_str().contains("100000 bytes"), "{closed}");
    });
}

#[test]
fn a_huge_message_is_refused_before_it_comes() {
    vat_test(async {
        let (mut peer, _connection, _) = known_peer(Limits::default()).await;
        // One segment of 32 GiB: no more than its announcement is ever sent.
        peer.send_bytes(&[0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]).await;
        let reason = peer.abort_reason().await.unwrap();
        assert!(reason.contains("34359738360 bytes"), "{reason}");
    });
}

#[test]
fn a_stranger_may_send_small_messages_only() {
    vat_test(async {
        let (mut peer, _connection) = raw_client(Rc::new(Known::with(&[b"a"])), Limits::default());
        peer.bootstrap(0, &[b'x'; 70_000]).await;
        let reason = peer.abort_reason().await.unwrap();
        assert!(reason.contains("limit of 65536 bytes"), "{reason}");
    });
}

#[test]
fn a_large_message_on_a_wrong_sturdy_ref_is_still_too_large() {
    vat_test(async {
        let known = Known {
            delay: Duration::from_millis(20),
            ..Known::default()
        };
        let (mut peer, _connection) = raw_client(Rc::new(known), Limits::default());
        peer.bootstrap(0, b"wrong").await;
        peer.call(1, 0, ECHO, &"x".repeat(70_000)).await;
        let answer = describe(&peer.receive().await.unwrap());
        assert_eq!(answer, "return 0 Failed: Unknown persistent service ID");
        let reason = peer.abort_reason().await.unwrap();
        assert!(reason.contains("limit of 65536 bytes"), "{reason}");
    });
}

#[test]
fn too_many_calls_in_flight() {
    vat_test(async {
        let limits = Limits {
            max_calls_in_flight: 10,
            ..Limits::default()
        };
        let (mut peer, _connection, thing) = known_peer(limits).await;
        for question in 1..=9 {
            peer.call(question, 0, HANG, "").await;
        }
        until("nine calls hang", || thing.hanging.get() == 9).await;
        peer.call(10, 0, HANG, "").await;
        let reason = peer.abort_reason().await.unwrap();
        assert_eq!(reason, "more than 10 calls in flight (max_calls_in_flight)");
        until("no handler is left", || thing.hanging.get() == 0).await;
    });
}

#[test]
fn finished_calls_do_not_count() {
    vat_test(async {
        let limits = Limits {
            max_calls_in_flight: 3,
            ..Limits::default()
        };
        let (mut peer, connection, _) = known_peer(limits).await;
        for question in 1..100 {
            peer.call(question, 0, FRESH, "").await;
            peer.receive().await.unwrap();
            peer.finish(question, true).await;
        }
        peer.call(100, 0, ECHO, "").await;
        assert!(describe(&peer.receive().await.unwrap()).starts_with("return 100"));
        assert_eq!(connection.exports_held(), 1, "the object itself");
    });
}

#[test]
fn a_stranger_may_have_few_calls_in_flight() {
    vat_test(async {
        let known = Known {
            delay: Duration::from_secs(60),
            ..Known::default()
        };
        let (mut peer, _connection) = raw_client(Rc::new(known), Limits::default());
        for question in 0..65 {
            peer.bootstrap(question, b"guess").await;
        }
        let reason = peer.abort_reason().await.unwrap();
        assert_eq!(reason, "more than 64 calls in flight (max_calls_in_flight)");
    });
}

#[test]
fn calls_begun_and_withdrawn_without_end() {
    vat_test(async {
        let limits = Limits {
            max_withdrawn_calls: 20,
            ..Limits::default()
        };
        let (mut peer, _connection, _) = known_peer(limits).await;
        for question in 1..=21 {
            peer.call(question, 0, HANG, "").await;
            peer.finish(question, true).await;
        }
        let reason = peer.abort_reason().await.unwrap();
        assert!(reason.contains("(max_withdrawn_calls)"), "{reason}");
    });
}

#[test]
fn too_many_bytes_in_flight() {
    vat_test(async {
        let limits = Limits {
            max_bytes_in_flight: 300_000,
            ..Limits::default()
        };
        let (mut peer, _connection, thing) = known_peer(limits).await;
        let big = "x".repeat(100_000);
        // Answered calls give their bytes back; those that hang keep them.
        for question in 1..=20 {
            peer.call(question, 0, ECHO, &big).await;
            assert!(describe(&peer.receive().await.unwrap()).starts_with("return"));
            peer.finish(question, true).await;
        }
        for question in 21..=23 {
            peer.call(question, 0, HANG, &big).await;
        }
        let reason = peer.abort_reason().await.unwrap();
        assert!(reason.contains("(max_bytes_in_flight)"), "{reason}");
        until("no handler is left", || thing.hanging.get() == 0).await;
    });
}

#[test]
fn a_strangers_bytes_in_flight() {
    vat_test(async {
        let known = Known {
            delay: Duration::from_secs(60),
            ..Known::default()
        };
        let (mut peer, _connection) = raw_client(Rc::new(known), Limits::default());
        for question in 0..6 {
            peer.bootstrap(question, &[b'x'; 60_000]).await;
        }
        let reason = peer.abort_reason().await.unwrap();
        assert!(
            reason.contains("262144 bytes") && reason.contains("(max_bytes_in_flight)"),
            "{reason}"
        );
    });
}

#[test]
fn too_many_capabilities_held() {
    vat_test(async {
        let limits = Limits {
            max_exports: 10,
            ..Limits::default()
        };
        let (mut peer, connection, _) = known_peer(limits).await;
        for question in 1..=9 {
            peer.call(question, 0, FRESH, "").await;
            peer.receive().await.unwrap();
            peer.finish(question, false).await;
        }
        until("the books are right", || connection.exports_held() == 10).await;
        peer.send(|root| {
            let mut release = root.init_release();
            release.set_id(2);
            release.set_reference_count(1);
        })
        .await;
        until("one is given back", || connection.exports_held() == 9).await;
        peer.call(10, 0, FRESH, "").await;
        peer.receive().await.unwrap();
        peer.call(11, 0, FRESH, "").await;
        let reason = peer.abort_reason().await.unwrap();
        assert_eq!(reason, "more than 10 capabilities held (max_exports)");
    });
}

#[test]
fn a_flood_of_calls_without_reading_is_stopped_and_ended() {
    vat_test(async {
        let limits = Limits {
            outgoing_high_water: 1_000_000,
            max_outgoing_bytes: 4_000_000,
            close_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let known = Known::with(&[b"a"]);
        let (one, stream) = tokio::io::duplex(4096);
        let mut options = ocluster_vat::ConnectionOptions::accepted(Rc::new(known));
        options.limits = limits;
        let peer = ocluster_vat::PeerInfo::local("flood", ocluster_vat::Digest::Insecure);
        let connection = ocluster_vat::Connection::from_stream(one, peer, options);
        let mut peer = RawPeer { stream };
        peer.bootstrap(0, b"a").await;
        // Each call asks for 600 kB and no answer is ever read. Reading stops at the high water.
        let flood = async {
            for question in 1..100 {
                peer.call(question, 0, BYTES, "600000").await;
            }
        };
        let flooded = tokio::time::timeout(Duration::from_millis(300), flood).await;
        let calls = connection.calls_in_flight();
        assert!(flooded.is_err() || calls < 99, "{calls} calls were taken");
        assert!(!connection.is_closed() || calls < 99);
        drop(peer);
        connection.closed().await;
    });
}

#[test]
fn answers_beyond_the_hard_cap_end_the_connection() {
    vat_test(async {
        let limits = Limits {
            max_outgoing_bytes: 1_000_000,
            close_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let known = Known::with(&[b"a"]);
        let (one, stream) = tokio::io::duplex(4096);
        let mut options = ocluster_vat::ConnectionOptions::accepted(Rc::new(known));
        options.limits = limits;
        let peer = ocluster_vat::PeerInfo::local("greedy", ocluster_vat::Digest::Insecure);
        let connection = ocluster_vat::Connection::from_stream(one, peer, options);
        let mut peer = RawPeer { stream };
        peer.bootstrap(0, b"a").await;
        peer.call(1, 0, BYTES, "2000000").await;
        let reason = connection.closed().await;
        assert!(reason.as_str().contains("(max_outgoing_bytes)"), "{reason}");
    });
}

#[test]
fn a_stranger_must_present_a_sturdy_ref_in_time() {
    vat_test(async {
        let limits = strangers(StrangerLimits {
            deadline: Duration::from_millis(100),
            ..StrangerLimits::default()
        });
        let server = serve_tls(Known::with(&[b"a"]), limits);
        let (idle, good) = (server.dial().await, server.dial().await);
        let object: Client = good.bootstrap(&id("a"));
        echo(&object, "x").await.unwrap();
        let reason = idle.closed().await;
        assert_eq!(
            reason.as_str(),
            "no valid sturdy ref presented within 0.1 s (deadline)"
        );
        assert_eq!(echo(&object, "y").await.unwrap(), "a:y");
    });
}

#[test]
fn a_handshake_must_finish_in_time() {
    vat_test(async {
        let limits = Limits {
            handshake_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let server = serve_tls(Known::with(&[b"a"]), limits);
        let mut silent = TcpStream::connect(("127.0.0.1", server.port()))
            .await
            .unwrap();
        let object: Client = server.dial().await.bootstrap(&id("a"));
        let mut rest = Vec::new();
        silent.read_to_end(&mut rest).await.unwrap();
        assert!(rest.is_empty());
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
    });
}

#[test]
fn too_many_strangers_from_one_address_are_turned_away() {
    vat_test(async {
        let few = StrangerLimits {
            max_connections_per_ip: 2,
            ..StrangerLimits::default()
        };
        let server = serve_plain(Known::with(&[b"a"]), strangers(few));
        let (first, second) = (server.dial().await, server.dial().await);
        until("both are in", || server.stats.connections() == 2).await;
        let third = server.dial().await;
        let object: Client = third.bootstrap(&id("a"));
        assert!(echo(&object, "x").await.unwrap_err().is_disconnected());
        // One that presents a valid sturdy ref makes room for another.
        let object: Client = first.bootstrap(&id("a"));
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
        let another: Client = server.dial().await.bootstrap(&id("a"));
        assert_eq!(echo(&another, "x").await.unwrap(), "a:x");
        assert!(!second.is_closed());
    });
}

#[test]
fn too_many_strangers_in_all_wait_for_each_other() {
    vat_test(async {
        let few = StrangerLimits {
            max_connections: 2,
            ..StrangerLimits::default()
        };
        let server = serve_plain(Known::with(&[b"a"]), strangers(few));
        let (first, second) = (server.dial().await, server.dial().await);
        until("both are in", || server.stats.connections() == 2).await;
        let third = server.dial().await;
        let fourth = server.dial().await;
        let third: Client = third.bootstrap(&id("a"));
        let mut waiting = Box::pin(echo(&third, "x"));
        // The first two are served meanwhile, and each that presents a valid sturdy ref, or goes, makes room for another.
        assert!(futures::poll!(&mut waiting).is_pending());
        let object: Client = first.bootstrap(&id("a"));
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
        assert_eq!(waiting.await.unwrap(), "a:x");
        second.disconnect("enough");
        let fourth: Client = fourth.bootstrap(&id("a"));
        assert_eq!(echo(&fourth, "x").await.unwrap(), "a:x");
    });
}
