//! What can go wrong at one registry, and whether trying again or asking another one may help.
//!
//! The words are parts of sentences: whoever knows the image puts "cannot pull X: " before them. They never hold a password, a token, the
//! query of a URL (which may be a signature), or anything else that a server wrote freely.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::image::FetchError;
use crate::store::StoreError;

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(super) enum Trouble {
    /// The registry does not have it, or not for us. Trying again does not help.
    Request(String),
    /// The registry answers with nonsense. Trying again does not help.
    Source(String),
    /// It may pass; the registry may have said when.
    Passing { why: String, wait: Option<Duration> },
    /// Our own disk.
    Disk {
        action: &'static str,
        path: PathBuf,
        code: Option<i32>,
        kind: io::ErrorKind,
        text: String,
    },
    /// Nobody wants it any more.
    Cancelled,
}

impl Trouble {
    pub(super) fn passing(why: impl Into<String>) -> Self {
        Self::Passing {
            why: why.into(),
            wait: None,
        }
    }

    pub(super) fn disk(action: &'static str, path: &Path, error: &io::Error) -> Self {
        Self::Disk {
            action,
            path: path.to_owned(),
            code: error.raw_os_error(),
            kind: error.kind(),
            text: error.to_string(),
        }
    }

    /// What `host` did to a request: never an answer, always a failure to get one.
    pub(super) fn of_http(host: &str, error: &reqwest::Error) -> Self {
        // The outermost words hold the URL, which may have secrets in its query; the innermost say why.
        let mut why = "it is not understood".to_owned();
        let mut source = error.source();
        while let Some(error) = source {
            why = error.to_string();
            source = error.source();
        }
        let why: String = why.chars().filter(|c| !c.is_control()).take(200).collect();
        Self::passing(if error.is_connect() {
            format!("cannot connect to {host}: {why}")
        } else {
            format!("the connection to {host} broke: {why}")
        })
    }

    /// Whether another registry may do better.
    pub(super) fn is_the_registrys(&self) -> bool {
        matches!(
            self,
            Self::Request(_) | Self::Source(_) | Self::Passing { .. }
        )
    }

    /// In words, without the image's name.
    pub(super) fn why(&self) -> String {
        match self {
            Self::Request(why) | Self::Source(why) | Self::Passing { why, .. } => why.clone(),
            Self::Disk {
                action, path, text, ..
            } => format!("cannot {action} {}: {text}", path.display()),
            Self::Cancelled => "cancelled".to_owned(),
        }
    }

    /// The same, with what happened at mirrors before.
    pub(super) fn after(self, before: &[String]) -> Self {
        if before.is_empty() {
            return self;
        }
        let all = |why: String| format!("{why} (before: {})", before.join("; "));
        match self {
            Self::Request(why) => Self::Request(all(why)),
            Self::Source(why) => Self::Source(all(why)),
            Self::Passing { why, wait } => Self::Passing {
                why: all(why),
                wait,
            },
            other => other,
        }
    }

    /// The same, about one thing of the image.
    pub(super) fn of(self, thing: &str) -> Self {
        match self {
            Self::Request(why) => Self::Request(format!("{thing}: {why}")),
            Self::Source(why) => Self::Source(format!("{thing}: {why}")),
            Self::Passing { why, wait } => Self::Passing {
                why: format!("{thing}: {why}"),
                wait,
            },
            other => other,
        }
    }

    /// As the world outside is told, about the image `name`.
    pub(super) fn about(self, name: &str) -> FetchError {
        match self {
            Self::Request(why) => FetchError::Request(format!("cannot pull {name}: {why}")),
            Self::Source(why) | Self::Passing { why, .. } => {
                FetchError::Source(format!("cannot pull {name}: {why}"))
            }
            Self::Disk {
                action,
                path,
                code,
                kind,
                text,
            } => FetchError::Store(StoreError::Io {
                action,
                path,
                source: code
                    .map_or_else(|| io::Error::new(kind, text), io::Error::from_raw_os_error),
            }),
            Self::Cancelled => FetchError::Cancelled,
        }
    }
}
