//! What a signal does to a durable job, and what is said about it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use ocluster_cli::jobs::JobState;
use ocluster_cli::{ExitCode, Failure, Interrupt, Signal, Signals, output};
use ocluster_vat::RpcError;

use super::asking::{Answer, Asking, can_ask};
use super::run::default_on_interrupt;
use crate::DurableJob;
use crate::cli::access::Access;
use crate::cli::args::OnInterrupt;
use crate::cli::kept_job::KeptJob;

/// How long a program that was asked to end waits for the scheduler to confirm the cancellation, a lost connection included.
const CANCEL_GRACE: Duration = Duration::from_secs(5);

/// A job, and how to speak of it in examples of commands.
pub(super) struct Named<'a> {
    pub(super) id: &'a str,
    pub(super) cap: &'a str,
}

impl Named<'_> {
    pub(super) fn introduced(&self, known: bool) -> String {
        let how = if known {
            "was submitted before under this key"
        } else {
            "accepted (durable)"
        };
        format!(
            "Job {} {how}; follow it again with: {}",
            self.id,
            self.follow_command()
        )
    }

    pub(super) fn goes_on(&self) -> String {
        format!(
            "Job {} is left running; follow it again with: {}",
            self.id,
            self.follow_command()
        )
    }

    fn follow_command(&self) -> String {
        format!("ocluster-client log {} {} -f", self.cap, self.id)
    }
}

/// The signals of a program that follows a job, and what they mean.
pub(super) struct Interruption {
    policy: OnInterrupt,
    signals: Signals,
    asking: Asking,
}

impl Interruption {
    pub(super) fn new(wanted: Option<OnInterrupt>, interrupt: &Interrupt) -> Self {
        let policy = match wanted.unwrap_or_else(|| default_on_interrupt(can_ask())) {
            OnInterrupt::Ask if !can_ask() => OnInterrupt::Cancel,
            policy => policy,
        };
        Self {
            policy,
            signals: interrupt.take_over(),
            asking: Asking::new(),
        }
    }

    /// Waits for a signal.
    pub(super) async fn next(&mut self) -> Signal {
        self.signals.next().await
    }

    /// What this signal is to do to the job. A person is only asked at the keyboard.
    pub(super) async fn meant(&mut self, signal: Signal) -> Answer {
        match (self.policy, signal) {
            (OnInterrupt::Detach, _) => Answer::Leave,
            (OnInterrupt::Ask, Signal::Interrupt) => self.asking.ask(&mut self.signals).await,
            (OnInterrupt::Ask | OnInterrupt::Cancel, _) => Answer::Cancel,
        }
    }

    /// A signal came while the submission was under way. Whether the scheduler has the job is waited for, a moment, so that it can be
    /// cancelled or named.
    pub(super) async fn before_acceptance(
        mut self,
        signal: Signal,
        accepted: Pin<&mut impl Future<Output = Result<DurableJob, Failure>>>,
        access: &Access<'_>,
        cap: &str,
    ) -> Result<ExitCode, Failure> {
        let answered = tokio::select! {
            answered = tokio::time::timeout(CANCEL_GRACE, accepted) => answered.ok(),
            _ = self.signals.next() => None,
        };
        let Some(answered) = answered else {
            output::complain(format!(
                "Interrupted: the scheduler did not say whether it has accepted the job; see ocluster-client jobs {cap}"
            ));
            return Ok(signal.exit_code());
        };
        let job = KeptJob::new(access, answered?);
        let id = job.id();
        let named = Named { id: &id, cap };
        if self.policy == OnInterrupt::Detach {
            output::complain(named.goes_on());
            return Ok(signal.exit_code());
        }
        Ok(self.cancel(signal, &job, &named).await)
    }

    /// Cancels the job, waits a moment for the confirmation, and says what came of it.
    pub(super) async fn cancel(
        &mut self,
        signal: Signal,
        job: &KeptJob<'_>,
        named: &Named<'_>,
    ) -> ExitCode {
        let stopped = tokio::select! {
            stopped = tokio::time::timeout(CANCEL_GRACE, stop(job, signal)) => stopped.ok(),
            _ = self.signals.next() => None,
        };
        let id = named.id;
        output::complain(match stopped {
            Some(Ok(())) => format!("Interrupted: job {id} was cancelled."),
            Some(Err(error)) => {
                format!(
                    "Interrupted: job {id} was not cancelled: {}",
                    error.reason()
                )
            }
            None => format!(
                "Interrupted: the scheduler did not confirm that job {id} was cancelled, and it may go on; cancel it with: \
                 ocluster-client cancel {} {id}",
                named.cap
            ),
        });
        signal.exit_code()
    }
}

/// Stops the job, over as many connections as it takes. A cancellation whose answer was lost shows in the record.
async fn stop(job: &KeptJob<'_>, signal: Signal) -> Result<(), RpcError> {
    let reason = match signal {
        Signal::Interrupt => "the client that followed it was interrupted",
        Signal::Terminate => "the client that followed it was terminated",
    };
    job.persist(async |job| match job.stop(reason).await {
        Err(RpcError::Failed(refusal)) => match job.info().await?.state {
            JobState::Cancelled => Ok(()),
            _ => Err(RpcError::Failed(refusal)),
        },
        answered => answered,
    })
    .await
}
