//! The runtime of a program and its signals: everything that speaks to the cluster runs on one thread, and is asked to stop by the
//! first `SIGINT` or `SIGTERM`. A second one ends the process at once.

use std::cell::Cell;
use std::future::Future;
use std::rc::Rc;

use tokio::signal::unix::{SignalKind, signal};
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
            if interrupt.token.is_cancelled() {
                std::process::exit(received.exit_code().number().into());
            }
            interrupt.raise(received);
        }
    });
    Ok(())
}
