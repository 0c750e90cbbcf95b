//! Sturdy refs, calls, errors and capabilities over whole connections, most of them with TLS.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use capnp::any_pointer;
use capnp::capability::Client;
use ocluster_vat::{
    DialOptions, Limits, RpcError, ServiceId, Stats, Vat, broken_cap, error, guarded_client, ping,
    promised_cap, settled,
};
use tokio::time::Instant;

use crate::support::*;

#[test]
fn several_sturdy_refs_share_one_connection() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a", b"b", b""]), Limits::default());
        let vat = ocluster_vat::Vat::client_only(ocluster_vat::Stats::new());
        let options = ocluster_vat::DialOptions::default();
        let mut steps = Vec::new();
        for (name, expected) in [("a", "a:1"), ("b", "b:1"), ("", ":1")] {
            let connection = vat
                .connect(&server.address, &options, &mut |step| steps.push(step))
                .await
                .unwrap();
            let object: Client = connection.bootstrap(&id(name));
            assert_eq!(echo(&object, "1").await.unwrap(), expected);
        }
        assert_eq!(server.stats.connections(), 1);
        use ocluster_vat::Progress::{Connecting, Handshake};
        assert_eq!(steps, [Connecting, Handshake]);
    });
}

#[test]
fn an_id_need_not_be_text() {
    vat_test(async {
        let raw = [0xff, 0x00, 0xc3, 0x28, 0x80];
        let server = serve_tls(Known::with(&[&raw]), Limits::default());
        let object: Client = server.dial().await.bootstrap(&ServiceId::new(raw));
        assert!(echo(&object, "x").await.unwrap().ends_with(":x"));
    });
}

#[test]
fn an_unknown_id_fails_and_the_connection_lives_on() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        let connection = server.dial().await;
        for wrong in ["nope", ""] {
            let object: Client = connection.bootstrap(&id(wrong));
            let error = echo(&object, "x").await.unwrap_err();
            assert_eq!(error.to_string(), "Failed: Unknown persistent service ID");
        }
        let object: Client = connection.bootstrap(&id("a"));
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
    });
}

#[test]
fn a_failing_restorer_tells_the_peer_nothing() {
    vat_test(async {
        let known = Known {
            fails: true,
            ..Known::default()
        };
        let server = serve_tls(known, Limits::default());
        let object: Client = server.dial().await.bootstrap(&id("a"));
        let error = echo(&object, "x").await.unwrap_err();
        assert_eq!(error.to_string(), "Failed: Internal error restoring object");
    });
}

#[test]
fn a_vat_without_restorer_says_so() {
    vat_test(async {
        // The dialled side offers nothing; the accepted side asks it all the same.
        let (_dialled, accepted) = pipe(Rc::new(Known::default()), Limits::default());
        let object: Client = accepted.bootstrap(&id("a"));
        let error = echo(&object, "x").await.unwrap_err();
        assert_eq!(error.to_string(), "Failed: This vat has no restorer");
    });
}

#[test]
fn both_sides_of_a_connection_can_offer_services() {
    vat_test(async {
        let (one, other) = tokio::io::duplex(4096);
        let mut options = ocluster_vat::ConnectionOptions::dialled();
        options.restorer = Some(Rc::new(Known::with(&[b"worker"])));
        let peer = |name| ocluster_vat::PeerInfo::local(name, ocluster_vat::Digest::Insecure);
        let _dialled = ocluster_vat::Connection::from_stream(one, peer("server"), options);
        let options = ocluster_vat::ConnectionOptions::accepted(Rc::new(Known::default()));
        let accepted = ocluster_vat::Connection::from_stream(other, peer("client"), options);
        let object: Client = accepted.bootstrap(&id("worker"));
        assert_eq!(echo(&object, "hi").await.unwrap(), "worker:hi");
    });
}

