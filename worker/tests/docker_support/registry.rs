//! A real registry on this machine, with or without a login, and a proxy before it that misbehaves on request.

use std::io::Write as _;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::PATIENCE;

/// A registry that ends with the test.
pub struct Registry {
    _directory: TempDir,
    process: Child,
    pub address: String,
}

impl Registry {
    /// Starts one that everybody may use.
    pub async fn open() -> Self {
        Self::start(TempDir::new().unwrap(), "").await
    }

    /// Starts one with a login.
    pub async fn with_login(user: &str, password: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("htpasswd");
        std::fs::write(&file, htpasswd(user, password)).unwrap();
        let auth = format!(
            "auth: {{htpasswd: {{realm: test, path: {}}}}}\n",
            file.display()
        );
        Self::start(directory, &auth).await
    }

    async fn start(directory: TempDir, auth: &str) -> Self {
        let address = StdListener::bind("127.0.0.1:0").unwrap().local_addr();
        let address = address.unwrap().to_string();
        let configuration = directory.path().join("config.yml");
        let storage = directory.path().join("storage");
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '{address}'}}\n{auth}",
            storage.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&configuration)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("cannot run `docker-registry`: install the package of that name, or set OCLUSTER_SKIP_DOCKER=1");
        let mut registry = Self {
            _directory: directory,
            process,
            address,
        };
        let start = Instant::now();
        while StdStream::connect(&registry.address).is_err() {
            assert!(
                registry.process.try_wait().unwrap().is_none() && start.elapsed() < PATIENCE,
                "the registry does not start"
            );
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        registry
    }

    /// Ends it before the test.
    pub fn stop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A password file, as the registry reads it.
fn htpasswd(user: &str, password: &str) -> Vec<u8> {
    let mut child = Command::new("htpasswd")
        .args(["-n", "-i", "-B", "-C", "4", user])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("cannot run `htpasswd`: install the package `apache2-utils`");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(password.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap().stdout
}

/// What the proxy does when an image's manifest is uploaded, which is the last step of a push, or a layer.
#[derive(Clone, Copy, Debug)]
pub enum Manners {
    /// Passes it on.
    Good,
    /// Answers 503 so often.
    Unavailable(u32),
    /// Cuts the connection so often.
    Cut(u32),
    /// Takes nothing more of a layer, until it is told to drain.
    Stuck,
}

/// What the proxy has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Manifests passed on.
    pub stored: u32,
    /// Layers held back.
    pub held: u32,
    /// Of these, those on which the engine hung up before their end.
    pub hung_up: u32,
}

/// A proxy before a registry.
pub struct Proxy {
    pub address: String,
    pub seen: watch::Receiver<Seen>,
    draining: watch::Sender<bool>,
}

impl Proxy {
    pub async fn before(registry: &Registry, manners: Manners) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (noted, seen) = watch::channel(Seen::default());
        let (draining, drain) = watch::channel(false);
        let upstream = registry.address.clone();
        let manners = Arc::new(Mutex::new(manners));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&upstream).await;
                let (manners, noted) = (Arc::clone(&manners), noted.clone());
                let drain = drain.clone();
                if let Ok(server) = server {
                    tokio::spawn(
                        async move { pass(client, server, &manners, &noted, drain).await },
                    );
                }
            }
        });
        Self {
            address,
            seen,
            draining,
        }
    }

    /// Has it take the rest of what it held back, for nothing.
    pub fn drain(&self) {
        self.draining.send_replace(true);
    }

    /// Waits until it has seen enough.
    pub async fn until(&mut self, enough: impl FnMut(&Seen) -> bool) -> Seen {
        let seen = tokio::time::timeout(PATIENCE, self.seen.wait_for(enough)).await;
        *seen.expect("the engine does not do it").unwrap()
    }
}

/// Passes bytes on in both directions, until one side ends or manners forbid it.
async fn pass(
    mut client: TcpStream,
    mut server: TcpStream,
    manners: &Mutex<Manners>,
    noted: &watch::Sender<Seen>,
    mut drain: watch::Receiver<bool>,
) -> Option<()> {
    let (mut up, mut down) = (vec![0; 65_536], vec![0; 65_536]);
    loop {
        tokio::select! {
            count = client.read(&mut up) => {
                let request = up.get(..count.ok().filter(|count| *count > 0)?)?;
                // A client begins a request only when it has its last answer, so requests begin where reads do.
                let stuck = matches!(*manners.lock().unwrap(), Manners::Stuck);
                if stuck && request.starts_with(b"PATCH /v2/") {
                    noted.send_modify(|seen| seen.held += 1);
                    drain.wait_for(|drain| *drain).await.ok()?;
                    while let Ok(1..) = client.read(&mut up).await {}
                    noted.send_modify(|seen| seen.hung_up += 1);
                    return None;
                }
                if is_manifest(request) && !is_old_form(request) {
                    let now = take(&mut manners.lock().unwrap());
                    match now {
                        Manners::Good | Manners::Stuck => noted.send_modify(|seen| seen.stored += 1),
                        Manners::Unavailable(_) => return refuse(&mut client).await,
                        Manners::Cut(_) => return None,
                    }
                } else if is_manifest(request) {
                    return refuse(&mut client).await;
                }
                server.write_all(request).await.ok()?;
            }
            count = server.read(&mut down) => {
                let answer = down.get(..count.ok().filter(|count| *count > 0)?)?;
                client.write_all(answer).await.ok()?;
            }
        }
    }
}

/// What is to be done now; the next time it may be something else.
fn take(manners: &mut Manners) -> Manners {
    let now = *manners;
    *manners = match now {
        Manners::Unavailable(1) | Manners::Cut(1) => Manners::Good,
        Manners::Unavailable(left) => Manners::Unavailable(left - 1),
        Manners::Cut(left) => Manners::Cut(left - 1),
        other => other,
    };
    now
}

async fn refuse(client: &mut TcpStream) -> Option<()> {
    let answer =
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    client.write_all(answer).await.ok()
}

fn is_manifest(request: &[u8]) -> bool {
    let line = request.split(|byte| *byte == b'\r').next().unwrap();
    line.starts_with(b"PUT /v2/") && line.windows(11).any(|part| part == b"/manifests/")
}

/// When a manifest is refused, older engines try the form of old registries at once. That is part of the same attempt.
fn is_old_form(request: &[u8]) -> bool {
    request.windows(11).any(|part| part == b"manifest.v1")
}
