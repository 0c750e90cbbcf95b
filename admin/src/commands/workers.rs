//! Workers as commands list them.

use serde::Serialize;

use super::descriptions::JsonDescription;
use crate::cluster::{Description, Worker};

/// A worker in JSON.
#[derive(Debug, Serialize)]
pub(super) struct JsonWorker<'a> {
    name: &'a str,
    connected: bool,
    /// Whether an administrator has paused it.
    paused: bool,
    /// What only our own schedulers tell.
    #[serde(flatten)]
    more: Option<JsonDescription<'a>>,
}

impl<'a> From<&'a Worker> for JsonWorker<'a> {
    fn from(worker: &'a Worker) -> Self {
        Self {
            name: &worker.name,
            connected: worker.connected,
            paused: !worker.active,
            more: None,
        }
    }
}

impl<'a> From<&'a Description> for JsonWorker<'a> {
    fn from(worker: &'a Description) -> Self {
        Self {
            name: &worker.name,
            connected: worker.connected,
            paused: !worker.active,
            more: Some(worker.into()),
        }
    }
}

/// What to print when a command needs to know which worker is meant: a sentence, and the workers it could be.
pub(super) fn candidates<'a>(
    sentence: &str,
    workers: impl IntoIterator<Item = &'a Worker>,
) -> String {
    let mut text = format!("{sentence}\nCandidates are:");
    for worker in workers {
        text.push('\n');
        text.push_str(&described(worker));
    }
    text
}

/// The name, and in parentheses what is not as usual.
fn described(worker: &Worker) -> String {
    let unusual: Vec<&str> = [
        (!worker.connected, "disconnected"),
        (!worker.active, "paused"),
    ]
    .into_iter()
    .filter_map(|(is_so, word)| is_so.then_some(word))
    .collect();
    if unusual.is_empty() {
        worker.name.clone()
    } else {
        format!("{} ({})", worker.name, unusual.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, connected: bool, active: bool) -> Worker {
        Worker {
            name: name.to_owned(),
            active,
            connected,
        }
    }

    #[test]
    fn candidates_say_what_is_unusual_about_them() {
        let workers = [
            worker("a", true, true),
            worker("b", false, true),
            worker("c", true, false),
            worker("d", false, false),
        ];
        assert_eq!(
            candidates("Which?", &workers),
            "Which?\nCandidates are:\na\nb (disconnected)\nc (paused)\nd (disconnected, paused)"
        );
    }
}
