//! Builds with the engine's BuildKit, through the engine's own API.
//!
//! BuildKit asks for what it needs: for each build we open a `session`, a connection on which the engine calls *us*, and serve it
//! the build context (`file_sync`), secrets (`secrets`) and its small questions. Then one request (`builder`) starts the build; its answer (`answer`)
//! carries the progress, printed as `docker build --progress=plain` does (`progress`), and the image's id. Dropping the request and the session ends
//! the build.

mod answer;
mod builder;
mod connection;
mod file_sync;
mod grpc;
mod progress;
mod secrets;
mod session;
mod wanted;

pub(super) use builder::{Buildkit, Running};
pub(super) use secrets::Secrets;
