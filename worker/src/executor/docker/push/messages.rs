//! What the engine says during a push: a JSON object on each line.
//!
//! Lines for the log are those of `docker push` when its output is not a terminal: progress bars are left out, every status gets a
//! line of its own.

use serde::Deserialize;

/// A line that is longer than this is not read any further.
const LONGEST_LINE: usize = 1 << 20;

/// What a message is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A line for the log.
    Line(String),
    /// The push is done, and this is the image's digest in the registry: `sha256:...`.
    Digest(String),
    /// The push failed.
    Failed(String),
}

/// Puts the answer's bytes together to messages.
#[derive(Default)]
pub(super) struct Messages {
    unfinished: Vec<u8>,
}

/// The engine's answer is not what it should be.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable;

impl Messages {
    /// The messages that end with `bytes`. Progress is left out.
    ///
    /// # Errors
    /// If a line is no message.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Said>, Unreadable> {
        self.unfinished.extend_from_slice(bytes);
        let Some(end) = self.unfinished.iter().rposition(|byte| *byte == b'\n') else {
            return if self.unfinished.len() > LONGEST_LINE {
                Err(Unreadable)
            } else {
                Ok(Vec::new())
            };
        };
        let rest = self.unfinished.split_off(end + 1);
        let whole = std::mem::replace(&mut self.unfinished, rest);
        let lines = whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        lines
            .filter(|line| !line.is_empty())
            .filter_map(|line| read_line(line).transpose())
            .collect()
    }
}

#[derive(Deserialize)]
struct Message {
    id: Option<String>,
    status: Option<String>,
    #[serde(rename = "progressDetail")]
    progress: Option<Progress>,
    error: Option<String>,
    #[serde(rename = "errorDetail")]
    error_detail: Option<ErrorDetail>,
    aux: Option<Aux>,
}

#[derive(Deserialize)]
struct Progress {
    current: Option<i64>,
    total: Option<i64>,
}

#[derive(Deserialize)]
struct ErrorDetail {
    message: Option<String>,
}

#[derive(Deserialize)]
struct Aux {
    #[serde(rename = "Digest")]
    digest: Option<String>,
}

fn read_line(line: &[u8]) -> Result<Option<Said>, Unreadable> {
    let message: Message = serde_json::from_slice(line).map_err(|_| Unreadable)?;
    let error = message.error_detail.and_then(|detail| detail.message);
    if let Some(error) = error.or(message.error) {
        return Ok(Some(Said::Failed(error)));
    }
    if let Some(aux) = message.aux {
        return Ok(aux.digest.map(Said::Digest));
    }
    let is_bar = message.progress.is_some_and(|progress| {
        progress.current.is_some_and(|current| current > 0)
            || progress.total.is_some_and(|total| total > 0)
    });
    let status = message.status.filter(|_| !is_bar);
    Ok(status.map(|status| match message.id {
        Some(id) if !id.is_empty() => Said::Line(format!("{id}: {status}")),
        _ => Said::Line(status),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Said {
        Said::Line(text.to_owned())
    }

    #[test]
    fn a_push_is_told_as_docker_tells_it() {
        let answer = concat!(
            r#"{"status":"The push refers to repository [127.0.0.1:5999/x]"}"#,
            "\r\n",
            r#"{"status":"Preparing","progressDetail":{},"id":"e402fd3a21e2"}"#,
            "\r\n",
            r#"{"status":"Pushing","progressDetail":{"current":512,"total":1982291},"progress":"[>  ]","id":"e402fd3a21e2"}"#,
            "\r\n",
            r#"{"status":"Pushed","progressDetail":{},"id":"e402fd3a21e2"}"#,
            "\r\n",
            r#"{"status":"v1: digest: sha256:53e0 size: 528"}"#,
            "\r\n",
            r#"{"progressDetail":{},"aux":{"Tag":"v1","Digest":"sha256:53e0","Size":528}}"#,
            "\r\n",
        );
        let expected = [
            line("The push refers to repository [127.0.0.1:5999/x]"),
            line("e402fd3a21e2: Preparing"),
            line("e402fd3a21e2: Pushed"),
            line("v1: digest: sha256:53e0 size: 528"),
            Said::Digest("sha256:53e0".to_owned()),
        ];
        assert_eq!(
            Messages::default().read(answer.as_bytes()).unwrap(),
            expected
        );
        // The same, in pieces as small as can be.
        let mut messages = Messages::default();
        let mut said = Vec::new();
        for byte in answer.as_bytes() {
            said.extend(messages.read(&[*byte]).unwrap());
        }
        assert_eq!(said, expected);
    }

    #[test]
    fn a_failure_is_told_in_the_engine_s_words() {
        let both = br#"{"errorDetail":{"message":"denied: no"},"error":"denied: no"}
"#;
        let plain = b"{\"error\":\"denied: no\"}\n";
        for answer in [&both[..], &plain[..]] {
            let failed = Said::Failed("denied: no".to_owned());
            assert_eq!(Messages::default().read(answer), Ok(vec![failed]));
        }
    }

    #[test]
    fn rubbish_and_endless_lines_are_refused() {
        assert_eq!(Messages::default().read(b"<html>\n"), Err(Unreadable));
        let mut messages = Messages::default();
        let mut endless = (0..200).map(|_| messages.read(&[b'x'; 8192]));
        assert!(endless.any(|read| read == Err(Unreadable)));
    }
}
