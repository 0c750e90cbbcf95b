//! The lines of an export: JSON, one line for each thing that is kept, a line about them in front and one behind.
//!
//! ```text
//! {"ocluster_store_export":{"version":1,"next_job_id":300}}
//! {"worker":{"pool":"linux","name":"w1","paused":false,"pause":null}}
//! {"job":{"record":{...},"description":"base64 of the sealed description"}}
//! {"end":{"lines":3,"sha256":"of all bytes before this line"}}
//! ```
//!
//! All of it is compressed with zstd. Exports written here are read by every later version: a change of form takes a new
//! version number.

use serde::{Deserialize, Serialize};

use crate::{Change, JobRecord, Pause};

/// The version of the form that this program writes, and the newest that it reads.
pub(super) const VERSION: u32 = 1;

/// The longest line that is read, in bytes. A description is far below, as is everything a client may send.
pub(super) const LONGEST: u64 = 256 << 20;

/// One line.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Line {
    /// The first one.
    OclusterStoreExport(Header),
    Worker {
        pool: String,
        name: String,
        paused: bool,
        pause: Option<Pause>,
    },
    Hint {
        pool: String,
        hint: String,
        worker: String,
        day: u32,
    },
    Rate {
        pool: String,
        client: String,
        #[serde(with = "crate::text_form::number")]
        rate: f64,
    },
    Debt {
        pool: String,
        client: String,
        #[serde(with = "crate::text_form::number")]
        next_fair_start: f64,
    },
    Client {
        client: String,
        #[serde(with = "crate::text_form::hash")]
        hash: [u8; 32],
        created_day: u32,
    },
    Job {
        record: Box<JobRecord>,
        /// Sealed, in base64.
        description: Option<String>,
    },
    /// The last one.
    End(End),
}

/// What an export says about itself in front.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) next_job_id: u64,
}

/// And behind.
#[derive(Serialize, Deserialize)]
pub(super) struct End {
    /// Lines before this one, the header included.
    pub(super) lines: u64,
    #[serde(with = "crate::text_form::hash")]
    pub(super) sha256: [u8; 32],
}

/// Only the version, which is read before anything else is taken for known.
#[derive(Deserialize)]
pub(super) struct AnyHeader {
    pub(super) ocluster_store_export: AnyVersion,
}

#[derive(Deserialize)]
pub(super) struct AnyVersion {
    pub(super) version: u32,
}

/// The change that makes what a record and its description tell of.
pub(super) fn job(record: Box<JobRecord>, description: Option<Vec<u8>>) -> Change {
    match description {
        Some(description) => Change::JobAccepted {
            record,
            description,
        },
        None => Change::JobRecorded(record),
    }
}