#[test]
fn calls_are_pipelined_on_a_slow_restore() {
    vat_test(async {
        let known = Known {
            delay: Duration::from_millis(100),
            ..Known::with(&[b"a"])
        };
        let server = serve_tls(known, Limits::default());
        let connection = server.dial().await;
        let begun = Instant::now();
        let object: Client = connection.bootstrap(&id("a"));
        // Three calls, each on the answer of the one before, and none waits for it.
        let myself = start(&object, MYSELF, "").pipeline.as_cap();
        let again = start(&Client::new(myself), MYSELF, "").pipeline.as_cap();
        assert_eq!(echo(&Client::new(again), "x").await.unwrap(), "a:x");
        assert!(begun.elapsed() < Duration::from_millis(190));
    });
}

#[test]
fn pipelined_calls_on_a_failed_restore_get_its_error() {
    vat_test(async {
        let known = Known {
            delay: Duration::from_millis(20),
            ..Known::default()
        };
        let server = serve_tls(known, Limits::default());
        let object: Client = server.dial().await.bootstrap(&id("nope"));
        let myself = start(&object, MYSELF, "").pipeline.as_cap();
        let error = echo(&Client::new(myself), "x").await.unwrap_err();
        assert_eq!(error.to_string(), "Failed: Unknown persistent service ID");
    });
}

#[test]
fn a_large_call_may_be_pipelined_on_the_first_sturdy_ref() {
    vat_test(async {
        // The peer is a stranger until its sturdy ref is found valid, and strangers may send only
        // small messages; but this one is no stranger by the time the call matters.
        let known = Known {
            delay: Duration::from_millis(20),
            ..Known::with(&[b"a"])
        };
        let server = serve_tls(known, Limits::default());
        let object: Client = server.dial().await.bootstrap(&id("a"));
        let text = "x".repeat(1_000_000);
        assert_eq!(echo(&object, &text).await.unwrap(), format!("a:{text}"));
    });
}

#[test]
fn unknown_interfaces_and_methods_are_unimplemented() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        let object: Client = server.dial().await.bootstrap(&id("a"));
        let error = call(&object, 999, "").await.err().unwrap();
        assert_eq!(
            RpcError::from(error),
            RpcError::Unimplemented("no such method".to_owned())
        );
        let request = object.new_call::<any_pointer::Owned, any_pointer::Owned>(42, 0, None);
        let error = request.send().promise.await.err().unwrap();
        assert!(matches!(error.kind, capnp::ErrorKind::Unimplemented));
        assert_eq!(ping(&object).await, Ok(()));
    });
}

#[test]
fn an_error_forwarded_over_hops_gains_nothing() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"far"]), Limits::default());
        let far: Client = server.dial().await.bootstrap(&id("far"));
        let broker = Known::default();
        broker.add(b"near", Thing::named("near").client());
        broker.add(b"far", far);
        let broker = serve_tls(broker, Limits::default());
        let connection = broker.dial().await;
        let near: Client = connection.bootstrap(&id("near"));
        let far: Client = connection.bootstrap(&id("far"));
        // One hop more than there are connections: the near object calls the far one for us.
        let error = call_with(&near, FORWARD_FAIL, far).await.err().unwrap();
        assert_eq!(RpcError::from(&error).to_string(), "Failed: Build failed");
        assert_eq!(
            error.extra.matches("remote exception: ").count(),
            1,
            "only the last hop, our own, has put its mark: {}",
            error.extra
        );
    });
}

#[test]
fn exception_types_survive_the_wire() {
    vat_test(async {
        let (client, _server) = pipe(Rc::new(Known::with(&[b"a"])), Limits::default());
        let object: Client = client.bootstrap(&id("a"));
        type Make = fn(String) -> capnp::Error;
        let failing: [(Make, &str); 4] = [
            (error::failed, "Failed: why"),
            (error::overloaded, "Overloaded: why"),
            (error::disconnected, "Disconnected: why"),
            (error::unimplemented, "Unimplemented: why"),
        ];
        for (make, expected) in failing {
            let known = Known::default();
            known.add(b"x", broken_cap(make("why".to_owned())));
            let (client, _server) = pipe(Rc::new(known), Limits::default());
            let object: Client = client.bootstrap(&id("x"));
            assert_eq!(echo(&object, "").await.unwrap_err().to_string(), expected);
        }
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
    });
}

