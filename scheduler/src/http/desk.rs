//! The way from the threads that serve HTTP to the vat thread. Questions queue up in a channel of bounded length; whoever asks has
//! a deadline, and a question that nobody waits for any more is given up.

use std::rc::Rc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::route::{Segment, WorkerPage};
use super::targets::{self, KnownWorker};
use super::worker_page::{self, Page, PageError};
use crate::metrics::Picture;
use crate::state::Scheduler;

/// How long the vat thread may take to answer before the scheduler counts as sick.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Questions that wait for the vat thread to look at them.
const QUEUE: usize = 64;

/// What can be asked.
pub(super) enum Question {
    /// What the scheduling state looks like.
    Picture(oneshot::Sender<Picture>),
    /// Which workers there are.
    Workers(oneshot::Sender<Vec<KnownWorker>>),
    /// A page of a worker.
    Worker {
        pool: Segment,
        worker: Segment,
        page: WorkerPage,
        answer: oneshot::Sender<Result<Page, PageError>>,
    },
}

/// Asks the vat thread. A clone asks the same one.
#[derive(Clone)]
pub(super) struct Desk(mpsc::Sender<Question>);

/// The vat thread's end.
pub(super) struct Questions(mpsc::Receiver<Question>);

/// A desk and its other end.
pub(super) fn desk() -> (Desk, Questions) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Desk(sender), Questions(receiver))
}

impl Desk {
    /// A picture of the scheduling state; none if the vat thread does not answer.
    pub(super) async fn picture(&self) -> Option<Picture> {
        self.look(Question::Picture).await
    }

    /// All known workers; none if the vat thread does not answer.
    pub(super) async fn workers(&self) -> Option<Vec<KnownWorker>> {
        self.look(Question::Workers).await
    }

    async fn look<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (answer, seen) = oneshot::channel();
        let asked = async {
            self.0.send(question(answer)).await.ok()?;
            seen.await.ok()
        };
        tokio::time::timeout(LOOK_TIMEOUT, asked).await.ok()?
    }

    /// A page of a worker. Takes as long as the worker, within the limit of `worker_page`.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn worker_page(
        &self,
        pool: Segment,
        worker: Segment,
        page: WorkerPage,
    ) -> Result<Page, PageError> {
        let (answer, answered) = oneshot::channel();
        let question = Question::Worker {
            pool,
            worker,
            page,
            answer,
        };
        let gone = |_| PageError::Failed("the scheduler is stopping".to_owned());
        self.0.send(question).await.map_err(|_| gone(()))?;
        answered.await.map_err(|_| gone(()))?
    }
}

impl Questions {
    /// Answers until nobody can ask any more. Runs on the vat thread, which it only uses for looks and calls.
    pub(super) async fn answer(mut self, scheduler: Rc<Scheduler>) {
        let calls = worker_page::Calls::new();
        while let Some(question) = self.0.recv().await {
            match question {
                // Whoever asked may have given up.
                Question::Picture(answer) => drop(answer.send(Picture::take(&scheduler))),
                Question::Workers(answer) => drop(answer.send(targets::known(&scheduler))),
                Question::Worker {
                    pool,
                    worker,
                    page,
                    answer,
                } => calls.start(&scheduler, (pool, worker, page), answer),
            }
        }
    }
}
