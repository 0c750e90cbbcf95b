//! Custom jobs whose payload is a text, which is all that many kinds need.
//!
//! A text holds anything that can be written down, JSON for example. Kinds with a schema of their own use [`CustomJob::new`] and
//! [`CustomJob::payload`] instead.

use thiserror::Error;

use crate::job::CustomJob;

/// Why the payload of a job is not a text.
#[derive(Debug, Error)]
pub enum PayloadTextError {
    /// It is something else, or not a message at all.
    #[error("the payload of a job of the kind `{kind}` must be a text: {error}")]
    NotText {
        /// The job's kind.
        kind: String,
        /// What it looks like instead.
        #[source]
        error: capnp::Error,
    },
    /// The text's bytes are none.
    #[error("the payload of a job of the kind `{kind}` must be UTF-8 text")]
    NotUtf8 {
        /// The job's kind.
        kind: String,
    },
}

impl CustomJob {
    /// A job of a kind whose payload is a text.
    ///
    /// # Errors
    /// None that real texts cause; a text of half a gigabyte does not fit into a message.
    pub fn with_text(kind: impl Into<String>, text: &str) -> capnp::Result<Self> {
        Self::new(kind, |mut root| root.set_as(text))
    }

    /// The payload, if it is a text. A payload that is not there is an empty text.
    ///
    /// # Errors
    /// A sentence for the client, fit to be the reason of a refusal.
    pub fn payload_text(&self) -> Result<String, PayloadTextError> {
        let not_text = |error| PayloadTextError::NotText {
            kind: self.kind.clone(),
            error,
        };
        let message = self.payload().map_err(not_text)?;
        let text = message
            .get_root::<capnp::text::Reader<'_>>()
            .map_err(not_text)?;
        text.to_string().map_err(|_| PayloadTextError::NotUtf8 {
            kind: self.kind.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_survives_the_payload() {
        let job = CustomJob::with_text("solve", "1 + 1 = ?\n\0ü").unwrap();
        assert_eq!(job.kind, "solve");
        assert_eq!(job.payload_text().unwrap(), "1 + 1 = ?\n\0ü");
    }

    #[test]
    fn a_payload_that_is_not_there_is_an_empty_text() {
        let job = CustomJob::new("solve", |_| Ok(())).unwrap();
        assert_eq!(job.payload_text().unwrap(), "");
    }

    #[test]
    fn what_is_no_text_is_refused_with_the_kind() {
        let mut job = CustomJob::new("solve", |mut root| {
            root.set_as(capnp::text::Reader(b"\xff"))
        })
        .unwrap();
        let sentence = "the payload of a job of the kind `solve` must be UTF-8 text";
        assert_eq!(job.payload_text().unwrap_err().to_string(), sentence);
        job.payload = b"junk".to_vec();
        let error = job.payload_text().unwrap_err().to_string();
        assert!(
            error.starts_with("the payload of a job of the kind `solve` must be a text: "),
            "{error}"
        );
        let list = CustomJob::new("solve", |root| {
            root.initn_as::<capnp::primitive_list::Builder<'_, u64>>(3);
            Ok(())
        });
        let error = list.unwrap().payload_text().unwrap_err().to_string();
        assert!(error.contains("must be a text: "), "{error}");
    }
}