#[test]
fn a_promised_capability_settles_for_the_peer() {
    vat_test(async {
        let thing = Thing::named("thing");
        let (give, given) = futures::channel::oneshot::channel::<Client>();
        let promised: Client =
            promised_cap(async { given.await.map_err(|_| error::failed("never given")) });
        *thing.gift.borrow_mut() = Some(promised);
        let known = Known::default();
        known.add(b"a", thing.client());
        let (client, _server) = pipe(Rc::new(known), Limits::default());
        let object: Client = client.bootstrap(&id("a"));
        let gift = cap_of(&call(&object, GIFT, "").await.unwrap());
        let same_gift = cap_of(&call(&object, GIFT, "").await.unwrap());
        let call_in_advance = start(&gift, ECHO, "early");
        let settled = gift.hook.when_resolved();
        let also_settled = same_gift.hook.when_resolved();
        give.send(Thing::named("present:").client()).ok().unwrap();
        let (one, other) = futures::join!(settled, also_settled);
        assert!(one.is_ok() && other.is_ok());
        let response = call_in_advance.promise.await.unwrap();
        let text = response.get().unwrap().get_as::<capnp::text::Reader<'_>>();
        assert_eq!(text.unwrap(), "present:early");
        assert_eq!(echo(&same_gift, "late").await.unwrap(), "present:late");
    });
}

#[test]
fn a_broken_promise_settles_into_its_exception() {
    vat_test(async {
        let thing = Thing::named("thing");
        let (give, given) = futures::channel::oneshot::channel::<Client>();
        *thing.gift.borrow_mut() = Some(promised_cap(async {
            given.await.map_err(|_| error::failed("Build cancelled"))
        }));
        let known = Known::default();
        known.add(b"a", thing.client());
        let (client, _server) = pipe(Rc::new(known), Limits::default());
        let object: Client = client.bootstrap(&id("a"));
        let gift = cap_of(&call(&object, GIFT, "").await.unwrap());
        drop(give);
        gift.hook.when_resolved().await.unwrap();
        let late = echo(&gift, "").await.unwrap_err();
        assert_eq!(late.to_string(), "Failed: Build cancelled");
    });
}

#[test]
fn a_capability_that_settled_before_anybody_waited_is_settled() {
    vat_test(async {
        let thing = Thing::named("thing");
        let broken: Client = broken_cap(error::failed("Access has been revoked"));
        *thing.gift.borrow_mut() = Some(broken);
        let known = Known::default();
        known.add(b"a", thing.client());
        let (client, _server) = pipe(Rc::new(known), Limits::default());
        let object: Client = client.bootstrap(&id("a"));
        let gift = cap_of(&call(&object, GIFT, "").await.unwrap());
        // An answer to a later question comes after the gift has settled.
        echo(&object, "").await.unwrap();
        let _ = settled(&gift).await;
        let error = echo(&gift, "").await.unwrap_err();
        assert_eq!(error.to_string(), "Failed: Access has been revoked");
    });
}

/// Notes that it was dropped.
struct Bell(Rc<Cell<bool>>);

