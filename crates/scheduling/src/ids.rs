//! The names and numbers by which the outside and the core speak of things.
//!
//! Numbers are given by the caller and never reused; strings are shared, so that a clone costs a reference count and a
//! million queued jobs with one hint hold its text once. Nothing here decides anything.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// Defines a number given by the caller.
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

/// Defines a shared string.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text of this name.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(Arc::from(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(Arc::from(text))
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    };
}

number! {
    /// One submitted job. Given by the caller, strictly increasing in the order of submission: it breaks ties between
    /// jobs of equal urgency and fair start, so that the first submitted goes first.
    JobId
}

number! {
    /// One registration of a worker. A worker that leaves and returns under its name gets a new one.
    WorkerId
}

number! {
    /// One request for work by a worker, from its question to its answer.
    PopId
}

name! {
    /// The name of a pool, as given to the scheduler with `--pools`.
    PoolName
}

name! {
    /// The name a worker registers under; unique among the connected workers of a pool.
    WorkerName
}

name! {
    /// The name of a client, as the administrator chose it.
    ClientId
}

name! {
    /// What a job says about the cache it would like to find: equal hints, likely the same cache. Empty means none.
    Hint
}

impl Hint {
    /// Whether the job named no hint, and so has no preference for any worker.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How people see this hint: its text, or `(no cache hint)`.
    pub fn shown(&self) -> &str {
        if self.is_empty() {
            "(no cache hint)"
        } else {
            &self.0
        }
    }
}

impl Default for Hint {
    fn default() -> Self {
        Self::from("")
    }
}
