//! What we say on the wire, message by message, to a peer that is not capnp-rpc.

use std::rc::Rc;

use capnp::capability::Client;
use capnp_rpc::rpc_capnp::{message, return_};
use ocluster_vat::{Limits, RpcError, ServiceId, broken_cap, error, promised_cap};

use crate::raw::*;
use crate::support::*;

async fn next(peer: &mut RawPeer) -> String {
    describe(&peer.receive().await.expect("the connection ended"))
}

#[test]
fn a_bootstrap_answer_is_one_settled_capability() {
    vat_test(async {
        let (mut peer, _connection) = raw_client(Rc::new(Known::with(&[b"a"])), Limits::default());
        peer.bootstrap(0, b"a").await;
        assert_eq!(next(&mut peer).await, "return 0 results [hosted 1]");
        peer.bootstrap(1, b"nope").await;
        assert_eq!(
            next(&mut peer).await,
            "return 1 Failed: Unknown persistent service ID"
        );
        // The same object is the same export.
        peer.bootstrap(2, b"a").await;
        assert_eq!(next(&mut peer).await, "return 2 results [hosted 1]");
    });
}

#[test]
fn an_object_id_of_the_wrong_kind_is_an_unknown_one() {
    vat_test(async {
        let (mut peer, _connection) =
            raw_client(Rc::new(Known::with(&[b"", b"a"])), Limits::default());
        peer.send(|root| {
            let bootstrap = root.init_bootstrap();
            let id = bootstrap.init_deprecated_object_id();
            id.init_as::<message::Builder<'_>>().init_call();
        })
        .await;
        assert_eq!(
            next(&mut peer).await,
            "return 0 Failed: Unknown persistent service ID"
        );
        peer.send(|root| {
            root.init_bootstrap().set_question_id(1);
        })
        .await;
        assert_eq!(next(&mut peer).await, "return 1 results [hosted 1]");
    });
}

#[test]
fn our_bootstrap_carries_the_id_as_text_and_none_when_empty() {
    vat_test(async {
        let (mut peer, connection) = raw_server();
        let _one: Client = connection.bootstrap(&ServiceId::new([1, 255, 0]));
        assert_eq!(next(&mut peer).await, "bootstrap 0 [1, 255, 0]");
        let _two: Client = connection.bootstrap(&ServiceId::new([]));
        assert_eq!(next(&mut peer).await, "bootstrap 1 null");
    });
}

#[test]
fn a_broken_capability_is_a_promise_which_resolves_to_its_exception() {
    vat_test(async {
        let thing = Thing::named("a");
        *thing.gift.borrow_mut() = Some(broken_cap(error::failed("No such pool")));
        let known = Known::default();
        known.add(b"a", thing.client());
        let (mut peer, _connection) = raw_client(Rc::new(known), Limits::default());
        peer.bootstrap(0, b"a").await;
        peer.call(1, 0, GIFT, "").await;
        assert_eq!(next(&mut peer).await, "return 0 results [hosted 1]");
        assert_eq!(next(&mut peer).await, "return 1 results [promise 2]");
        assert_eq!(next(&mut peer).await, "resolve 2 Failed: No such pool");
    });
}

#[test]
fn a_promise_resolves_on_the_wire_however_often_it_was_sent() {
    vat_test(async {
        let thing = Thing::named("a");
        let (give, given) = futures::channel::oneshot::channel::<Client>();
        *thing.gift.borrow_mut() = Some(promised_cap(async {
            given.await.map_err(|_| error::failed("never"))
        }));
        let known = Known::default();
        known.add(b"a", thing.client());
        let (mut peer, _connection) = raw_client(Rc::new(known), Limits::default());
        peer.bootstrap(0, b"a").await;
        assert_eq!(next(&mut peer).await, "return 0 results [hosted 1]");
        for question in [1, 2] {
            peer.call(question, 0, GIFT, "").await;
            assert_eq!(
                next(&mut peer).await,
                format!("return {question} results [promise 2]")
            );
        }
        give.send(Thing::named("present").client()).ok().unwrap();
        assert_eq!(next(&mut peer).await, "resolve 2 hosted 3");
    });
}

#[test]
fn a_promise_that_fails_resolves_to_its_exception() {
    vat_test(async {
        let thing = Thing::named("a");
        let (give, given) = futures::channel::oneshot::channel::<Client>();
        *thing.gift.borrow_mut() = Some(promised_cap(async {
            given.await.map_err(|_| error::disconnected("worker lost"))
        }));
        let known = Known::default();
        known.add(b"a", thing.client());
        let (mut peer, _connection) = raw_client(Rc::new(known), Limits::default());
        peer.bootstrap(0, b"a").await;
        peer.call(1, 0, GIFT, "").await;
        assert_eq!(next(&mut peer).await, "return 0 results [hosted 1]");
        assert_eq!(next(&mut peer).await, "return 1 results [promise 2]");
        drop(give);
        assert_eq!(next(&mut peer).await, "resolve 2 Disconnected: worker lost");
    });
}

#[test]
fn our_goodbye_is_an_abort_of_type_disconnected() {
    vat_test(async {
        let (mut peer, connection) = raw_client(Rc::new(Known::default()), Limits::default());
        connection.disconnect("maintenance");
        assert_eq!(next(&mut peer).await, "abort Disconnected: maintenance");
        assert!(peer.receive().await.is_none());
        assert_eq!(connection.closed().await.as_str(), "maintenance");
    });
}

