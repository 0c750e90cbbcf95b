//! Requests to the engine that the client library has no word for.
//!
//! It has none for checking a login, leaves out parts of what the engine says of a push, and writes a login in an alphabet which the
//! engine reads only if the password happens to avoid two letters. So its way of fetching bytes is sent elsewhere here.

use bollard::errors::Error;
use bollard::{Docker, body_try_stream};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};

/// The header in which the engine expects a registry's login.
const LOGIN_HEADER: &str = "x-registry-auth";

/// Sends a POST request and passes on the bytes of the answer. Dropping the stream hangs up, which makes the engine stop.
///
/// `path` is a path with its query, from the root; `login` is the value of the login's header.
pub(super) fn post(
    docker: &Docker,
    path: String,
    login: Option<String>,
    body: Bytes,
) -> impl Stream<Item = Result<Bytes, Error>> + Unpin + use<> {
    let docker = docker.clone().with_request_modifier(move |mut request| {
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = path.parse().ok();
        if let (Ok(uri), Ok(method)) = (parts.try_into(), "POST".parse()) {
            *request.uri_mut() = uri;
            *request.method_mut() = method;
        }
        if let Some(value) = login.as_ref().and_then(|login| login.parse().ok()) {
            request.headers_mut().insert(LOGIN_HEADER, value);
        }
        if let Some(value) = request.headers_mut().get_mut(LOGIN_HEADER) {
            value.set_sensitive(true);
        }
        if !body.is_empty() {
            // Not as one piece: that would be shown in the client library's trace.
            *request.body_mut() = body_try_stream(stream::iter([Ok(body.clone())]));
        }
        request
    });
    docker.export_image("any").boxed()
}
