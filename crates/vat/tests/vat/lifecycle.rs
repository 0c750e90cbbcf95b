//! How connections end: on purpose, by accident, by a panic, by silence.

use std::rc::Rc;
use std::time::Duration;

use capnp::capability::Client;
use ocluster_vat::{
    Connection, ConnectionOptions, Digest, Limits, PeerInfo, RpcError, ping, watch,
};
use tokio::time::Instant;

use crate::support::*;

#[test]
fn a_goodbye_reaches_the_peer_and_breaks_what_is_pending() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        let connection = server.dial().await;
        let object: Client = connection.bootstrap(&id("a"));
        echo(&object, "x").await.unwrap();
        let pending = tokio::task::spawn_local(start(&object, HANG, "").promise);
        tokio::task::yield_now().await;
        server.stop.cancel();
        let error = RpcError::from(pending.await.unwrap().err().unwrap());
        assert_eq!(error.to_string(), "Disconnected: Vat shut down");
        assert_eq!(connection.closed().await.as_str(), "Vat shut down");
        assert!(connection.is_closed());
        server.done.await.unwrap();
        let late = echo(&object, "x").await.unwrap_err();
        assert!(late.is_disconnected());
    });
}

#[test]
fn what_was_answered_before_a_goodbye_still_arrives() {
    vat_test(async {
        let (client, server) = pipe(Rc::new(Known::with(&[b"a"])), Limits::default());
        let object: Client = client.bootstrap(&id("a"));
        let answer = start(&object, BYTES, "1000000");
        until("the call is being answered", || {
            server.calls_in_flight() > 0
        })
        .await;
        tokio::task::yield_now().await;
        until("it is answered", || server.calls_in_flight() <= 1).await;
        server.disconnect("done");
        let size = answer.promise.await.unwrap();
        let data = size.get().unwrap().get_as::<capnp::data::Reader<'_>>();
        assert_eq!(data.unwrap().len(), 1_000_000);
        assert_eq!(client.closed().await.as_str(), "done");
    });
}

#[test]
fn a_peer_that_vanishes_breaks_calls_as_disconnected() {
    vat_test(async {
        let (one, other) = tokio::io::duplex(4096);
        let peer = PeerInfo::local("vanishing", Digest::Insecure);
        let connection = Connection::from_stream(one, peer, ConnectionOptions::dialled());
        let object: Client = connection.bootstrap(&id("a"));
        let call = start(&object, ECHO, "x");
        drop(other);
        let error = RpcError::from(call.promise.await.err().unwrap());
        assert!(error.is_disconnected(), "{error}");
        assert!(ping(&object).await.unwrap_err().is_disconnected());
        connection.closed().await;
    });
}

#[test]
fn a_panic_ends_its_own_connection_only() {
    vat_test(async {
        let thing = Thing::named("shared");
        let known = Known::default();
        known.add(b"a", thing.client());
        let server = serve_tls(known, Limits::default());
        let (good, bad) = (server.dial().await, server.dial().await);
        let good_object: Client = good.bootstrap(&id("a"));
        let bad_object: Client = bad.bootstrap(&id("a"));
        echo(&good_object, "x").await.unwrap();
        // The server waits for something from the bad peer, too; it must learn of the end.
        call_with(&bad_object, KEEP, Thing::named("callback").client())
            .await
            .unwrap();
        let callback = thing.kept.borrow_mut().pop().unwrap();
        let waiting = tokio::task::spawn_local(start(&callback, HANG, "").promise);

        let error = RpcError::from(call(&bad_object, PANIC, "").await.err().unwrap());
        assert!(error.is_disconnected(), "{error}");
        assert_eq!(bad.closed().await.as_str(), "Internal error");
        let error = RpcError::from(waiting.await.unwrap().err().unwrap());
        assert!(error.is_disconnected(), "{error}");

        assert_eq!(echo(&good_object, "still").await.unwrap(), "sharedstill");
        let another: Client = server.dial().await.bootstrap(&id("a"));
        assert_eq!(echo(&another, "here").await.unwrap(), "sharedhere");
    });
}

