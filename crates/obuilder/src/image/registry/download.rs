//! One layer from registries onto the disk: attempts, resuming, and the comparison with its digest.
//!
//! A cut costs only what was not there yet: the next attempt asks for the rest, at the same registry or the next one. What is whole but
//! wrong is removed; if parts of it came from elsewhere, the whole is fetched once more before anybody is blamed.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use reqwest::header::{CONTENT_RANGE, HeaderMap};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Digest;
use super::endpoint::Endpoint;
use super::partial::{Partial, whole_path};
use super::patience::Patience;
use super::progress::State;
use super::transport::{LEAST_PROGRESS, Question, StallWatch, Transport};
use super::trouble::Trouble;
use crate::size::Size;

/// How many pieces may wait for the disk.
const WAITING: usize = 8;

/// A layer to be downloaded.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) transport: Arc<Transport>,
    /// Who is asked for it, in this order. Not empty.
    pub(super) endpoints: Arc<Vec<Endpoint>>,
    pub(super) digest: Digest,
    pub(super) size: Option<u64>,
    /// The registry that the image's name names, whoever is asked first.
    pub(super) origin: String,
    /// Which of the files for this digest is its own: 0 unless somebody downloads the same from another registry.
    pub(super) place: usize,
}

impl Job {
    /// Where it is when it is whole.
    pub(super) fn whole(&self) -> PathBuf {
        whole_path(&self.transport.config.blobs, self.digest, self.place)
    }

    fn most(&self) -> u64 {
        self.size
            .unwrap_or(self.transport.config.limits.largest_layer)
    }

    /// Downloads it. When `cancel` fires it stops, and what is there stays.
    pub(super) async fn run(
        &self,
        state: &watch::Sender<State>,
        cancel: &CancellationToken,
    ) -> Result<(), Trouble> {
        let (whole, most, token) = (self.whole(), self.most(), cancel.clone());
        let opening = spawn_blocking(move || Partial::open(&whole, most, &token));
        let mut partial = opening.await.unwrap_or_else(|_| Err(lost()))?;
        state.send_modify(|state| state.done = partial.len());
        let mut before = Vec::new();
        let mut result = Err(Trouble::Request("nobody is asked for it".to_owned()));
        for endpoint in self.endpoints.iter() {
            if endpoint.is_mirror && endpoint.has_failed() {
                continue;
            }
            let trouble;
            (partial, trouble) = self.from(endpoint, partial, state, cancel).await?;
            let Some(trouble) = trouble else {
                result = Ok(());
                break;
            };
            if endpoint.is_mirror && trouble.is_the_registrys() {
                endpoint.set_failed();
                state.send_modify(|state| {
                    state.note(format!("passing over {}: {}", endpoint.name, trouble.why()));
                });
                before.push(trouble.why());
            } else {
                result = Err(trouble.after(&before));
                break;
            }
        }
        let whole = self.whole();
        let is_wrong = matches!(result, Err(Trouble::Source(_))) && partial.len() >= most;
        let ending = spawn_blocking(move || match result {
            Ok(()) => partial.finish(&whole),
            Err(trouble) => {
                if is_wrong || partial.len() == 0 {
                    partial.remove();
                }
                Err(trouble)
            }
        });
        ending.await.unwrap_or_else(|_| Err(lost()))
    }

    /// From one registry, until it is whole or the registry cannot.
    async fn from(
        &self,
        endpoint: &Endpoint,
        mut partial: Partial,
        state: &watch::Sender<State>,
        cancel: &CancellationToken,
    ) -> Result<(Partial, Option<Trouble>), Trouble> {
        let limits = &self.transport.config.limits;
        let mut patience = Patience::with(endpoint, limits);
        // Whether some of it came from elsewhere.
        let mut is_mixed = partial.len() > 0;
        loop {
            let (start, since) = (partial.len(), Instant::now());
            let attempt;
            (partial, attempt) = if self.size == Some(start) {
                (partial, Ok(()))
            } else {
                self.attempt(endpoint, partial, state, cancel).await?
            };
            is_mixed &= partial.len() >= start;
            let trouble = match attempt {
                Ok(()) if partial.digest() == self.digest => return Ok((partial, None)),
                Ok(()) => {
                    let found = partial.digest();
                    if !is_mixed {
                        let why = format!(
                            "{} sent {} whose digest is {found}",
                            endpoint.name,
                            Size(partial.len())
                        );
                        return Ok((partial, Some(Trouble::Source(why))));
                    }
                    is_mixed = false;
                    state.send_modify(|state| {
                        state.note("what was there of it does not fit; starting again".to_owned());
                    });
                    partial = emptied(partial).await?;
                    continue;
                }
                Err(trouble) => trouble,
            };
            let brought = partial.len().saturating_sub(start);
            if brought >= LEAST_PROGRESS.max(limits.least_within(since.elapsed())) {
                patience.restore();
            }
            let Some(wait) = patience.after(&trouble) else {
                let times = patience.attempts();
                let trouble = match trouble {
                    Trouble::Passing { why, wait } if times > 1 => Trouble::Passing {
                        why: format!("{why}, {times} times in a row"),
                        wait,
                    },
                    other => other,
                };
                return Ok((partial, Some(trouble)));
            };
            state.send_modify(|state| {
                let there = Size(partial.len());
                state.note(format!("{}; going on from {there}", trouble.why()));
            });
            if cancel.run_until_cancelled(sleep(wait)).await.is_none() {
                return Ok((partial, Some(Trouble::Cancelled)));
            }
        }
    }

