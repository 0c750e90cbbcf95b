//! Asks a worker for one of its pages, over the connection that it has made. A worker that is slow, frozen or hostile costs no more
//! than a few waiting requests: time, number and size are bounded, and nothing it says is looked into.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ocluster_api::cluster_capnp::{additional_metric, worker};
use ocluster_scheduling::{PoolName, WorkerId, WorkerName};
use ocluster_vat::RpcError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::Instant;
use tracing::warn;

use super::route::{Segment, WorkerPage};
use crate::state::Scheduler;
use crate::worker_session::WorkerSession;

/// How long a worker may take: a little longer than our workers give an exporter, so that their reason reaches the log.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(11);
/// From when on it is logged that whoever asked has given up.
const LONG_WAIT: Duration = Duration::from_secs(3);
/// How long a question may wait for one of the places below. Together with the above it is less than Prometheus waits.
const PLACE_TIMEOUT: Duration = Duration::from_secs(1);
/// Pages of all workers that may be on their way at once; more wait.
const CALLS_AT_ONCE: usize = 256;
/// Pages of one worker that may be asked for at once: its own, its machine's, and a few more. Further ones are refused, so that one
/// frozen worker does not take all the places.
const CALLS_TO_ONE: usize = 16;
/// The longest page, in bytes.
const LONGEST_PAGE: usize = 32 << 20;
/// What all pages that were not sent to the end yet may have together, in bytes: whoever asks may read slowly, or not at all.
const ALL_PAGES: usize = 128 << 20;
/// How much of a worker's reason is logged, in characters.
const LONGEST_REASON: usize = 500;

/// A page as the worker gave it.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) content_type: Vec<u8>,
    pub(super) data: Data,
}

/// The bytes of a page, which count against what all pages may have until this is dropped.
#[derive(Debug)]
pub(super) struct Data {
    bytes: Vec<u8>,
    _counted: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Data {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What is left of the memory for pages, in bytes.
#[derive(Clone)]
struct Room(Arc<Semaphore>);

impl Room {
    /// Copies a page, if it is not too long and there is room for it.
    fn page(&self, content_type: &[u8], data: &[u8]) -> Result<Page, PageError> {
        let length = content_type.len().saturating_add(data.len());
        if length > LONGEST_PAGE {
            return Err(PageError::Failed(format!(
                "the page has {length} bytes, and may have {LONGEST_PAGE}"
            )));
        }
        let counted = u32::try_from(length)
            .ok()
            .and_then(|length| self.0.clone().try_acquire_many_owned(length).ok());
        let Some(counted) = counted else {
            return Err(PageError::Failed(
                "too many pages wait for their readers already".to_owned(),
            ));
        };
        Ok(Page {
            content_type: content_type.to_owned(),
            data: Data {
                bytes: data.to_owned(),
                _counted: counted,
            },
        })
    }
}

/// Why there is no page.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum PageError {
    /// There is no pool of this name.
    NoSuchPool,
    /// There is no worker of this name in the pool now.
    NotConnected,
    /// The worker knows nothing of this name.
    NotReported,
    /// The worker could not, or did not, answer. It was logged.
    Failed(String),
}

/// The questions that workers have not answered yet.
#[derive(Clone)]
pub(super) struct Calls {
    places: Rc<Semaphore>,
    room: Room,
    to: Rc<RefCell<HashMap<WorkerId, usize>>>,
}

impl Calls {
    /// None yet.
    pub(super) fn new() -> Self {
        Self {
            places: Rc::new(Semaphore::new(CALLS_AT_ONCE)),
            room: Room(Arc::new(Semaphore::new(ALL_PAGES))),
            to: Rc::default(),
        }
    }

    /// Begins to ask. Ends when there is an answer, or when nobody waits for one.
    pub(super) fn start(
        &self,
        scheduler: &Scheduler,
        (pool, worker, page): (Segment, Segment, WorkerPage),
        mut answer: oneshot::Sender<Result<Page, PageError>>,
    ) {
        let found = find(scheduler, &pool, &worker);
        let session = match found {
            Ok(session) => session,
            Err(error) => return drop(answer.send(Err(error))),
        };
        let Some(one_more) = self.one_more_to(session.id) else {
            let reason = "too many requests wait for this worker's answer already";
            warn_of(&session, reason);
            return drop(answer.send(Err(PageError::Failed(reason.to_owned()))));
        };
        tokio::task::spawn_local(async move {
            let asked_at = Instant::now();
            tokio::select! {
                asked = one_more.ask(&session, &page) => {
                    if let Err(PageError::Failed(reason)) = &asked {
                        warn_of(&session, reason);
                    }
                    // Whoever asked may have given up in this very moment.
                    let _ = answer.send(asked);
                }
                () = answer.closed() => {
                    let waited = asked_at.elapsed();
                    if waited >= LONG_WAIT {
                        let waited = waited.as_secs();
                        warn_of(&session, &format!("no answer within {waited} s, and then nobody waited for it any more"));
                    }
                }
            }
        });
    }