#[test]
fn a_withdrawn_call_stops_its_handler() {
    vat_test(async {
        let thing = Thing::named("a");
        let known = Known::default();
        known.add(b"a", thing.client());
        let (client, server) = pipe(Rc::new(known), Limits::default());
        let object: Client = client.bootstrap(&id("a"));
        let call = start(&object, HANG, "");
        until("the call has arrived", || thing.hanging.get() == 1).await;
        drop(call);
        until("the handler has gone", || thing.hanging.get() == 0).await;
        until("the books are clear", || server.calls_in_flight() <= 1).await;
        assert_eq!(echo(&object, "x").await.unwrap(), "ax");
    });
}

#[test]
fn a_silent_peer_is_given_up_in_time() {
    vat_test(async {
        tokio::time::pause();
        let (one, frozen) = tokio::io::duplex(64 * 1024);
        let peer = PeerInfo::local("frozen", Digest::Insecure);
        let connection = Connection::from_stream(one, peer, ConnectionOptions::dialled());
        let object: Client = connection.bootstrap(&id("a"));
        let begun = Instant::now();
        let (interval, deadline) = (Duration::from_millis(50), Duration::from_millis(200));
        let reason = watch(&connection, &object, interval, deadline).await;
        assert_eq!(reason.as_str(), "No answer from the peer for 0.2 s");
        let taken = begun.elapsed();
        assert!(
            taken >= deadline * 9 / 10 && taken <= deadline * 11 / 10,
            "{taken:?}"
        );
        let error = echo(&object, "x").await.unwrap_err();
        assert!(error.is_disconnected(), "{error}");
        drop(frozen);
    });
}

#[test]
fn silence_is_noticed_even_when_the_object_answers_by_itself() {
    vat_test(async {
        tokio::time::pause();
        let (one, frozen) = tokio::io::duplex(64 * 1024);
        let peer = PeerInfo::local("frozen", Digest::Insecure);
        let connection = Connection::from_stream(one, peer, ConnectionOptions::dialled());
        let (interval, deadline) = (Duration::from_millis(20), Duration::from_millis(100));
        for object in [
            Thing::named("our own").client(),
            ocluster_vat::broken_cap(ocluster_vat::error::disconnected("elsewhere")),
        ] {
            let watching = watch(&connection, &object, interval, deadline);
            let reason = tokio::time::timeout(deadline * 10, watching).await.unwrap();
            assert_eq!(reason.as_str(), "No answer from the peer for 0.1 s");
        }
        drop(frozen);
    });
}

#[test]
fn a_live_peer_with_nothing_to_say_is_kept() {
    vat_test(async {
        tokio::time::pause();
        let (client, server) = pipe(Rc::new(Known::with(&[b"a"])), Limits::default());
        let object: Client = client.bootstrap(&id("a"));
        let (interval, deadline) = (Duration::from_millis(20), Duration::from_millis(60));
        let watching = watch(&client, &object, interval, deadline);
        let watched = tokio::time::timeout(Duration::from_millis(400), watching).await;
        assert!(watched.is_err(), "the connection must live on: {watched:?}");
        assert!(!client.is_closed());
        assert!(client.last_received() < deadline);
        server.disconnect("bye");
        let reason = watch(&client, &object, interval, deadline).await;
        assert_eq!(reason.as_str(), "bye");
    });
}

#[test]
fn messages_and_connections_are_counted() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        let connection = server.dial().await;
        let object: Client = connection.bootstrap(&id("a"));
        for _ in 0..10 {
            echo(&object, "x").await.unwrap();
        }
        let stats = &server.stats;
        assert_eq!(stats.connections(), 1);
        assert!(stats.inbound_received() >= 11);
        assert!(stats.outbound_enqueued() >= 11);
        until("all is sent", || {
            stats.outbound_sent() == stats.outbound_enqueued()
        })
        .await;
        connection.disconnect("bye");
        until("the connection is gone", || stats.connections() == 0).await;
        assert_eq!(stats.outbound_dropped(), 0);
    });
}

#[test]
fn dropping_everything_leaves_nothing_behind() {
    vat_test(async {
        let thing = Thing::named("a");
        let weak = Rc::downgrade(&thing);
        let known = Known::default();
        known.add(b"a", thing.client());
        drop(thing);
        let (client, server) = pipe(Rc::new(known), Limits::default());
        let object: Client = client.bootstrap(&id("a"));
        echo(&object, "x").await.unwrap();
        drop(object);
        client.disconnect("bye");
        client.closed().await;
        server.closed().await;
        until("the restorer and its objects are gone", || {
            weak.strong_count() == 0
        })
        .await;
    });
}
