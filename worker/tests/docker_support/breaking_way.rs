//! A way to a real engine that breaks in the middle of the first push, once, as it does when the engine restarts.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ocluster_worker::executor::EngineAddress;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};

/// A socket that leads to an engine.
pub struct BreakingWay {
    _directory: TempDir,
    pub socket: PathBuf,
}

impl BreakingWay {
    pub async fn to(engine: &EngineAddress) -> Self {
        let EngineAddress::Unix(engine) = engine.clone() else {
            panic!("the tests' engine is not at a unix socket");
        };
        let directory = TempDir::new().unwrap();
        let socket = directory.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let whole = Arc::new(AtomicBool::new(true));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(&engine).await.unwrap();
                let whole = Arc::clone(&whole);
                tokio::spawn(async move { pass(client, server, &whole).await });
            }
        });
        Self {
            _directory: directory,
            socket,
        }
    }
}

async fn pass(mut client: UnixStream, mut server: UnixStream, whole: &AtomicBool) -> Option<()> {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    let mut pushing = false;
    loop {
        tokio::select! {
            count = client.read(&mut up) => {
                let request = up.get(..count.ok().filter(|count| *count > 0)?)?;
                pushing |= request.windows(10).any(|part| part == b"/push?tag=");
                server.write_all(request).await.ok()?;
            }
            count = server.read(&mut down) => {
                let answer = down.get(..count.ok().filter(|count| *count > 0)?)?;
                client.write_all(answer).await.ok()?;
                // The client has heard that the push began.
                if pushing && whole.swap(false, Ordering::Relaxed) {
                    return None;
                }
            }
        }
    }
}
