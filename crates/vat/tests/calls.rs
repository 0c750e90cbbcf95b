//! Sturdy refs, calls, errors and capabilities over whole connections, most of them with TLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use capnp::capability::Client;
use ocluster_vat::{Limits, RpcError, ServiceId, guarded_client, ping};
use support::*;

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