    fn one_more_to(&self, worker: WorkerId) -> Option<Call> {
        let mut to = self.to.borrow_mut();
        let count = to.entry(worker).or_default();
        if *count >= CALLS_TO_ONE {
            return None;
        }
        *count += 1;
        Some(Call {
            calls: self.clone(),
            worker,
        })
    }
}

/// One question, which counts as unanswered until this is dropped.
struct Call {
    calls: Calls,
    worker: WorkerId,
}

impl Call {
    async fn ask(&self, session: &WorkerSession, page: &WorkerPage) -> Result<Page, PageError> {
        let place = tokio::time::timeout(PLACE_TIMEOUT, self.calls.places.acquire());
        let Ok(_place) = place.await else {
            return Err(PageError::Failed(format!(
                "{CALLS_AT_ONCE} pages of all workers are awaited already"
            )));
        };
        let asked = ask(session, page, &self.calls.room);
        tokio::time::timeout(ANSWER_TIMEOUT, asked)
            .await
            .unwrap_or_else(|_| {
                Err(PageError::Failed(format!(
                    "the worker did not answer within {} s",
                    ANSWER_TIMEOUT.as_secs()
                )))
            })
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut to = self.calls.to.borrow_mut();
        if let Some(count) = to.get_mut(&self.worker) {
            *count -= 1;
            if *count == 0 {
                to.remove(&self.worker);
            }
        }
    }
}

fn find(
    scheduler: &Scheduler,
    pool: &Segment,
    worker: &Segment,
) -> Result<Rc<WorkerSession>, PageError> {
    let pool = pool.find(|name| {
        let pool = PoolName::from(name);
        let known = scheduler.look(|cluster| cluster.pools().any(|its| *its == pool));
        known.then_some(pool)
    });
    let pool = pool.ok_or(PageError::NoSuchPool)?;
    let session = worker.find(|name| scheduler.worker(&pool, &WorkerName::from(name)));
    session.ok_or(PageError::NotConnected)
}

async fn ask(session: &WorkerSession, page: &WorkerPage, room: &Room) -> Result<Page, PageError> {
    match page {
        WorkerPage::Agent => metrics(session, worker::MetricsSource::Agent, room).await,
        WorkerPage::Host => metrics(session, worker::MetricsSource::Host, room).await,
        WorkerPage::Additional(name) => {
            let mut found = additional(session, name.raw(), room).await?;
            if found.is_none()
                && let Some(decoded) = name.decoded()
            {
                found = additional(session, &decoded, room).await?;
            }
            found.ok_or(PageError::NotReported)
        }
    }
}

async fn metrics(
    session: &WorkerSession,
    source: worker::MetricsSource,
    room: &Room,
) -> Result<Page, PageError> {
    let mut request = session.cap.metrics_request();
    request.get().set_source(source);
    let answer = request.send().promise.await?;
    let answer = answer.get()?;
    room.page(
        answer.get_content_type()?.as_bytes(),
        answer.get_data()?.as_bytes(),
    )
}

async fn additional(
    session: &WorkerSession,
    name: &str,
    room: &Room,
) -> Result<Option<Page>, PageError> {
    let mut request = session.cap.additional_metric_request();
    request.get().set_source(name);
    let answer = request.send().promise.await?;
    match answer.get()?.get_metric()?.which() {
        Ok(additional_metric::Metric(metric)) => {
            let metric = metric?;
            let (kind, data) = (metric.get_content_type()?, metric.get_data()?);
            room.page(kind.as_bytes(), data.as_bytes()).map(Some)
        }
        Ok(additional_metric::NotReported(())) => Ok(None),
        Err(_) => Err(PageError::Failed(
            "the worker's answer is of an unknown kind".to_owned(),
        )),
    }
}

impl From<capnp::Error> for PageError {
    fn from(error: capnp::Error) -> Self {
        Self::Failed(RpcError::from(error).to_string())
    }
}

fn warn_of(session: &WorkerSession, reason: &str) {
    let reason = one_line(reason);
    warn!(pool = %session.pool, "Collecting metrics from worker \"{}\" failed: {reason}", session.name);
}

/// What a worker said, in a form that cannot pass for other lines of the log, nor fill it.
fn one_line(reason: &str) -> String {
    let printable = |c: char| if c.is_control() { ' ' } else { c };
    reason.chars().take(LONGEST_REASON).map(printable).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_have_a_bounded_length_each_and_together_until_they_are_sent() {
        let room = Room(Arc::new(Semaphore::new(ALL_PAGES)));
        assert!(room.page(b"t", &vec![0; LONGEST_PAGE]).is_err());
        let page = vec![0; LONGEST_PAGE - 1];
        let mut sending: Vec<_> = (0..ALL_PAGES / LONGEST_PAGE)
            .map(|_| hyper::body::Bytes::from_owner(room.page(b"t", &page).unwrap().data))
            .collect();
        assert!(room.page(b"t", b"x").is_err());
        sending.pop();
        assert!(room.page(b"t", &page).is_ok());
    }

    #[test]
    fn a_worker_cannot_forge_or_flood_the_log() {
        assert_eq!(
            one_line("away\n2026-01-01 [ERROR] all is lost"),
            "away 2026-01-01 [ERROR] all is lost"
        );
        assert_eq!(one_line(&"x".repeat(100_000)).len(), LONGEST_REASON);
    }
}
