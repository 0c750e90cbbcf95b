//! What was brought over, in numbers.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use ocluster_cli::{OutputMode, output};
use ocluster_store::Snapshot;
use serde::Serialize;

/// What a chore did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `imported`, `would-import` or `exported`.
    pub done: Done,
    /// Where it came from.
    pub from: PathBuf,
    /// Where it went.
    pub to: PathBuf,
    /// Clients' capabilities.
    pub clients: usize,
    /// Known workers, paused ones among them.
    pub workers: usize,
    /// Workers that an administrator has paused.
    pub paused_workers: usize,
    /// Pairs of a cache hint and a worker.
    pub hints: usize,
    /// Rates of clients.
    pub rates: usize,
    /// The pools all that is about.
    pub pools: Vec<String>,
    /// Clients with more than one capability, which OCluster's scheduler honours but refuses to remove.
    pub several_secrets: Vec<String>,
}

/// Which chore it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Done {
    /// Everything was brought over.
    Imported,
    /// It would have been, if that had been wanted.
    WouldImport,
    /// Everything was written.
    Exported,
}

impl Report {
    /// The numbers of what was moved.
    pub(super) fn new(done: Done, from: &Path, to: &Path, moved: &Snapshot) -> Self {
        let pools: BTreeSet<&str> = moved
            .workers
            .iter()
            .map(|worker| worker.pool.as_str())
            .chain(moved.hints.iter().map(|hint| hint.pool.as_str()))
            .chain(moved.rates.iter().map(|rate| rate.pool.as_str()))
            .collect();
        Self {
            done,
            from: from.to_owned(),
            to: to.to_owned(),
            clients: moved.clients.len(),
            workers: moved.workers.len(),
            paused_workers: moved.workers.iter().filter(|worker| worker.paused).count(),
            hints: moved.hints.len(),
            rates: moved.rates.len(),
            pools: pools.into_iter().map(str::to_owned).collect(),
            several_secrets: several_secrets(moved),
        }
    }

    /// Prints it.
    ///
    /// # Errors
    /// When standard output is gone.
    pub fn print(&self, mode: OutputMode) -> io::Result<()> {
        match mode {
            OutputMode::Json => output::json(self),
            OutputMode::Human => output::line(self.text()),
        }
    }

    fn text(&self) -> String {
        let (from, to) = (self.from.display(), self.to.display());
        let head = match self.done {
            Done::Imported => format!("Imported from {from} into {to}:"),
            Done::WouldImport => format!("Would import from {from} into {to}:"),
            Done::Exported => format!("Exported from {from} into {to}:"),
        };
        let workers = match self.paused_workers {
            0 => String::new(),
            paused => format!(" ({paused} paused)"),
        };
        let pools = match self.pools.as_slice() {
            [] => String::new(),
            pools => format!("\n  pools:   {}", pools.join(", ")),
        };
        let several = match (self.done, self.several_secrets.as_slice()) {
            (Done::Exported, [_, ..]) => format!(
                "\nOCluster's scheduler cannot remove a client that has got a second secret: {}. Both secrets work. If you want to \
                 remove it there one day, remove it and add it anew here, and export again.",
                self.several_secrets.join(", ")
            ),
            _ => String::new(),
        };
        format!(
            "{head}\n  clients: {}\n  workers: {}{workers}\n  hints:   {}\n  rates:   {}{pools}{several}",
            self.clients, self.workers, self.hints, self.rates
        )
    }
}

/// The clients that occur more than once, each once.
fn several_secrets(moved: &Snapshot) -> Vec<String> {
    let mut names: Vec<&str> = moved
        .clients
        .iter()
        .map(|client| client.client.as_str())
        .collect();
    names.sort_unstable();
    let mut several: Vec<String> = names
        .windows(2)
        .filter_map(|pair| match pair {
            [one, other] if one == other => Some((*one).to_owned()),
            _ => None,
        })
        .collect();
    several.dedup();
    several
}

/// What a store holds, for a sentence; empty if it holds nothing that is moved.
pub(super) fn contents(held: &Snapshot) -> String {
    let counts = [
        (held.clients.len(), "clients"),
        (held.workers.len(), "workers"),
        (held.hints.len(), "hints"),
        (held.rates.len(), "rates"),
    ];
    let some: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    some.join(", ")
}
