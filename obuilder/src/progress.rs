//! What somebody at a terminal sees of work that takes long: one passing line that says what is done, and for how long already.
//!
//! Nothing of it reaches a file or a pipe, and nothing of it stays on the terminal.

use std::convert::Infallible;
use std::future::Future;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// How long work may take before it is told of, and how often the line is written anew.
const TICK: Duration = Duration::from_secs(1);

/// Does `work`, and tells of it meanwhile.
pub(crate) async fn shown<F: Future>(what: &str, work: F) -> F::Output {
    if !io::stderr().is_terminal() {
        return work.await;
    }
    let mut line = Line { seconds: 0 };
    tokio::select! {
        biased;
        output = work => output,
        never = line.tick(what) => match never {},
    }
}

/// The line on the terminal, which goes when this is dropped.
struct Line {
    seconds: u64,
}

impl Line {
    async fn tick(&mut self, what: &str) -> Infallible {
        loop {
            tokio::time::sleep(TICK).await;
            self.seconds += TICK.as_secs();
            print(&format!("\r[ {what}: {} s ]", self.seconds));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.seconds > 0 {
            // To the first column, and erase to the end of the line.
            print("\r\u{1b}[K");
        }
    }
}

fn print(text: &str) {
    let mut stderr = io::stderr().lock();
    // If standard error is gone there is nobody to tell.
    drop(
        stderr
            .write_all(text.as_bytes())
            .and_then(|()| stderr.flush()),
    );
}
