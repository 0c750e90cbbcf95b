//! What is told of a download, in lines that people read: rarely, and without anything secret.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::Digest;
use super::trouble::Trouble;
use crate::StepLog;
use crate::size::Size;

/// How often one layer is told of.
const EVERY: Duration = Duration::from_secs(5);
/// The most remarks about one layer.
const MAX_NOTES: usize = 50;

/// Where a download is.
#[derive(Debug, Default)]
pub(super) struct State {
    /// How many bytes there are.
    pub(super) done: u64,
    /// What happened besides.
    notes: Vec<String>,
    /// How it ended.
    pub(super) outcome: Option<Result<(), Trouble>>,
}

impl State {
    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < MAX_NOTES {
            self.notes.push(note);
        }
    }
}

/// Writes a line. A log that cannot be written is found out by those who own it.
pub(super) async fn tell(log: &StepLog, line: &str) {
    let _ = log.write(format!("{line}\n")).await;
}

/// Tells of a download until it ends, and how it did.
pub(super) async fn follow(
    mut state: watch::Receiver<State>,
    digest: Digest,
    size: Option<u64>,
    log: &StepLog,
) -> Result<(), Trouble> {
    let layer = format!("layer {}", digest.short());
    let of = size.map_or_else(String::new, |size| format!(" of {}", Size(size)));
    let mut told = 0;
    let mut next = Instant::now() + EVERY;
    loop {
        let (notes, done, outcome) = {
            let state = state.borrow_and_update();
            let notes = state.notes.get(told..).unwrap_or_default().to_vec();
            (notes, state.done, state.outcome.clone())
        };
        told += notes.len();
        for note in notes {
            tell(log, &format!("{layer}: {note}")).await;
        }
        if let Some(outcome) = outcome {
            if outcome.is_ok() {
                let size = Size(size.unwrap_or(done));
                tell(log, &format!("{layer}: {size} downloaded")).await;
            }
            return outcome;
        }
        if Instant::now() >= next {
            next = Instant::now() + EVERY;
            tell(log, &format!("{layer}: {}{of}", Size(done))).await;
        }
        match timeout_at(next, state.changed()).await {
            Ok(Ok(())) | Err(_) => {}
            // Nobody downloads any more.
            Ok(Err(_)) => return Err(Trouble::Cancelled),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::watch;
    use tokio::time::sleep;

    use super::{State, follow};
    use crate::StepLog;
    use crate::image::registry::Digest;
    use crate::image::registry::trouble::Trouble;

    /// What is told of a download that `happens`.
    async fn told(happens: impl AsyncFnOnce(&watch::Sender<State>)) -> Vec<String> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("log");
        let log = StepLog::create(&path).await.expect("a log");
        let (sender, state) = watch::channel(State::default());
        let happening = async {
            happens(&sender).await;
            drop(sender);
        };
        let following = follow(state, Digest::of(b""), Some(100 << 20), &log);
        let ((), _) = tokio::join!(happening, following);
        let text = std::fs::read_to_string(path).expect("a log");
        text.lines().map(ToOwned::to_owned).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_download_is_told_of_every_few_seconds() {
        let told = told(async |state| {
            for done in 0..120 {
                state.send_modify(|state| state.done = done << 20);
                sleep(Duration::from_millis(100)).await;
            }
            state.send_modify(|state| state.outcome = Some(Ok(())));
        })
        .await;
        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].starts_with("layer e3b0c44298fc: "), "{told:?}");
        assert!(told[0].ends_with(" of 100 MiB"), "{told:?}");
        assert_eq!(told[2], "layer e3b0c44298fc: 100 MiB downloaded");
    }

    #[tokio::test]
    async fn remarks_are_told_at_once_and_not_without_end() {
        let told = told(async |state| {
            for _ in 0..1000 {
                state.send_modify(|state| state.note("cut".into()));
            }
            state.send_modify(|state| state.outcome = Some(Err(Trouble::Cancelled)));
        })
        .await;
        assert_eq!(told, vec!["layer e3b0c44298fc: cut"; super::MAX_NOTES]);
    }

    #[tokio::test]
    async fn a_download_that_vanishes_is_waited_for_no_longer() {
        assert!(told(async |_| ()).await.is_empty());
    }
}
