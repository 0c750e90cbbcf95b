//! The changes a store can make: the whole vocabulary between the scheduler and its disk.
//!
//! A change says what is now true; it never asks for a decision, and applying it twice gives the same state as
//! applying it once.

use crate::{JobId, JobRecord, Pause};

/// One change to what is remembered.
///
/// Changes of one batch take effect in order, all or none. Names are whatever the caller's checked types hold: the
/// store compares them as bytes and gives them back unchanged, NUL and non-ASCII text included.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A worker of a pool is known, with the admin's pause flag. Replaces what was known about it.
    WorkerKnown {
        /// The pool's name.
        pool: String,
        /// The worker's name, unique in its pool.
        name: String,
        /// Whether an admin paused it.
        paused: bool,
        /// Who paused it, why and when, if that was said.
        pause: Option<Pause>,
    },
    /// A worker is forgotten. Its cached hints stay until they age out or are dropped.
    WorkerForgotten {
        /// The pool's name.
        pool: String,
        /// The worker's name.
        name: String,
    },
    /// `worker` was given a job with this hint on `day`. Replaces an earlier day.
    HintCached {
        /// The pool's name.
        pool: String,
        /// The job's cache hint.
        hint: String,
        /// The worker which now holds the cache.
        worker: String,
        /// Days since 1970-01-01 UTC, see [`day_of_ms`].
        day: u32,
    },
    /// `worker` no longer counts as holding this hint.
    HintDropped {
        /// The pool's name.
        pool: String,
        /// The job's cache hint.
        hint: String,
        /// The worker.
        worker: String,
    },
    /// Every hint last cached before `day` is dropped, in every pool.
    ///
    /// Costs in proportion to what is dropped, not to what is kept.
    HintsDroppedBefore {
        /// The first day that is kept, in days since 1970-01-01 UTC.
        day: u32,
    },
    /// A client's rate in a pool is set.
    RateSet {
        /// The pool's name.
        pool: String,
        /// The client's name.
        client: String,
        /// The rate: cost units the client may use at a time. Finite and positive by the caller's check.
        rate: f64,
    },
    /// A client's rate in a pool goes back to the default.
    RateDropped {
        /// The pool's name.
        pool: String,
        /// The client's name.
        client: String,
    },
    /// A client's sturdy ref is granted. Replaces a ref with the same hash.
    ClientAdded {
        /// SHA-256 of the secret. The secret itself is never stored.
        hash: [u8; 32],
        /// The client's name.
        client: String,
        /// Days since 1970-01-01 UTC.
        created_day: u32,
    },
    /// A client is removed: all its sturdy refs and its rates in every pool. Its job records stay.
    ClientRemoved {
        /// The client's name.
        client: String,
    },
    /// A client's next job in a pool may fairly start then, in seconds since the Unix epoch.
    DebtSet {
        /// The pool's name.
        pool: String,
        /// The client's name.
        client: String,
        /// The time.
        next_fair_start: f64,
    },
    /// A durable job is accepted. Its description goes when a record of it is written with which it is over, or is dropped; the key
    /// under which it was submitted goes with the record.
    JobAccepted {
        /// Its record.
        record: Box<JobRecord>,
        /// Its whole description, sealed.
        description: Vec<u8>,
    },
    /// A job's record, new or changed: replaces the record with the same id.
    JobRecorded(Box<JobRecord>),
    /// A job's record is dropped.
    JobDropped {
        /// The job's id.
        id: JobId,
    },
    /// Job ids below `next` may be in use: none of them is handed out after a restart.
    ///
    /// A `next` that is not above the stored one changes nothing. Callers use [`JobIds`](crate::JobIds).
    JobIdsReserved {
        /// The first id that is still free for sure.
        next: u64,
    },
}

impl Change {
    /// About how many bytes this change holds in memory while it waits for the disk.
    pub(crate) fn weight(&self) -> usize {
        let text = match self {
            Self::WorkerKnown { pool, name, .. } | Self::WorkerForgotten { pool, name } => {
                pool.len() + name.len()
            }
            Self::HintCached {
                pool, hint, worker, ..
            }
            | Self::HintDropped { pool, hint, worker } => pool.len() + hint.len() + worker.len(),
            Self::RateSet { pool, client, .. } | Self::RateDropped { pool, client } => {
                pool.len() + client.len()
            }
            Self::ClientAdded { client, .. } | Self::ClientRemoved { client } => client.len(),
            Self::JobAccepted {
                record,
                description,
            } => size_of::<JobRecord>() + record.text_bytes() + description.len(),
            Self::DebtSet { pool, client, .. } => pool.len() + client.len(),
            Self::JobRecorded(record) => size_of::<JobRecord>() + record.text_bytes(),
            Self::HintsDroppedBefore { .. }
            | Self::JobDropped { .. }
            | Self::JobIdsReserved { .. } => 0,
        };
        size_of::<Self>() + text
    }
}

/// The UTC day, counted from 1970-01-01, of a time in milliseconds since the Unix epoch.
///
/// Saturates at `u32::MAX`, some eleven million years from now.
#[must_use]
pub fn day_of_ms(ms: u64) -> u32 {
    const MS_PER_DAY: u64 = 24 * 60 * 60 * 1000;
    u32::try_from(ms / MS_PER_DAY).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::day_of_ms;

    #[test]
    fn a_day_begins_at_midnight_utc() {
        assert_eq!(day_of_ms(0), 0);
        assert_eq!(day_of_ms(86_399_999), 0);
        assert_eq!(day_of_ms(86_400_000), 1);
        assert_eq!(day_of_ms(1_700_000_000_000), 19_675);
        assert_eq!(day_of_ms(u64::MAX), u32::MAX);
    }
}