    /// One question for what is missing.
    async fn attempt(
        &self,
        endpoint: &Endpoint,
        mut partial: Partial,
        state: &watch::Sender<State>,
        cancel: &CancellationToken,
    ) -> Result<(Partial, Result<(), Trouble>), Trouble> {
        let digest = self.digest.to_string();
        let question = Question {
            endpoint,
            method: &Method::GET,
            what: ("blobs", &digest),
            accept: "*/*",
            from: partial.len(),
        };
        let asked = cancel.run_until_cancelled(self.transport.ask(&question));
        let response = match asked.await {
            None => return Ok((partial, Err(Trouble::Cancelled))),
            Some(Ok(response)) => response,
            Some(Err(trouble)) => return Ok((partial, Err(trouble))),
        };
        if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
            let why = format!("{} has nothing after that", endpoint.name);
            return Ok((emptied(partial).await?, Err(Trouble::passing(why))));
        }
        let start = match check_extent(&response, partial.len(), self.size) {
            Ok(start) => start,
            Err(why) => {
                let trouble = Trouble::Source(format!("{} {why}", endpoint.name));
                return Ok((partial, Err(trouble)));
            }
        };
        if start == 0 && partial.len() > 0 {
            state.send_modify(|state| {
                state.note(format!(
                    "{} sends only the whole; starting again",
                    endpoint.name
                ));
            });
            partial = emptied(partial).await?;
        }
        self.receive(endpoint, response, partial, state, cancel)
            .await
    }

    /// Reads an answer's body into the file. Reading and hashing go on at the same time.
    async fn receive(
        &self,
        endpoint: &Endpoint,
        mut response: Response,
        mut partial: Partial,
        state: &watch::Sender<State>,
        cancel: &CancellationToken,
    ) -> Result<(Partial, Result<(), Trouble>), Trouble> {
        let (pieces, mut waiting) = mpsc::channel::<Bytes>(WAITING);
        let mut received = partial.len();
        let writer = spawn_blocking(move || {
            while let Some(piece) = waiting.blocking_recv() {
                partial.append(&piece)?;
            }
            Ok(partial)
        });
        let mut watch = StallWatch::new(&self.transport.config.limits);
        let name = &endpoint.name;
        let end = loop {
            let reading = cancel.run_until_cancelled(watch.chunk(&mut response, name));
            let piece = match reading.await {
                None => break Err(Trouble::Cancelled),
                Some(Ok(Some(piece))) => piece,
                Some(Ok(None)) => break Ok(()),
                Some(Err(trouble)) => break Err(trouble),
            };
            received += piece.len() as u64;
            if received > self.most() {
                break Err(Trouble::Source(format!(
                    "{name} sends more than the {} bytes that it may have",
                    self.most()
                )));
            }
            let before = Instant::now();
            if pieces.send(piece).await.is_err() {
                // The writer says why.
                break Ok(());
            }
            watch.excuse(before.elapsed());
            state.send_modify(|state| state.done = received);
        };
        drop(pieces);
        let partial = writer.await.unwrap_or_else(|_| Err(lost()))?;
        let end = end.and_then(|()| match self.size {
            Some(size) if partial.len() < size => Err(Trouble::passing(format!(
                "{name} sent only {} of {size} bytes",
                partial.len()
            ))),
            _ => Ok(()),
        });
        Ok((partial, end))
    }
}

/// Where an answer's body starts, if its length is right.
fn check_extent(response: &Response, asked: u64, size: Option<u64>) -> Result<u64, String> {
    let length = response.content_length();
    if response.status() == StatusCode::PARTIAL_CONTENT {
        let Some((start, total)) = content_range(response.headers()) else {
            return Err("sends a part without saying which".to_owned());
        };
        if start != asked {
            return Err(format!("sends the part from {start} instead of {asked}"));
        }
        return match (total, size) {
            (Some(total), Some(size)) if total != size => Err(wrong_length(total, size)),
            _ => Ok(start),
        };
    }
    match (length, size) {
        (Some(length), Some(size)) if length != size => Err(wrong_length(length, size)),
        _ => Ok(0),
    }
}

fn wrong_length(length: u64, size: u64) -> String {
    format!("has {length} bytes where the manifest says {size}")
}

/// The first byte and the whole length in `Content-Range: bytes FIRST-LAST/TOTAL`.
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    Some((first.trim().parse().ok()?, total))
}

async fn emptied(mut partial: Partial) -> Result<Partial, Trouble> {
    let emptying = spawn_blocking(move || partial.restart().map(|()| partial));
    emptying.await.unwrap_or_else(|_| Err(lost()))
}

/// Work on the disk ended without an answer: the program is being stopped.
fn lost() -> Trouble {
    Trouble::Cancelled
}
