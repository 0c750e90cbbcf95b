//! What the tests of this crate share: a scheduler that runs inside the test, a worker that does what the test says, and what a
//! client does with its jobs.
//!
//! Everything waits for conditions, under one deadline per story; nothing here sleeps for luck.
#![allow(dead_code, reason = "each test program uses a part of this")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

pub(crate) mod client;
pub(crate) mod job_view;
pub(crate) mod keeper;
pub(crate) mod leased;
pub(crate) mod site;
pub(crate) mod stoppable;
pub(crate) mod warnings;
pub(crate) mod worker;

use std::future::Future;
use std::time::Duration;

use tokio::task::LocalSet;

/// How long one story may take before it counts as stuck.
const STORY_DEADLINE: Duration = Duration::from_secs(60);

/// The pool of most stories.
pub(crate) const POOL: &str = "pool";

/// Runs a test on a vat thread of its own.
pub(crate) fn story<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(STORY_DEADLINE, test)
            .await
            .expect("the story is stuck");
    });
}

/// Looks again and again until `look` finds something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), search)
        .await
        .unwrap_or_else(|_| panic!("never came true: {what}"))
}

/// An error as programs print it.
pub(crate) fn kind_and_reason(error: capnp::Error) -> String {
    ocluster_vat::RpcError::from(error).to_string()
}
