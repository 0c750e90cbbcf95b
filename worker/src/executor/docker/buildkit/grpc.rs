//! As much of gRPC as a session needs: messages in frames, and the status at the end.
//!
//! A call is a request of HTTP/2; each message has five bytes before it: a zero (not compressed) and its length.

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{HeaderMap, Request, Response};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;
use zeroize::Zeroizing;

/// Body of an answer.
pub(super) type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// The largest message that is taken, in bytes. What an engine asks is small.
const MAX_MESSAGE: usize = 1 << 20;
/// Bytes in front of a message.
const PREFIX: usize = 5;
const STATUS: HeaderName = HeaderName::from_static("grpc-status");
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const NOT_IN_A_MESSAGE: &AsciiSet = &CONTROLS.add(b'%');

/// Why a call failed.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) code: Code,
    /// For people.
    pub(super) message: String,
}

/// gRPC's codes, as far as they are used here.
#[derive(Clone, Copy, Debug)]
pub(super) enum Code {
    Ok = 0,
    Unknown = 2,
    InvalidArgument = 3,
    NotFound = 5,
    Unimplemented = 12,
}

impl Status {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }

    /// The headers that end a call.
    pub(super) fn headers(code: Code, message: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(STATUS, HeaderValue::from(code as u16));
        let message = utf8_percent_encode(message, NOT_IN_A_MESSAGE).to_string();
        if !message.is_empty()
            && let Ok(message) = HeaderValue::from_str(&message)
        {
            headers.insert(MESSAGE, message);
        }
        headers
    }
}

/// A message as it travels. It is wiped when it has been sent, as it may be a secret.
pub(super) fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut framed = Zeroizing::new(Vec::with_capacity(PREFIX + length));
    framed.push(0);
    framed.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    message.encode_raw(&mut *framed);
    Bytes::from_owner(framed)
}

/// Messages out of bytes that arrive in any pieces.
#[derive(Default)]
pub(super) struct Unframed {
    bytes: BytesMut,
}

impl Unframed {
    /// Takes what has arrived.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole message, if there is one.
    pub(super) fn next<M: Message + Default>(&mut self) -> Result<Option<M>, Status> {
        let malformed = |what: &str| Status::new(Code::InvalidArgument, what);
        let Some((&[compressed, a, b, c, d], rest)) = self.bytes.split_first_chunk::<PREFIX>()
        else {
            return Ok(None);
        };
        if compressed != 0 {
            return Err(malformed("compressed messages are not taken"));
        }
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_MESSAGE {
            return Err(malformed("the message is too long"));
        }
        if rest.len() < length {
            return Ok(None);
        }
        self.bytes.advance(PREFIX);
        let message = M::decode(self.bytes.split_to(length));
        message
            .map(Some)
            .map_err(|_| malformed("the message cannot be read"))
    }
}

/// Reads the one message of a simple call.
pub(super) async fn only_message<M: Message + Default>(
    request: Request<Incoming>,
) -> Result<M, Status> {
    let body = Limited::new(request.into_body(), MAX_MESSAGE)
        .collect()
        .await;
    let body = body.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    let mut unframed = Unframed::default();
    unframed.push(&body.to_bytes());
    unframed
        .next()?
        .ok_or_else(|| Status::new(Code::InvalidArgument, "the message is incomplete"))
}

/// The answer to a simple call.
pub(super) fn answer(result: Result<Bytes, Status>) -> Response<Body> {
    match result {
        Ok(message) => {
            let trailers = Status::headers(Code::Ok, "");
            let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
            respond(body.boxed_unsync())
        }
        Err(status) => {
            let mut response = respond(Empty::new().boxed_unsync());
            let headers = Status::headers(status.code, &status.message);
            response.headers_mut().extend(headers);
            response
        }
    }
}

/// An answer of many messages. The stream ends with the trailers.
pub(super) fn stream(
    frames: impl futures::Stream<Item = Frame<Bytes>> + Send + 'static,
) -> Response<Body> {
    let frames = futures::StreamExt::map(frames, Ok);
    respond(StreamBody::new(frames).boxed_unsync())
}

fn respond(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use bollard_buildkit_proto::moby::buildkit::secrets::v1::GetSecretRequest;

    use super::*;

    fn request(id: &str) -> GetSecretRequest {
        GetSecretRequest {
            id: id.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn messages_survive_any_cut() {
        let sent = [request("a"), request(""), request(&"x".repeat(300))];
        let bytes: Vec<u8> = sent
            .iter()
            .flat_map(|message| frame(message).to_vec())
            .collect();
        let mut unframed = Unframed::default();
        let mut arrived: Vec<GetSecretRequest> = vec![];
        for byte in bytes {
            unframed.push(&[byte]);
            while let Some(message) = unframed.next().unwrap() {
                arrived.push(message);
            }
        }
        assert_eq!(arrived, sent);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for wrong in [
            &[1, 0, 0, 0, 0][..],
            &[0, 255, 255, 255, 255],
            &[0, 0, 0, 0, 1, 255],
        ] {
            let mut unframed = Unframed::default();
            unframed.push(wrong);
            assert!(unframed.next::<GetSecretRequest>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_message_for_people_is_written_for_a_header() {
        let headers = Status::headers(Code::NotFound, "no 100%\nsuch \u{e9}");
        assert_eq!(headers[STATUS], "5");
        assert_eq!(headers[MESSAGE], "no 100%25%0Asuch %C3%A9");
    }
}
