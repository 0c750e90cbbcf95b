//! Recorded sessions of OCluster's own programs, whole and mangled. A mangled one may be refused or
//! cut off; it must never panic, hang, or leave anything behind.

use std::rc::Rc;

use capnp::capability::Client;
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;
use ocluster_vat::{Connection, Limits, RestoreError, Restorer};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use crate::raw::*;
use crate::support::*;

const SESSIONS: [&str; 3] = [
    include_str!("fixtures/sessions/admin-add-client.hex"),
    include_str!("fixtures/sessions/client-submit-docker.hex"),
    include_str!("fixtures/sessions/worker-register-pop-jobs.hex"),
];

/// How many mangled sessions are tried.
const ROUNDS: u64 = 600;

/// Has a thing for every id.
struct Anything(Client);

impl Restorer for Anything {
    fn restore<'a>(
        &'a self,
        _connection: &'a Connection,
        _id: &'a [u8],
    ) -> LocalBoxFuture<'a, Result<Client, RestoreError>> {
        async { Ok(self.0.clone()) }.boxed_local()
    }
}

fn messages(session: &str) -> Vec<Vec<u8>> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    session
        .lines()
        .map(|line| line.as_bytes().chunks(2).map(byte).collect())
        .collect()
}

#[test]
fn recorded_sessions_are_answered() {
    vat_test(async {
        for session in SESSIONS {
            let thing = Thing::named("x");
            let (mut peer, connection) =
                raw_client(Rc::new(Anything(thing.client())), Limits::default());
            let sent = messages(session);
            assert!(sent.len() > 3);
            for message in &sent[..2] {
                peer.send_bytes(message).await;
            }
            let bootstrapped = describe(&peer.receive().await.unwrap());
            assert_eq!(bootstrapped, "return 0 results [hosted 1]");
            let mut answer = describe(&peer.receive().await.unwrap());
            if answer.starts_with("release") {
                // The capability in the parameters, which nobody kept.
                answer = describe(&peer.receive().await.unwrap());
            }
            assert_eq!(answer, "return 1 Unimplemented: no such interface");
            assert!(!connection.is_closed());
        }
    });
}

fn mangle(random: &mut StdRng, messages: &mut Vec<Vec<u8>>) {
    for _ in 0..random.random_range(1..6) {
        if messages.is_empty() {
            return;
        }
        let at = random.random_range(0..messages.len());
        match random.random_range(0..6) {
            0 => {
                messages.remove(at);
            }
            1 => {
                let again = messages[at].clone();
                messages.insert(random.random_range(0..=messages.len()), again);
            }
            2 => {
                let other = random.random_range(0..messages.len());
                messages.swap(at, other);
            }
            3 => {
                let keep = random.random_range(0..messages[at].len());
                messages[at].truncate(keep);
            }
            _ => {
                // Past the segment table, so that most still are messages.
                let byte = random.random_range(0..messages[at].len());
                messages[at][byte] ^= 1 << random.random_range(0..8);
            }
        }
        messages.retain(|message| !message.is_empty());
    }
}

#[test]
fn mangled_sessions_hurt_nobody() {
    vat_test(async {
        let thing = Thing::named("x");
        let references = Rc::strong_count(&thing);
        for seed in 0..ROUNDS {
            let mut random = StdRng::seed_from_u64(seed);
            let mut session = messages(SESSIONS[seed as usize % SESSIONS.len()]);
            mangle(&mut random, &mut session);
            let restorer = Rc::new(Anything(thing.client()));
            let (mut peer, connection) = raw_client(restorer, Limits::default());
            for message in &session {
                peer.send_bytes(message).await;
                if random.random_bool(0.5) {
                    tokio::task::yield_now().await;
                }
            }
            tokio::io::AsyncWriteExt::shutdown(&mut peer.stream)
                .await
                .unwrap();
            while peer.receive().await.is_some() {}
            let reason = connection.closed().await;
            assert_ne!(reason.as_str(), "Internal error", "seed {seed}");
        }
        until("nothing is left behind", || {
            Rc::strong_count(&thing) == references
        })
        .await;
    });
}
