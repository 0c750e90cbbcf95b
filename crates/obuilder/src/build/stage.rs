//! Evaluates one stage: base image, then one operation after the other.
//!
//! What there is to tell is handed on at once, as events; reading it out is somebody else's part, so a stage never waits for whoever
//! reads the log. The events are few (the spec's size bounds them), since output stays in the files of the steps' logs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use bstr::{BString, ByteSlice};
use ocluster_obuilder_spec::{self as spec, Copy, CopySource, Op, Run};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::copying::{Source, Transfer};
use super::engine::{Engine, Work};
use super::feed::Feed;
use super::layered::Layered;
use super::place::Place;
use super::plan::{Plan, Stage};
use super::run::Command;
use super::share::{Entry, Made};
use super::turns::{Turn, Turns};
use super::{BuildError, Secrets, base};
use crate::StepId;
use crate::store::Layer;

/// Something to tell, in order.
pub(super) enum Event {
    /// An operation begins.
    Heading(BString),
    /// A remark of ours.
    Note(String),
    /// All that a step tells.
    Step(Feed),
    /// The stage is over.
    End(End),
}

/// How a stage ended.
pub(super) enum End {
    /// With a result.
    Done,
    /// Because of something else in the build.
    GaveUp,
    /// By itself.
    Failed(BuildError),
}

/// What the stages of one build share.
pub(super) struct Evaluation<'a> {
    pub(super) engine: Arc<Engine>,
    pub(super) plan: &'a Plan<'a>,
    pub(super) source: &'a Path,
    pub(super) secrets: &'a Secrets,
    /// Where each stage starts.
    pub(super) start: Place,
    /// Fires when all stages are to stop.
    pub(super) halt: CancellationToken,
    pub(super) turns: Turns,
    /// The stages' results, by number.
    pub(super) results: Vec<watch::Receiver<Option<Made>>>,
    pub(super) pins: &'a Pins,
}

/// What a build touched: it stays in the store until the build is over.
#[derive(Default)]
pub(super) struct Pins(Mutex<BTreeMap<StepId, Layer>>);

impl Pins {
    fn add(&self, layer: &Layer) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(layer.id(), layer.clone());
    }
}

/// One stage being evaluated.
pub(super) struct Evaluator<'a> {
    pub(super) build: &'a Evaluation<'a>,
    pub(super) number: usize,
    pub(super) events: mpsc::UnboundedSender<Event>,
    /// Fires when the stage gave up, so that nobody goes on telling of it.
    pub(super) gave_up: CancellationToken,
    /// Where the result goes. When this is dropped without one, whoever needs it gives up.
    pub(super) result: watch::Sender<Option<Made>>,
}

