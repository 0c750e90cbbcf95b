//! Why a worker gets no work: a set of reasons, active when it is empty.

use std::fmt;

/// One reason for which a worker is inactive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// The worker itself asked for a pause, or has registered and not yet declared itself active.
    WorkerPause,
    /// An administrator paused it. Remembered across reconnects and restarts.
    AdminPause,
    /// It is about to restart, for an update.
    ShuttingDown,
}

impl Reason {
    /// Every reason, in the order in which they are shown.
    pub const ALL: [Reason; 3] = [
        Reason::WorkerPause,
        Reason::AdminPause,
        Reason::ShuttingDown,
    ];

    const fn bit(self) -> u8 {
        match self {
            Reason::WorkerPause => 1,
            Reason::AdminPause => 2,
            Reason::ShuttingDown => 4,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reason::WorkerPause => "worker pause",
            Reason::AdminPause => "admin pause",
            Reason::ShuttingDown => "shutting down",
        })
    }
}

/// A set of reasons; the empty one means active. Displayed as `worker pause, admin pause, shutting down`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Reasons(u8);

impl Reasons {
    /// No reason: active.
    pub const NONE: Reasons = Reasons(0);

    /// Whether there is no reason, so that the worker may get work.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `reason` is among them.
    pub fn contains(self, reason: Reason) -> bool {
        self.0 & reason.bit() != 0
    }

    /// These and `reason`.
    #[must_use]
    pub fn with(self, reason: Reason) -> Self {
        Self(self.0 | reason.bit())
    }

    /// These without `reason`.
    #[must_use]
    pub fn without(self, reason: Reason) -> Self {
        Self(self.0 & !reason.bit())
    }

    /// The reasons in the order in which they are shown.
    pub fn iter(self) -> impl Iterator<Item = Reason> {
        Reason::ALL
            .into_iter()
            .filter(move |reason| self.contains(*reason))
    }
}

impl fmt::Display for Reasons {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, reason) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            reason.fmt(f)?;
        }
        Ok(())
    }
}
