//! The runtime of a program and its signals: everything that speaks to the cluster runs on one thread, and is asked to stop by the
//! first `SIGINT` or `SIGTERM`. A second one ends the process at once, unless the program has taken the signals over.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::exit::ExitCode;
use crate::output;

/// A signal that asks a program to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGINT`: somebody pressed control-C.
    Interrupt,
    /// `SIGTERM`: a service manager, or `kill`.
    Terminate,
}

impl Signal {
    /// How a program which this signal ended exits.
    #[must_use]
    pub fn exit_code(self) -> ExitCode {
        match self {
            Self::Interrupt => ExitCode::Interrupted,
            Self::Terminate => ExitCode::Terminated,
        }
    }
}

/// Knows whether the program was asked to end. A clone knows the same.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    token: CancellationToken,
    signal: Rc<Cell<Option<Signal>>>,
    taken_over: Rc<RefCell<Option<mpsc::UnboundedSender<Signal>>>>,
}

/// The signals of a program which means to deal with every one of them. When it is dropped, things are as they were before.
#[derive(Debug)]
pub struct Signals(mpsc::UnboundedReceiver<Signal>);

impl Signals {
    /// Waits for the next signal. Cancelling the wait loses nothing.
    pub async fn next(&mut self) -> Signal {
        match self.0.recv().await {
            Some(signal) => signal,
            // The signals were taken over by somebody else.
            None => std::future::pending().await,
        }
    }
}

impl Interrupt {
    /// One that nobody has raised yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Fires at the first signal.
    #[must_use]
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Waits for the first signal. Cancelling the wait loses nothing.
    pub async fn wait(&self) -> Signal {
        self.token.cancelled().await;
        self.signal.get().unwrap_or(Signal::Terminate)
    }

    /// Asks the program to end, as if this signal had come.
    pub fn raise(&self, signal: Signal) {
        self.signal.set(Some(signal));
        self.token.cancel();
    }

    /// Hands every further signal to the caller, for as long as it keeps what this gives: then a signal neither ends the process nor
    /// raises this. A signal that came before is the first to be handed over.
    #[must_use]
    pub fn take_over(&self) -> Signals {
        let (sender, receiver) = mpsc::unbounded_channel();
        if let Some(earlier) = self.signal.get() {
            // The receiver is there.
            let _ = sender.send(earlier);
        }
        *self.taken_over.borrow_mut() = Some(sender);
        Signals(receiver)
    }

    /// Whether somebody else deals with the signal.
    fn hand_over(&self, signal: Signal) -> bool {
        let taken_over = self.taken_over.borrow();
        taken_over
            .as_ref()
            .is_some_and(|signals| signals.send(signal).is_ok())
    }
}

/// Raises the number of files this process may have open to what it may ask for: a scheduler has one for each connection and each log
/// that is read, and the usual 1,024 are few. A system that refuses leaves things as they are.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "Cannot raise the number of open files");
    }
}

/// Runs `program` to its end on this thread, in a runtime where local tasks can be spawned.
pub fn run<F>(program: impl FnOnce(Interrupt) -> F) -> ExitCode
where
    F: Future<Output = ExitCode>,
{
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            output::complain(format!(
                "cannot start: the operating system refused a runtime: {error}"
            ));
            return ExitCode::Internal;
        }
    };
    let local = tokio::task::LocalSet::new();
    let code = local.block_on(&runtime, async {
        let interrupt = Interrupt::new();
        if let Err(error) = watch_signals(&interrupt) {
            output::complain(format!("cannot start: signals cannot be received: {error}"));
            return ExitCode::Internal;
        }
        program(interrupt).await
    });
    // Tasks hold capabilities, which say goodbye when dropped: they go before the runtime they need for that. A thread that reads
    // from a terminal or resolves a name is not waited for.
    drop(local);
    runtime.shutdown_background();
    code
}

fn watch_signals(interrupt: &Interrupt) -> std::io::Result<()> {
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut terminated = signal(SignalKind::terminate())?;
    let interrupt = interrupt.clone();
    tokio::task::spawn_local(async move {
        loop {
            let received = tokio::select! {
                Some(()) = interrupted.recv() => Signal::Interrupt,
                Some(()) = terminated.recv() => Signal::Terminate,
                else => return,
            };
            if interrupt.hand_over(received) {
                continue;
            }
            if interrupt.token.is_cancelled() {
                std::process::exit(received.exit_code().number().into());
            }
            interrupt.raise(received);
        }
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_handed_over_as_long_as_somebody_takes_them() {
        let interrupt = Interrupt::new();
        assert!(!interrupt.hand_over(Signal::Interrupt));
        let mut signals = interrupt.take_over();
        assert!(interrupt.hand_over(Signal::Interrupt));
        assert_eq!(signals.0.try_recv(), Ok(Signal::Interrupt));
        drop(signals);
        assert!(!interrupt.hand_over(Signal::Interrupt));
    }

    #[test]
    fn a_signal_that_came_before_is_not_lost() {
        let interrupt = Interrupt::new();
        interrupt.raise(Signal::Terminate);
        assert_eq!(interrupt.take_over().0.try_recv(), Ok(Signal::Terminate));
    }
}
