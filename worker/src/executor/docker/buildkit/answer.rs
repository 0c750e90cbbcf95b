//! The engine's answer to a build request: messages in JSON, one in each line.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bollard_buildkit_proto::moby::buildkit::v1::StatusResponse;
use bytes::{Buf, BytesMut};
use http_body_util::BodyExt;
use hyper::StatusCode;
use prost::Message as _;
use serde::Deserialize;

use super::connection::Answered;
use crate::executor::docker::engine;

/// The longest message that is taken, in bytes. BuildKit cuts a step's output into much smaller ones.
const MAX_LINE: usize = 16 << 20;

/// What the engine says.
#[derive(Debug)]
pub(super) enum Message {
    /// How the build is getting on.
    Progress(StatusResponse),
    /// The image's id.
    Image(String),
    /// Something for people.
    Text(String),
    /// The build has failed.
    Failed(String),
}

/// Why there is no further message.
#[derive(Debug)]
pub(super) enum AnswerError {
    /// The engine refused the request.
    Refused { status: StatusCode, message: String },
    /// The connection broke, or carried what is no answer.
    Broken(String),
}

/// An answer as it comes.
#[derive(Debug)]
pub(super) struct Answer {
    answered: Answered,
    buffer: BytesMut,
    ended: bool,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    id: String,
    aux: Option<serde_json::Value>,
    error: Option<String>,
    stream: Option<String>,
}

#[derive(Deserialize)]
struct ImageId {
    #[serde(rename = "ID")]
    id: String,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Answer {
    pub(super) fn new(answered: Answered) -> Self {
        Self {
            answered,
            buffer: BytesMut::new(),
            ended: false,
        }
    }

    /// The next message, or nothing after the last one. Nothing is lost if this is dropped while it waits.
    pub(super) async fn next(&mut self) -> Result<Option<Message>, AnswerError> {
        let status = self.answered.response.status();
        loop {
            if !status.is_success() {
                if !self.read_more().await? {
                    return Err(self.refusal(status));
                }
                continue;
            }
            match self.line() {
                Some(line) if line.trim_ascii().is_empty() => continue,
                Some(line) => {
                    if let Some(message) = read(&line)? {
                        return Ok(Some(message));
                    }
                }
                None if self.ended => return Ok(None),
                None => {
                    self.read_more().await?;
                }
            }
        }
    }

    /// The next line, or what is left at the end.
    fn line(&mut self) -> Option<BytesMut> {
        if let Some(length) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(length);
            self.buffer.advance(1);
            return Some(line);
        }
        (self.ended && !self.buffer.is_empty()).then(|| self.buffer.split())
    }

    /// Whether there was more.
    async fn read_more(&mut self) -> Result<bool, AnswerError> {
        match self.answered.response.body_mut().frame().await {
            None => self.ended = true,
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    self.buffer.extend_from_slice(&data);
                }
            }
            Some(Err(error)) => return Err(AnswerError::Broken(engine::innermost(&error))),
        }
        if self.buffer.len() > MAX_LINE {
            let reason = "it sent a message of more than 16 MiB".to_owned();
            return Err(AnswerError::Broken(reason));
        }
        Ok(!self.ended)
    }

    fn refusal(&mut self, status: StatusCode) -> AnswerError {
        let text = self.buffer.split();
        let message = match serde_json::from_slice::<Refusal>(&text) {
            Ok(refusal) => refusal.message,
            Err(_) => String::from_utf8_lossy(&text).trim().to_owned(),
        };
        AnswerError::Refused { status, message }
    }
}

fn read(line: &[u8]) -> Result<Option<Message>, AnswerError> {
    let broken = |what: &str| AnswerError::Broken(format!("it sent {what} that cannot be read"));
    let line: Line = serde_json::from_slice(line).map_err(|_| broken("a message"))?;
    if let Some(error) = line.error {
        return Ok(Some(Message::Failed(error)));
    }
    match (line.id.as_str(), line.aux, line.stream) {
        ("moby.buildkit.trace", Some(trace), _) => {
            let trace = trace
                .as_str()
                .and_then(|text| BASE64_STANDARD.decode(text).ok());
            let status = trace.and_then(|bytes| StatusResponse::decode(&*bytes).ok());
            let status = status.ok_or_else(|| broken("progress"))?;
            Ok(Some(Message::Progress(status)))
        }
        ("moby.image.id", Some(image), _) => {
            let image = ImageId::deserialize(image).map_err(|_| broken("an image's id"))?;
            Ok(Some(Message::Image(image.id)))
        }
        (_, _, Some(text)) => Ok(Some(Message::Text(text))),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_message_is_understood() {
        let message = |line: &str| read(line.as_bytes()).unwrap();
        let image = message(r#"{"id":"moby.image.id","aux":{"ID":"sha256:1"}}"#);
        assert!(matches!(image, Some(Message::Image(id)) if id == "sha256:1"));
        let status = message(r#"{"id":"moby.buildkit.trace","aux":"CgcKAWEaAm5t"}"#);
        let Some(Message::Progress(status)) = status else {
            panic!("{status:?}")
        };
        assert_eq!(status.vertexes[0].name, "nm");
        let failed = message(r#"{"errorDetail":{"message":"no"},"error":"no"}"#);
        assert!(matches!(failed, Some(Message::Failed(error)) if error == "no"));
        assert!(message(r#"{"id":"moby.something.new","aux":[1]}"#).is_none());
    }

    #[test]
    fn what_is_no_message_is_not_taken_for_one() {
        for line in [
            "nonsense",
            r#"{"id":"moby.buildkit.trace","aux":"!"}"#,
            r#"{"id":"moby.buildkit.trace","aux":"////"}"#,
            r#"{"id":"moby.image.id","aux":{}}"#,
        ] {
            assert!(read(line.as_bytes()).is_err(), "{line}");
        }
    }
}