#[test]
fn a_peers_abort_breaks_calls_as_disconnected_and_is_not_answered() {
    vat_test(async {
        let (mut peer, connection) = raw_server();
        let object: Client = connection.bootstrap(&id("a"));
        let call = start(&object, ECHO, "x");
        assert!(next(&mut peer).await.starts_with("bootstrap 0"));
        assert!(next(&mut peer).await.starts_with("call 1"));
        // OCaml's vats say this with type failed; it is a lost connection all the same.
        peer.send(|root| {
            let mut abort = root.init_abort();
            abort.set_reason("Closing duplicate connection");
            abort.set_type(capnp_rpc::rpc_capnp::exception::Type::Failed);
        })
        .await;
        let error = RpcError::from(call.promise.await.err().unwrap());
        assert_eq!(
            error.to_string(),
            "Disconnected: Closing duplicate connection"
        );
        assert!(peer.receive().await.is_none());
        assert_eq!(
            connection.closed().await.as_str(),
            "Closing duplicate connection"
        );
    });
}

#[test]
fn a_return_that_capnp_rpc_would_choke_on_fails_the_call_only() {
    vat_test(async {
        let (mut peer, connection) = raw_server();
        let object: Client = connection.bootstrap(&id("a"));
        assert!(next(&mut peer).await.starts_with("bootstrap 0"));
        // The id of a finished question is free again.
        for (question, elsewhere) in [(1, false), (1, true)] {
            let call = start(&object, ECHO, "x");
            assert!(next(&mut peer).await.starts_with("call"));
            peer.send(|root| {
                let mut answer = root.init_return();
                answer.set_answer_id(question);
                if elsewhere {
                    answer.set_results_sent_elsewhere(());
                } else {
                    answer.set_canceled(());
                }
            })
            .await;
            let error = RpcError::from(call.promise.await.err().unwrap());
            assert!(matches!(error, RpcError::Failed(_)), "{error}");
            assert_eq!(next(&mut peer).await, format!("finish {question}"));
        }
        assert!(!connection.is_closed());
    });
}

#[test]
fn messages_of_level_three_are_unimplemented() {
    vat_test(async {
        let (mut peer, connection) = raw_client(Rc::new(Known::with(&[b"a"])), Limits::default());
        peer.send(|root| {
            root.init_provide();
        })
        .await;
        assert_eq!(next(&mut peer).await, "unimplemented");
        peer.send(|root| {
            root.init_join();
        })
        .await;
        assert_eq!(next(&mut peer).await, "unimplemented");
        peer.bootstrap(0, b"a").await;
        assert_eq!(next(&mut peer).await, "return 0 results [hosted 1]");
        assert!(!connection.is_closed());
    });
}

#[test]
fn calls_never_ask_for_results_elsewhere() {
    vat_test(async {
        // The peer's own object is passed back to it and called by us: the answer must come to us.
        let (mut peer, connection) = raw_server();
        let object: Client = connection.bootstrap(&id("a"));
        let _call = start(&object, ECHO, "x");
        assert!(next(&mut peer).await.starts_with("bootstrap"));
        let call = peer.receive().await.unwrap();
        let root = call.get_root::<message::Reader<'_>>().unwrap();
        let Ok(message::Call(call)) = root.which() else {
            panic!("not a call");
        };
        use capnp_rpc::rpc_capnp::call::send_results_to::Caller;
        let to = call.unwrap().get_send_results_to().which().unwrap();
        assert!(matches!(to, Caller(())));
    });
}

#[test]
fn a_forwarded_exception_is_sent_without_marks() {
    vat_test(async {
        let thing = Thing::named("a");
        let marked = "remote exception: remote exception: Build failed.";
        *thing.gift.borrow_mut() = Some(broken_cap(error::failed(marked)));
        let known = Known::default();
        known.add(b"a", thing.client());
        let (mut peer, _connection) = raw_client(Rc::new(known), Limits::default());
        peer.bootstrap(0, b"a").await;
        peer.call(1, 0, FAIL, marked).await;
        peer.call(2, 0, GIFT, "").await;
        next(&mut peer).await;
        assert_eq!(next(&mut peer).await, "return 1 Failed: Build failed.");
        next(&mut peer).await;
        assert_eq!(next(&mut peer).await, "resolve 2 Failed: Build failed.");
    });
}

#[test]
fn the_reserved_question_id_is_refused() {
    vat_test(async {
        let known = Rc::new(Known::with(&[b"a"]));
        let (mut peer, _connection) = raw_client(known.clone(), Limits::default());
        peer.bootstrap(u32::MAX, b"a").await;
        let reason = peer.abort_reason().await.unwrap();
        assert_eq!(reason, "question id 4294967295 is reserved");
        let (mut peer, _connection) = raw_client(known, Limits::default());
        peer.finish(u32::MAX, false).await;
        let reason = peer.abort_reason().await.unwrap();
        assert_eq!(reason, "question id 4294967295 is reserved");
    });
}

#[test]
fn results_hold_what_the_handler_wrote() {
    vat_test(async {
        let (mut peer, _connection) = raw_client(Rc::new(Known::with(&[b"a"])), Limits::default());
        peer.bootstrap(0, b"a").await;
        peer.call(1, 0, ECHO, "hello").await;
        next(&mut peer).await;
        let answer = peer.receive().await.unwrap();
        let root = answer.get_root::<message::Reader<'_>>().unwrap();
        let Ok(message::Return(answer)) = root.which() else {
            panic!("not a return");
        };
        let Ok(return_::Results(results)) = answer.unwrap().which() else {
            panic!("no results");
        };
        let content = results.unwrap().get_content();
        let text = content.get_as::<capnp::text::Reader<'_>>().unwrap();
        assert_eq!(text, "a:hello");
    });
}