impl Drop for Bell {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

#[test]
fn the_release_of_an_object_is_noticed_while_its_call_is_pending() {
    vat_test(async {
        let thing = Thing::named("job");
        let rung = Rc::new(Cell::new(false));
        let known = Known::default();
        let guarded: ThingClient = guarded_client(thing.clone(), Bell(rung.clone()));
        let giver = Thing::named("giver");
        *giver.gift.borrow_mut() = Some(guarded.0);
        known.add(b"giver", giver.client());
        let (client, _server) = pipe(Rc::new(known), Limits::default());
        let object: Client = client.bootstrap(&id("giver"));
        let job = cap_of(&call(&object, GIFT, "").await.unwrap());
        giver.gift.borrow_mut().take();
        assert_eq!(echo(&job, "x").await.unwrap(), "jobx");

        // The peer calls, and lets go of the object while the call is pending.
        let watched = thing.hanging.clone();
        let pending = tokio::task::spawn_local(start(&job, HANG, "").promise);
        until("the call has arrived", || watched.get() == 1).await;
        assert!(!rung.get(), "the peer still holds the object");
        drop(job);
        until("the guard has gone", || rung.get()).await;
        assert_eq!(watched.get(), 1, "the call itself goes on");
        pending.abort();
        until("the call is withdrawn", || watched.get() == 0).await;
    });
}

#[test]
fn the_loss_of_the_connection_releases_an_object_too() {
    vat_test(async {
        let thing = Thing::named("job");
        let rung = Rc::new(Cell::new(false));
        let guarded: ThingClient = guarded_client(thing.clone(), Bell(rung.clone()));
        let giver = Thing::named("giver");
        *giver.gift.borrow_mut() = Some(guarded.0);
        let known = Known::default();
        known.add(b"giver", giver.client());
        let (client, _server) = pipe(Rc::new(known), Limits::default());
        let object: Client = client.bootstrap(&id("giver"));
        let job = cap_of(&call(&object, GIFT, "").await.unwrap());
        giver.gift.borrow_mut().take();
        let pending = tokio::task::spawn_local(start(&job, HANG, "").promise);
        until("the call has arrived", || thing.hanging.get() == 1).await;
        assert!(!rung.get());
        client.disconnect("lost");
        until("the guard has gone", || rung.get()).await;
        assert!(pending.await.unwrap().is_err());
    });
}

#[test]
fn two_guarded_clients_of_one_object_have_a_guard_each() {
    vat_test(async {
        let thing = Thing::named("job");
        let (one, two) = (Rc::new(Cell::new(false)), Rc::new(Cell::new(false)));
        let first: ThingClient = guarded_client(thing.clone(), Bell(one.clone()));
        let second: ThingClient = guarded_client(thing.clone(), Bell(two.clone()));
        drop(first);
        assert!(one.get() && !two.get());
        assert_eq!(echo(&second.0, "x").await.unwrap(), "jobx");
        drop(second);
        assert!(two.get());
    });
}

#[test]
fn callbacks_reach_the_side_that_dialled() {
    vat_test(async {
        let keeper = Thing::named("keeper");
        let known = Known::default();
        known.add(b"keeper", keeper.client());
        let server = serve_tls(known, Limits::default());
        let object: Client = server.dial().await.bootstrap(&id("keeper"));
        call_with(&object, KEEP, Thing::named("worker:").client())
            .await
            .unwrap();
        let worker = keeper.kept.borrow_mut().pop().unwrap();
        assert_eq!(echo(&worker, "metrics").await.unwrap(), "worker:metrics");
    });
}

#[test]
fn connecting_again_reuses_the_connection_until_it_ends() {
    vat_test(async {
        let server = serve_tls(Known::with(&[b"a"]), Limits::default());
        let vat = Vat::client_only(Stats::new());
        let options = DialOptions::default();
        let quiet = &mut |_| {};
        let first = vat.connect(&server.address, &options, quiet).await.unwrap();
        first.disconnect("enough");
        first.closed().await;
        let second = vat.connect(&server.address, &options, quiet).await.unwrap();
        let object: Client = second.bootstrap(&id("a"));
        assert_eq!(echo(&object, "x").await.unwrap(), "a:x");
        let on_first: Client = first.bootstrap(&id("a"));
        let error = echo(&on_first, "x").await.unwrap_err();
        assert_eq!(error, RpcError::Disconnected("enough".to_owned()));
    });
}

#[test]
fn the_restorer_learns_who_asks() {
    vat_test(async {
        let known = Rc::new(Known::with(&[b"a"]));
        let key = ocluster_vat::SecretKey::ephemeral().unwrap();
        let location = ocluster_vat::Location::tcp("127.0.0.1", 0);
        let server = serve_at(&location, Some(key), known.clone(), Limits::default());
        let object: Client = server.dial().await.bootstrap(&id("a"));
        echo(&object, "x").await.unwrap();
        let seen = known.seen.borrow();
        let peer = seen.first().unwrap();
        assert!(peer.digest.is_secure());
        assert_eq!(peer.ip.unwrap().to_string(), "127.0.0.1");
        assert!(peer.to_string().starts_with("tcp:127.0.0.1:"));
    });
}
