//! What was agreed about a job's life, and what became of it.
//!
//! A job is offered with a request for work. If the answer says no more, it is *attached*: the scheduler's references keep it, and it
//! is cancelled when the last one goes. If the answer says that it is durable, it is *leased*: references do not matter, and it goes on
//! until it has ended or the lease is over.

use std::cell::Cell;
use std::rc::Rc;

use tokio_util::sync::CancellationToken;

/// Which attempt at which job a worker was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lease {
    /// The job's number in the scheduler.
    pub(crate) job: u64,
    /// The attempt, from 1.
    pub(crate) attempt: u32,
}

/// Why a job was told to stop. The first reason counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The scheduler cancelled it, or let go of it.
    Asked,
    /// The worker stops.
    WorkerStops,
    /// The lease ended here: the scheduler was away for too long, does not want the job any more, or has given out a later attempt.
    LeaseOver,
}

/// How long a job lives.
#[derive(Clone, Copy, Debug)]
enum Terms {
    /// No job yet.
    Offered,
    /// As long as the scheduler's references.
    Attached,
    /// As long as its lease.
    Leased,
}

/// What all who hold a job share. Lives on the vat thread, but for the tokens.
#[derive(Debug)]
pub(crate) struct Control {
    terms: Cell<Terms>,
    released: Cell<bool>,
    stopped: Cell<Option<Stopped>>,
    cancel: CancellationToken,
    forgotten: CancellationToken,
}

impl Control {
    /// A job that nobody has given yet.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            terms: Cell::new(Terms::Offered),
            released: Cell::new(false),
            stopped: Cell::new(None),
            cancel: CancellationToken::new(),
            forgotten: CancellationToken::new(),
        })
    }

    /// The job lives as long as the references to it, which may all be gone already.
    pub(crate) fn attach(&self) {
        self.terms.set(Terms::Attached);
        if self.released.get() {
            self.stop(Stopped::Asked);
        }
    }

    /// The job lives until its lease is over.
    pub(crate) fn lease(&self) {
        self.terms.set(Terms::Leased);
    }

    /// Whether the job lives as long as the references to it.
    pub(crate) fn is_attached(&self) -> bool {
        matches!(self.terms.get(), Terms::Attached)
    }

    /// Tells the job to stop.
    pub(crate) fn stop(&self, why: Stopped) {
        if self.stopped.get().is_none() {
            self.stopped.set(Some(why));
        }
        self.cancel.cancel();
    }

    /// Why it was told to stop, if it was.
    pub(crate) fn stopped(&self) -> Option<Stopped> {
        self.stopped.get()
    }

    /// Nobody wants the job, its outcome or its log any more. It is stopped if it runs.
    pub(crate) fn forget(&self, why: Stopped) {
        self.stop(why);
        self.forgotten.cancel();
    }

    /// Fires when the job is to stop.
    pub(crate) fn cancel_token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Fires when the job is to be forgotten.
    pub(crate) fn forgotten(&self) -> &CancellationToken {
        &self.forgotten
    }
}

/// Belongs to the references that a request for work gave to the scheduler, and goes with the last of them.
pub(crate) struct References(pub(crate) Rc<Control>);

impl Drop for References {
    fn drop(&mut self) {
        self.0.released.set(true);
        if self.0.is_attached() {
            self.0.stop(Stopped::Asked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_stopped(control: &Control) -> bool {
        control.cancel_token().is_cancelled()
    }

    #[test]
    fn an_attached_job_goes_with_its_references_even_if_they_went_before_it_began() {
        let control = Control::new();
        control.attach();
        let references = References(control.clone());
        assert!(!is_stopped(&control));
        drop(references);
        assert!(is_stopped(&control));

        let early = Control::new();
        drop(References(early.clone()));
        assert!(!is_stopped(&early), "there is no job yet");
        early.attach();
        assert!(is_stopped(&early));
    }

    #[test]
    fn a_leased_job_does_not_mind_its_references() {
        let early = Control::new();
        drop(References(early.clone()));
        early.lease();
        assert!(!is_stopped(&early));

        let late = Control::new();
        late.lease();
        drop(References(late.clone()));
        assert!(!is_stopped(&late));
    }

    #[test]
    fn the_first_reason_to_stop_is_the_reason() {
        let control = Control::new();
        control.stop(Stopped::Asked);
        control.forget(Stopped::LeaseOver);
        assert_eq!(control.stopped(), Some(Stopped::Asked));
    }
}
