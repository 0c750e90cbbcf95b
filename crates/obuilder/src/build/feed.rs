//! What a step has to tell while it is made: its log, and our remarks between its attempts. Whoever joins late gets it from the start.
//!
//! Output stays in the file of the step's log. What is held here is a handful of pieces, whatever the step prints.

use std::io;

use bstr::BString;
use bytes::Bytes;
use tokio::sync::watch;

use crate::store::Layer;
use crate::{LogReader, StepLog};

/// The telling end. When it is dropped, the feed is over.
#[derive(Debug)]
pub(super) struct Publisher {
    pieces: watch::Sender<Vec<Piece>>,
}

/// The listening end. Clones start over.
#[derive(Debug)]
pub(super) struct Feed {
    pieces: watch::Receiver<Vec<Piece>>,
    /// How many pieces were told, or are being told.
    begun: usize,
    current: Option<LogReader>,
}

/// Something to tell.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Told {
    /// What the step printed.
    Output(Bytes),
    /// A remark of our own.
    Note(BString),
}

#[derive(Clone, Debug)]
enum Piece {
    /// The log of an attempt, before its first byte.
    Live(LogReader),
    /// The log of a result in the store: no file is open for those who have not come to it yet.
    Kept(Layer),
    Note(BString),
}

/// A feed, and the end that tells.
pub(super) fn feed() -> (Publisher, Feed) {
    let (sender, receiver) = watch::channel(Vec::new());
    let feed = Feed {
        pieces: receiver,
        begun: 0,
        current: None,
    };
    (Publisher { pieces: sender }, feed)
}

impl Publisher {
    /// From now on, what is written to `log`. It must be closed in the end.
    pub(super) fn live(&self, log: &StepLog) {
        let reader = log.reader();
        self.pieces
            .send_modify(|pieces| pieces.push(Piece::Live(reader)));
    }

    /// The whole log of `layer`.
    pub(super) fn kept(&self, layer: &Layer) {
        self.pieces
            .send_modify(|pieces| pieces.push(Piece::Kept(layer.clone())));
    }

    /// The log told last belongs to `layer` now: those who come later read it there.
    pub(super) fn settle(&self, layer: &Layer) {
        self.pieces.send_if_modified(|pieces| {
            if let Some(last @ Piece::Live(_)) = pieces.last_mut() {
                *last = Piece::Kept(layer.clone());
            }
            // Nothing new to tell.
            false
        });
    }

    /// A remark, without a line feed.
    pub(super) fn note(&self, text: impl Into<BString>) {
        let text = text.into();
        self.pieces
            .send_modify(|pieces| pieces.push(Piece::Note(text)));
    }
}

impl Feed {
    /// The next thing to tell; waits for it; `None` when all is told. Nothing is lost if the caller stops waiting.
    ///
    /// # Errors
    /// A log cannot be read. The next call goes on behind it.
    pub(super) async fn next(&mut self) -> io::Result<Option<Told>> {
        loop {
            if let Some(log) = &mut self.current {
                match log.next().await {
                    Ok(Some(bytes)) => return Ok(Some(Told::Output(bytes))),
                    Ok(None) => self.current = None,
                    Err(error) => {
                        self.current = None;
                        return Err(error);
                    }
                }
            }
            let begun = self.begun;
            // An error says that the other end is gone: what was told is what there is.
            let _ = self
                .pieces
                .wait_for(|pieces| pieces.len() > begun)
                .await
                .is_ok();
            let Some(piece) = self.pieces.borrow().get(begun).cloned() else {
                return Ok(None);
            };
            match piece {
                Piece::Live(log) => self.current = Some(log),
                Piece::Kept(layer) => match StepLog::open(layer.log_path()).await {
                    Ok(log) => self.current = Some(log.reader()),
                    Err(error) => {
                        self.begun += 1;
                        return Err(error);
                    }
                },
                Piece::Note(text) => {
                    self.begun += 1;
                    return Ok(Some(Told::Note(text)));
                }
            }
            self.begun += 1;
        }
    }
}

impl Clone for Feed {
    fn clone(&self) -> Self {
        Self {
            pieces: self.pieces.clone(),
            begun: 0,
            current: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(mut feed: Feed) -> Vec<Told> {
        let mut all = Vec::new();
        while let Some(told) = feed.next().await.unwrap() {
            all.push(told);
        }
        all
    }

    #[tokio::test]
    async fn who_comes_late_hears_everything_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let (publisher, early) = feed();
        let late = early.clone();
        let early = tokio::spawn(all(early));
        for attempt in ["first", "second"] {
            let log = StepLog::create(&dir.path().join(attempt)).await.unwrap();
            publisher.live(&log);
            log.write(attempt).await.unwrap();
            log.close();
            publisher.note(format!("after {attempt}"));
        }
        drop(publisher);
        let expected = vec![
            Told::Output("first".into()),
            Told::Note("after first".into()),
            Told::Output("second".into()),
            Told::Note("after second".into()),
        ];
        assert_eq!(early.await.unwrap(), expected);
        assert_eq!(all(late).await, expected);
    }

    #[tokio::test]
    async fn a_step_that_dies_before_its_log_is_there_leaves_nobody_waiting() {
        let (publisher, listener) = feed();
        let listener = tokio::spawn(all(listener));
        tokio::task::yield_now().await;
        drop(publisher);
        assert_eq!(listener.await.unwrap(), []);
    }

    #[tokio::test]
    async fn a_log_whose_writer_dies_ends_with_what_there_is() {
        let dir = tempfile::tempdir().unwrap();
        let (publisher, listener) = feed();
        let log = StepLog::create(&dir.path().join("log")).await.unwrap();
        publisher.live(&log);
        log.write("last words").await.unwrap();
        drop((log, publisher));
        assert_eq!(all(listener).await, [Told::Output("last words".into())]);
    }
}
