//! What a user sees while a program connects: log lines when those are shown, a passing line on a terminal, `... OK` otherwise.

use std::convert::Infallible;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use ocluster_vat::Address;

use crate::output;

/// How long connecting may take before a terminal shows it.
const UNNOTICED: Duration = Duration::from_millis(500);

/// Tells how connecting goes. Dropping it, for whatever reason, cleans the terminal's line.
pub(crate) struct ConnectProgress {
    address: String,
    manner: Manner,
}

enum Manner {
    /// Info logging is on: log lines.
    Log,
    /// Standard error is a terminal; whether the line is on it.
    Terminal { shown: bool },
    /// A file or a pipe.
    Plain,
}

impl ConnectProgress {
    /// Begins to tell.
    pub(crate) fn begin(address: &Address) -> Self {
        let address = address.to_string();
        let manner = if tracing::enabled!(tracing::Level::INFO) {
            tracing::info!("Connecting to {address}...");
            Manner::Log
        } else if std::io::stderr().is_terminal() {
            Manner::Terminal { shown: false }
        } else {
            print(&format!("Connecting to {address}... "));
            Manner::Plain
        };
        Self { address, manner }
    }

    /// To be awaited beside the connecting; never ends.
    pub(crate) async fn show(&mut self) -> Infallible {
        if let Manner::Terminal { shown } = &mut self.manner {
            tokio::time::sleep(UNNOTICED).await;
            *shown = true;
            print(&format!("[ connecting to {} ]", self.address));
        }
        std::future::pending().await
    }

    /// Tells the end.
    pub(crate) fn end(self, connected: bool) {
        match self.manner {
            Manner::Log if connected => tracing::info!("Connected to {}", self.address),
            Manner::Plain => output::complain(if connected { "OK" } else { "ERROR" }),
            // A failure is told by whoever asked for the connection.
            Manner::Log | Manner::Terminal { .. } => {}
        }
    }
}

impl Drop for ConnectProgress {
    fn drop(&mut self) {
        if let Manner::Terminal { shown: true } = self.manner {
            // To the first column, and erase to the end of the line.
            print("\r\u{1b}[K");
        }
    }
}

fn print(text: &str) {
    let mut stderr = std::io::stderr().lock();
    // If standard error is gone there is nobody to tell.
    drop(
        stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.flush()),
    );
}