impl Evaluator<'_> {
    /// Evaluates the stage, and tells how it ended.
    pub(super) async fn evaluate(self) {
        let halt = &self.build.halt;
        let result = tokio::select! {
            biased;
            // First, since what is known already counts whatever else happened meanwhile.
            result = self.stage() => result,
            () = halt.cancelled() => Err(BuildError::Cancelled),
        };
        let end = match result {
            Ok(made) => {
                self.result.send_replace(Some(made));
                End::Done
            }
            Err(BuildError::Cancelled) => {
                self.gave_up.cancel();
                halt.cancel();
                End::GaveUp
            }
            Err(error) => {
                halt.cancel();
                End::Failed(error)
            }
        };
        self.tell(Event::End(end));
    }

    async fn stage(&self) -> Result<Made, BuildError> {
        let Some(stage) = self.build.plan.stages.get(self.number) else {
            return Err(BuildError::Machine(
                "the build has no such stage".to_owned(),
            ));
        };
        let mut turn = self.build.turns.take(self.number).await;
        let mut place = self.build.start.clone();
        let from = &stage.spec.from;
        self.tell(Event::Heading(spec::from_heading(from)));
        let mut made = self.base(from).await?;
        place.env.extend_from_slice(made.layer.base_env());
        for op in &stage.spec.ops {
            self.tell(Event::Heading(spec::heading(&place.workdir, op)));
            match op {
                Op::Comment(_) => {}
                Op::Workdir(dir) => place.enter(dir),
                Op::Shell(shell) => place.shell.clone_from(shell),
                Op::Env { name, value } => place.set(name, value),
                Op::User(user) => place.user = user.clone(),
                Op::Run(run) => made = self.run(run, &place, made.layer).await?,
                Op::Copy(copy) => {
                    let (source, again) = self.source(stage, copy, turn).await?;
                    turn = again;
                    made = self.copy(source, copy, &place, made.layer).await?;
                }
            }
        }
        drop(turn);
        Ok(made)
    }

    async fn base(&self, name: &BString) -> Result<Made, BuildError> {
        let engine = &self.build.engine;
        let choice = base::choose(engine, name, &self.build.halt).await?;
        if let Some(note) = choice.note {
            self.tell(Event::Note(note));
        }
        let fetch = base::Fetch {
            id: choice.id,
            name: name.clone(),
            digest: choice.digest,
        };
        let made = match (self.step(choice.id, fetch).await, choice.instead) {
            // What the name stood for before is better than nothing.
            (Err(BuildError::Source(error)), Some(layer)) => {
                self.tell(Event::Note(base::away(name, &error)));
                Made {
                    layer,
                    cached: true,
                }
            }
            (made, _) => {
                let made = made?;
                if choice.looked_up {
                    base::Record::of(name, &made.layer)
                        .save(&engine.store, name)
                        .await;
                }
                made
            }
        };
        Ok(self.told(made))
    }

    async fn run(&self, run: &Run, place: &Place, base: Layer) -> Result<Made, BuildError> {
        let change = Command::new(run, place, self.build.secrets)?;
        let id = change.id(base.id(), run);
        let made = self.step(id, Layered { id, base, change }).await?;
        Ok(self.told(made))
    }

    async fn copy(
        &self,
        source: Source,
        copy: &Copy,
        place: &Place,
        base: Layer,
    ) -> Result<Made, BuildError> {
        let change = Transfer::scan(source, copy, place, base.id(), &self.build.halt)
            .await
            .map_err(|fault| fault.error)?;
        let id = change.id();
        let made = self.step(id, Layered { id, base, change }).await?;
        Ok(self.told(made))
    }

    /// Where `copy` takes files from. A stage that is not ready is waited for, without keeping others from working.
    async fn source(
        &self,
        stage: &Stage<'_>,
        copy: &Copy,
        turn: Turn,
    ) -> Result<(Source, Turn), BuildError> {
        let name = match &copy.from {
            CopySource::Context => {
                return Ok((Source::Directory(self.build.source.to_path_buf()), turn));
            }
            CopySource::Stage(name) => name,
        };
        let result = stage
            .sources
            .get(name)
            .and_then(|&number| self.build.results.get(number));
        let Some(mut result) = result.cloned() else {
            return Err(BuildError::Failed(format!(
                "Unknown build {} in a copy",
                spec::quoted(name.as_bytes())
            )));
        };
        if let Some(made) = result.borrow().clone() {
            return Ok((Source::Stage(made.layer), turn));
        }
        drop(turn);
        let layer = match result.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(made)) => made.layer.clone(),
            Ok(None) | Err(_) => return Err(BuildError::Cancelled),
        };
        let turn = self.build.turns.take(self.number).await;
        Ok((Source::Stage(layer), turn))
    }

    /// The step `id`, made by `work` unless it is there or somebody is making it.
    async fn step(&self, id: StepId, work: impl Work) -> Result<Made, BuildError> {
        let mut work = Some(work);
        let share = loop {
            let entry = self.build.engine.steps.enter(id, |publisher, cancel| {
                let engine = Arc::clone(&self.build.engine);
                let work = work.take();
                async move {
                    match work {
                        Some(work) => engine.make(id, &work, &publisher, &cancel).await,
                        None => Err(BuildError::Cancelled),
                    }
                }
            });
            match entry {
                Entry::Joined(share) => break share,
                Entry::Cancelling(leaving) => {
                    self.tell(Event::Note(
                        "Waiting for previous build to finish cancelling".to_owned(),
                    ));
                    leaving.over().await;
                }
            }
        };
        self.tell(Event::Step(share.feed()));
        share.outcome().await
    }

    fn told(&self, made: Made) -> Made {
        self.build.pins.add(&made.layer);
        let id = made.layer.id();
        self.tell(Event::Note(if made.cached {
            format!("---> using \"{id}\" from cache")
        } else {
            format!("---> saved as \"{id}\"")
        }));
        made
    }

    fn tell(&self, event: Event) {
        // Nobody listens any more when the build is being thrown away.
        let _ = self.events.send(event).is_ok();
    }
}
