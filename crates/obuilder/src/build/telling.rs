//! Reads the log of a build out in serial order, whatever the order in which its stages work.

use std::collections::BTreeSet;

use bstr::{BString, ByteSlice};
use bytes::Bytes;
use ocluster_obuilder_spec as spec;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, Told};
use super::plan::{Plan, Section};
use super::stage::{End, Event};
use super::{BuildError, BuildLog};

/// The listening end of one stage.
pub(super) struct Listener {
    pub(super) events: mpsc::UnboundedReceiver<Event>,
    /// Fires when the stage gave up.
    pub(super) gave_up: CancellationToken,
}

/// Tells all of `plan` to `log`, and then how the build ended: the first failure in serial order, if there is one.
pub(super) async fn tell(
    plan: &Plan<'_>,
    listeners: Vec<Listener>,
    log: &dyn BuildLog,
) -> Result<(), BuildError> {
    let mut listeners: Vec<_> = listeners.into_iter().map(Some).collect();
    let mut teller = Teller {
        log,
        opened: Vec::new(),
    };
    let mut given_up = BTreeSet::new();
    for section in &plan.sections {
        match section {
            // Told as soon as there is something within it, so that a build that ends early does not name what it never began.
            Section::Open(name) => teller.opened.push(name),
            Section::Body(number) => {
                let Some(listener) = listeners.get_mut(*number).and_then(Option::take) else {
                    continue;
                };
                match teller.stage(listener).await {
                    End::Done => {}
                    End::GaveUp => {
                        given_up.insert(*number);
                    }
                    End::Failed(error) => return Err(error),
                }
            }
            Section::Close(_, number) if given_up.contains(number) => {
                teller.opened.pop();
            }
            Section::Close(name, _) => {
                let text = format!("--> finished {}", spec::quoted(name.as_bytes()));
                log.note(text.into()).await;
            }
        }
    }
    if given_up.is_empty() {
        Ok(())
    } else {
        Err(BuildError::Cancelled)
    }
}

struct Teller<'a> {
    log: &'a dyn BuildLog,
    /// Stages that were begun, with nothing told of them so far.
    opened: Vec<&'a BString>,
}

impl Teller<'_> {
    async fn stage(&mut self, mut listener: Listener) -> End {
        let mut begun = false;
        loop {
            let event = tokio::select! {
                biased;
                () = listener.gave_up.cancelled() => Event::End(End::GaveUp),
                event = listener.events.recv() => event.unwrap_or(Event::End(End::GaveUp)),
            };
            match event {
                Event::Heading(text) => {
                    for name in self.opened.drain(..) {
                        self.log.heading(bytes(spec::build_heading(name))).await;
                    }
                    begun = true;
                    self.log.heading(bytes(text)).await;
                }
                Event::Note(text) => self.log.note(text.into()).await,
                Event::Step(feed) => {
                    tokio::select! {
                        biased;
                        () = listener.gave_up.cancelled() => {}
                        () = self.step(feed) => {}
                    }
                }
                Event::End(End::GaveUp) => {
                    if begun {
                        let text = "stopped, since another stage of the build failed";
                        self.log.note(Bytes::from_static(text.as_bytes())).await;
                    }
                    return End::GaveUp;
                }
                Event::End(end) => return end,
            }
        }
    }

    async fn step(&self, mut feed: Feed) {
        loop {
            match feed.next().await {
                Ok(Some(Told::Output(bytes))) => self.log.output(bytes).await,
                Ok(Some(Told::Note(text))) => self.log.note(bytes(text)).await,
                Ok(None) => return,
                Err(error) => {
                    let text = format!("the log of this step cannot be read: {error}");
                    self.log.note(text.into()).await;
                }
            }
        }
    }
}

fn bytes(text: BString) -> Bytes {
    Vec::from(text).into()
}
