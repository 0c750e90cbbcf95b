//! The writer as a task of the current runtime: for simulations, where one seed must give one history and a crash must take what was not
//! flushed yet.
//!
//! It keeps what the writer's thread keeps: nothing is acknowledged before its flush, and a question sees all that came before it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;

use crate::Store;
use crate::group::Group;
use crate::writer::{Message, Shared};

/// How long the next flush takes: the speed of a simulated disk.
pub type Pace = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Writes what comes, one group after the other, until it is told to close.
pub(crate) async fn run(
    store: Box<dyn Store>,
    mut receiver: UnboundedReceiver<Message>,
    shared: Arc<Shared>,
    pace: Pace,
) {
    let mut group = Group::default();
    while let Some(first) = receiver.recv().await {
        let mut next = Some(first);
        let mut questions = Vec::new();
        let mut closing = false;
        while let Some(message) = next.take() {
            match message {
                Message::Changes {
                    changes,
                    weight,
                    ack,
                } => group.add(changes, weight, ack),
                Message::Query(question) | Message::Peek(question) => questions.push(question),
                Message::Close => closing = true,
            }
            if !closing && questions.is_empty() && !group.is_full(&shared) {
                next = receiver.try_recv().ok();
                if next.is_none() && group.may_linger() {
                    let more = tokio::time::timeout(shared.config.linger, receiver.recv());
                    next = more.await.ok().flatten();
                }
            }
        }
        if !group.is_empty() {
            tokio::time::sleep(pace()).await;
        }
        group.write(store.as_ref(), &shared);
        for question in questions {
            question(store.as_ref());
        }
        if closing {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::{Change, MemoryStore, Writer, WriterConfig};

    const SLOW: Duration = Duration::from_secs(1);

    fn writer() -> Writer {
        let pace: Pace = Arc::new(|| SLOW);
        Writer::as_task(Box::new(MemoryStore::new()), WriterConfig::default(), pace)
    }

    fn worker(name: &str) -> Vec<Change> {
        vec![Change::WorkerKnown {
            pool: "pool".to_owned(),
            name: name.to_owned(),
            paused: false,
            pause: None,
        }]
    }

    async fn known(handle: &crate::StoreHandle) -> usize {
        let loaded = handle.query(|store| store.load(0)).await;
        loaded.unwrap().unwrap().workers.len()
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_shares_a_flush_which_takes_its_time() {
        let writer = writer();
        let handle = writer.handle();
        let start = tokio::time::Instant::now();
        let (one, other) = tokio::join!(handle.commit(worker("a")), handle.commit(worker("b")));
        one.unwrap();
        other.unwrap();
        assert_eq!(start.elapsed(), SLOW);
        assert_eq!(known(&handle).await, 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_sees_what_was_submitted_before_it_and_closing_writes_it() {
        let writer = writer();
        let handle = writer.handle();
        handle.submit(worker("a")).unwrap();
        assert_eq!(known(&handle).await, 1);
        handle.submit(worker("b")).unwrap();
        writer.close().await.unwrap();
        assert!(handle.commit(worker("c")).await.is_err());
    }
}
