//! Dockerfiles for stories: unlike any other, so that no build is answered from a cache, and with a gate that a test opens when it
//! has seen what it wanted to see.

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::image::BaseImage;

/// The label that marks everything that comes from one Dockerfile.
pub(crate) const STORY_LABEL: &str = "ocluster.story";

/// The file whose existence opens the gate.
pub(crate) const GATE: &str = "/gate";

/// What a gated build prints when it has come to the gate.
const AT_THE_GATE: &str = "waiting at the gate";

/// A Dockerfile under construction.
#[derive(Clone, Debug)]
pub struct Dockerfile {
    label: String,
    text: String,
}

impl Dockerfile {
    /// One that begins with `base` and carries a label of its own.
    #[must_use]
    pub fn from(base: &BaseImage) -> Self {
        let label = unique("build");
        Self {
            text: format!("FROM {}\nLABEL {STORY_LABEL}={label}\n", base.name()),
            label,
        }
    }

    /// Adds one instruction.
    #[must_use]
    pub fn step(mut self, instruction: &str) -> Self {
        self.text.push_str(instruction);
        self.text.push('\n');
        self
    }

    /// Adds a step that prints [`Self::at_the_gate`] and then waits until [`Engine::open_gate`](crate::Engine::open_gate).
    #[must_use]
    pub fn gate(self) -> Self {
        self.step(&format!(
            "RUN echo {AT_THE_GATE}; until [ -e {GATE} ]; do sleep 1; done; echo the gate is open"
        ))
    }

    /// What the log shows once a build waits at its gate: the output, not the instruction, which begins otherwise.
    #[must_use]
    pub fn at_the_gate() -> String {
        format!("\n{AT_THE_GATE}")
    }

    /// The value of this Dockerfile's label.
    #[must_use]
    pub fn label(&self) -> &str {
        &self.label
    }

    /// The file's content.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// A name that no other process and no other call has made.
#[must_use]
pub fn unique(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    format!(
        "{prefix}-{}-{}-{}",
        process::id(),
        since.as_millis(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    )
}
