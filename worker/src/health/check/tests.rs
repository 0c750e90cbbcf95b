//! An engine of paper, under simulated time.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::executor::Failure;
use crate::job::JobResult;

const PERIOD: Duration = Duration::from_secs(60);

/// What the engine is like.
#[derive(Clone, Copy, PartialEq)]
enum State {
    Well,
    Away(&'static str),
    Silent,
}

#[derive(Clone)]
struct Engine {
    state: Rc<Cell<State>>,
    /// When it was looked at, in seconds since the start.
    looks: Rc<RefCell<Vec<u64>>>,
    start: Instant,
}

impl Patient for Engine {
    async fn examine(&self) -> Result<(), String> {
        self.looks.borrow_mut().push(self.start.elapsed().as_secs());
        match self.state.get() {
            State::Well => Ok(()),
            State::Away(reason) => Err(reason.to_owned()),
            State::Silent => std::future::pending().await,
        }
    }
}

struct Story {
    engine: Engine,
    health: watch::Receiver<Health>,
    trouble: Trouble,
    run: std::pin::Pin<Box<dyn Future<Output = ()>>>,
}

fn story(state: State, may_never_come: bool) -> Story {
    let engine = Engine {
        state: Rc::new(Cell::new(state)),
        looks: Rc::default(),
        start: Instant::now(),
    };
    let (told, health) = watch::channel(Health::Unknown);
    let trouble = Trouble::default();
    let check = HealthCheck {
        patient: engine.clone(),
        checked: Checked::Engine,
        period: PERIOD,
        limit: Duration::from_secs(30),
        may_never_come,
        metrics: Metrics::default(),
        trouble: trouble.clone(),
        told,
    };
    Story {
        engine,
        health,
        trouble,
        run: Box::pin(check.run()),
    }
}

impl Story {
    /// Lets so many seconds pass.
    async fn pass(&mut self, seconds: u64) {
        let _ = timeout(Duration::from_secs(seconds), &mut self.run).await;
    }

    fn becomes(&self, state: State) {
        self.engine.state.set(state);
    }

    fn health(&self) -> Health {
        self.health.borrow().clone()
    }

    fn bad(&self, reason: &str) -> bool {
        self.health() == Health::Bad(reason.to_owned())
    }

    fn looks(&self) -> Vec<u64> {
        self.engine.looks.take()
    }
}

#[tokio::test(start_paused = true)]
async fn a_healthy_engine_is_looked_at_once_in_a_period() {
    let mut story = story(State::Well, false);
    assert_eq!(story.health(), Health::Unknown);
    story.pass(200).await;
    assert_eq!(story.health(), Health::Good);
    assert_eq!(story.looks(), [0, 60, 120, 180]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_goes_away_is_asked_for_soon_and_then_less_often_until_it_is_back() {
    let mut story = story(State::Well, false);
    story.pass(10).await;
    story.becomes(State::Away("gone"));
    story.pass(240).await;
    assert!(story.bad("gone"));
    assert_eq!(story.looks(), [0, 60, 62, 66, 74, 90, 122, 182, 242]);

    story.becomes(State::Well);
    story.pass(60).await;
    assert_eq!(story.health(), Health::Good);
    // The next time begins anew.
    story.becomes(State::Away("gone again"));
    story.looks();
    story.pass(60).await;
    assert!(story.bad("gone again"));
    assert_eq!(story.looks(), [362, 364, 368]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_hangs_is_bad_after_a_while() {
    let mut story = story(State::Silent, false);
    story.pass(29).await;
    assert_eq!(story.health(), Health::Unknown);
    story.pass(2).await;
    assert!(story.bad("the Docker engine does not answer within 30 s"));
    story.becomes(State::Well);
    story.pass(5).await;
    assert_eq!(story.health(), Health::Good);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_was_never_there_is_not_missed_by_a_worker_that_does_other_things() {
    let mut story = story(State::Away("no socket"), true);
    story.pass(100).await;
    assert_eq!(story.health(), Health::Good);
    // But once it has been there, it is.
    story.becomes(State::Well);
    story.pass(60).await;
    story.becomes(State::Away("no socket"));
    story.pass(60).await;
    assert!(story.bad("no socket"));
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_was_never_there_is_missed_by_a_worker_that_needs_it() {
    let mut story = story(State::Away("no socket"), false);
    story.pass(1).await;
    assert!(story.bad("no socket"));
}

#[tokio::test(start_paused = true)]
async fn a_job_that_fails_because_of_the_engine_has_it_looked_at_at_once() {
    let mut story = story(State::Well, false);
    story.pass(10).await;
    story.becomes(State::Away("gone"));
    let lost = JobResult::Outcome(Failure::engine("lost the engine").into());
    for _ in 0..6 {
        story.trouble.note(&lost);
    }
    story.pass(1).await;
    assert!(story.bad("gone"));
    assert_eq!(story.looks(), [0, 10]);
    // When it is well again, the next job need not wait for what the last ones met.
    story.becomes(State::Well);
    story.pass(2).await;
    assert_eq!(story.health(), Health::Good);
    let start = Instant::now();
    story.trouble.pause().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}
