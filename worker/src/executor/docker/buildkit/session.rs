//! A session: a connection to the engine that is turned round, so that the engine calls us.
//!
//! The request `POST /session` is upgraded to HTTP/2, on which we are the server. The engine believes that what its headers name can
//! be called. A session is closed by dropping it, and a build that depends on it ends.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bollard_buildkit_proto::health::{HealthCheckResponse, health_check_response::ServingStatus};
use bollard_buildkit_proto::moby::filesync::v1::{CredentialsRequest, CredentialsResponse};
use bytes::Bytes;
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::header::{CONNECTION, UPGRADE};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioExecutor;
use tokio_util::task::AbortOnDropHandle;
use zeroize::Zeroize as _;

use super::connection;
use super::file_sync::{self, Context};
use super::grpc::{self, Body, Code, Status};
use super::secrets::Secrets;
use crate::executor::docker::config::EngineAddress;
use crate::executor::docker::engine;
use crate::executor::docker::logins::Logins;

const HEALTH: &str = "/grpc.health.v1.Health/Check";
const CREDENTIALS: &str = "/moby.filesync.v1.Auth/Credentials";
const FILES: &str = "/moby.filesync.v1.FileSync/DiffCopy";
const SECRET: &str = "/moby.buildkit.secrets.v1.Secrets/GetSecret";

/// What the engine may ask for during one build.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) context: Context,
    pub(super) secrets: Secrets,
    pub(super) logins: Logins,
}

/// Why a session is not opened.
#[derive(Debug)]
pub(super) enum SessionError {
    /// The engine has no BuildKit, or one that it does not share.
    NotOffered(StatusCode),
    /// The engine does not answer, or breaks off: a sentence fragment.
    Away(String),
}

/// An open session. Dropping it hangs up.
#[derive(Debug)]
pub(super) struct Session {
    _serving: AbortOnDropHandle<()>,
    _connection: AbortOnDropHandle<()>,
}

impl Session {
    /// Opens a session under the name `id`.
    ///
    /// # Errors
    /// If the engine does not open it.
    pub(super) async fn open(
        address: &EngineAddress,
        limit: Duration,
        id: &str,
        served: Arc<Served>,
    ) -> Result<Self, SessionError> {
        let mut request = connection::post("/session")
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "h2c")
            .header("X-Docker-Expose-Session-Uuid", id)
            .header("X-Docker-Expose-Session-Name", "ocluster")
            // What files a session has sent before is remembered under this key: nothing is, as the key is new each time.
            .header("X-Docker-Expose-Session-Sharedkey", id);
        for method in [HEALTH, CREDENTIALS, FILES, SECRET] {
            request = request.header("X-Docker-Expose-Session-Grpc-Method", method);
        }
        let request = request
            .body(Empty::new())
            .map_err(|error| SessionError::Away(error.to_string()))?;
        let opening = async {
            let answered = connection::send(address, limit, request)
                .await
                .map_err(SessionError::Away)?;
            let status = answered.response.status();
            if status != StatusCode::SWITCHING_PROTOCOLS {
                return Err(SessionError::NotOffered(status));
            }
            let upgraded = hyper::upgrade::on(answered.response)
                .await
                .map_err(|error| SessionError::Away(engine::innermost(&error)))?;
            Ok((upgraded, answered.driver))
        };
        let (upgraded, driver) = tokio::time::timeout(limit, opening)
            .await
            .map_err(|_| SessionError::Away("it does not answer in time".to_owned()))??;
        let serving = tokio::spawn(async move {
            let service = service_fn(move |request| serve(request, Arc::clone(&served)));
            // How it ends does not matter: without its session, the build fails, and says so.
            let _ = http2::Builder::new(TokioExecutor::new())
                .serve_connection(upgraded, service)
                .await;
        });
        Ok(Self {
            _serving: AbortOnDropHandle::new(serving),
            _connection: driver,
        })
    }
}

async fn serve(
    request: Request<Incoming>,
    served: Arc<Served>,
) -> Result<Response<Body>, Infallible> {
    Ok(match request.uri().path() {
        HEALTH => {
            let status = ServingStatus::Serving.into();
            grpc::answer(Ok(grpc::frame(&HealthCheckResponse { status })))
        }
        CREDENTIALS => {
            let asked = grpc::only_message(request).await;
            grpc::answer(match asked {
                Ok(asked) => Ok(credentials(&served.logins, &asked).await),
                Err(status) => Err(status),
            })
        }
        SECRET => {
            let asked = grpc::only_message(request).await;
            grpc::answer(asked.and_then(|asked| served.secrets.get(&asked)))
        }
        FILES => file_sync::serve(request, &served.context),
        other => grpc::answer(Err(Status::new(
            Code::Unimplemented,
            format!("{other} is not offered"),
        ))),
    })
}

/// The login for a registry. Without one, base images are pulled as anybody may pull them.
async fn credentials(logins: &Logins, asked: &CredentialsRequest) -> Bytes {
    let login = logins.of(&asked.host).await;
    let (user, secret) = login
        .as_ref()
        .map_or(("", ""), |login| login.user_and_secret());
    let mut response = CredentialsResponse {
        username: user.to_owned(),
        secret: secret.to_owned(),
    };
    let framed = grpc::frame(&response);
    response.secret.zeroize();
    framed
}
