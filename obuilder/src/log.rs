//! What a build tells on a terminal: headings and remarks on standard error, in colours if it can show them; what steps print on
//! standard output, as it is.

use std::io::{self, IsTerminal as _, Write as _};

use bytes::Bytes;
use futures::future::BoxFuture;
use ocluster_obuilder::build::BuildLog;

/// Tells on standard output and standard error.
pub(crate) struct Terminal {
    colours: bool,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colours: io::stderr().is_terminal() && !no_color,
        }
    }

    /// In one piece, so that nothing gets in between. If the terminal is gone, there is nobody left to tell.
    fn tell(&self, colour: &str, before: &str, text: &[u8]) {
        let line = if self.colours {
            let (start, end) = (format!("\x1b[{colour}m"), "\x1b[0m\n");
            [before.as_bytes(), start.as_bytes(), text, end.as_bytes()].concat()
        } else {
            [before.as_bytes(), text, b"\n"].concat()
        };
        drop(io::stderr().lock().write_all(&line));
    }
}

impl BuildLog for Terminal {
    fn heading<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        self.tell("01;34", "\n", &text);
        Box::pin(std::future::ready(()))
    }

    fn note<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
        self.tell("01;33", "", &text);
        Box::pin(std::future::ready(()))
    }

    fn output<'a>(&'a self, bytes: Bytes) -> BoxFuture<'a, ()> {
        let mut output = io::stdout().lock();
        drop(output.write_all(&bytes).and_then(|()| output.flush()));
        Box::pin(std::future::ready(()))
    }
}
