//! The real program on a disk that fills up and is freed again.
//!
//! The disk is a filesystem in memory that only the program sees: it is mounted in a mount namespace of the program's own, goes with
//! it, and is reached from here through `/proc/PID/root`. That takes root, or user namespaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ocluster_api::cluster_capnp::{admin, submission};
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat};
use support::client::Client;
use support::{POOL, eventually, story};
use tempfile::TempDir;

/// A scheduler whose state is on a small disk. It is killed when dropped, and its disk goes with it.
struct Program {
    dir: TempDir,
    child: Child,
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            std::io::stderr()
                .write_all(self.said().as_bytes())
                .unwrap_or_default();
        }
    }
}

/// Mounts the disk at its first argument and becomes the rest.
const ON_A_SMALL_DISK: &str = r#"mount -t tmpfs -o "size=$2" none "$1" && shift 2 && exec "$@""#;

impl Program {
    /// Starts it with a disk of this size.
    fn start(size: &str, flags: &str) -> Self {
        let dir = tempfile::Builder::new().prefix("oc-").tempdir().unwrap();
        for name in ["disk", "secrets"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        let log = File::create(dir.path().join("log")).unwrap();
        let child = Command::new("unshare")
            .args(["-rm", "sh", "-c", ON_A_SMALL_DISK, "sh"])
            .arg(dir.path().join("disk"))
            .arg(size)
            .arg(env!("CARGO_BIN_EXE_ocluster-scheduler"))
            .args([
                "--capnp-secret-key-file=key.pem",
                "--capnp-listen-address=unix:socket",
                "--capnp-disable-tls",
                "--state-dir=disk/state",
                "--secrets-dir=secrets",
                "--default-clients=client",
            ])
            .arg(format!("--pools={POOL}"))
            .args(flags.split_whitespace())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { dir, child }
    }

    /// The disk, as the program sees it.
    fn disk(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        let disk = self.dir.path().join("disk");
        root.join(disk.strip_prefix("/").unwrap())
    }

    /// Leaves no room on the disk.
    fn fill(&self) {
        let mut ballast = File::create(self.disk().join("ballast")).unwrap();
        for piece in [1 << 16, 1 << 10, 1] {
            let piece = vec![b'x'; piece];
            while ballast.write_all(&piece).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.disk().join("ballast")).unwrap();
    }

    /// What it wrote on standard error.
    fn said(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    async fn says(&self, line: &str) {
        eventually(line, async || self.said().contains(line).then_some(())).await;
    }

    /// Connects as soon as that is possible.
    async fn connect(&self, file: &str) -> Peer {
        eventually("it serves", async || {
            let cap = SturdyRef::load(&self.dir.path().join("secrets").join(file)).ok()?;
            let mut address = cap.address.clone();
            address.location = ocluster_vat::Location::Unix(self.dir.path().join("socket"));
            let vat = Vat::client_only(Stats::new());
            let dialled = vat
                .connect(&address, &DialOptions::default(), &mut |_| {})
                .await;
            let connection = dialled.ok()?;
            Some(Peer {
                cap,
                connection,
                _vat: vat,
            })
        })
        .await
    }

    fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// How many images of the program have failed before the present one.
    fn started_anew(&self) -> Option<u32> {
        let environ = fs::read(
            Path::new("/proc")
                .join(self.child.id().to_string())
                .join("environ"),
        );
        let environ = String::from_utf8(environ.ok()?).ok()?;
        environ
            .split('\0')
            .find_map(|variable| variable.strip_prefix("OCLUSTER_SCHEDULER_STARTED_ANEW="))?
            .parse()
            .ok()
    }
}

struct Peer {
    cap: SturdyRef,
    connection: Connection,
    /// A vat knows its connections.
    _vat: Vat,
}

impl Peer {
    async fn admin(&self) -> admin::Client {
        self.connection.bootstrap(&self.cap.id)
    }

    async fn client(self) -> Client {
        let submission: submission::Client = self.connection.bootstrap(&self.cap.id);
        Client {
            connection: self.connection,
            submission,
        }
    }
}

/// Whether the client was acknowledged. No answer within some seconds is a no.
async fn add(admin: &admin::Client, name: &str) -> bool {
    let mut request = admin.add_client_request();
    request.get().set_id(name);
    let answer = tokio::time::timeout(Duration::from_secs(30), request.send().promise).await;
    matches!(answer, Ok(Ok(_)))
}

async fn clients(admin: &admin::Client) -> Vec<String> {
    let response = admin.list_clients_request().send().promise.await.unwrap();
    let clients = response.get().unwrap().get_clients().unwrap();
    let name = |name: capnp::Result<capnp::text::Reader<'_>>| name.unwrap().to_string().unwrap();
    clients.iter().map(name).collect()
}

#[test]
fn a_store_that_met_a_full_disk_starts_anew_when_there_is_room_and_has_all_it_acknowledged() {
    story(async {
        let mut program = Program::start("64M", "--min-free=4M");
        let peer = program.connect("admin.cap").await;
        let admin = peer.admin().await;
        let client = program.connect("submit-client.cap").await.client().await;
        let mut acknowledged = vec!["client".to_owned()];
        let mut jobs = Vec::new();
        for n in 0..10_000 {
            if n == 10 {
                program.fill();
            }
            // Records with much in them, so that the store soon needs more of the disk.
            jobs.push(client.submit_urgently("example", &"hint".repeat(5_000)));
            let name = format!("c{n}");
            if !add(&admin, &name).await {
                break;
            }
            acknowledged.push(name);
        }
        assert!(acknowledged.len() > 10, "{acknowledged:?}");
        program
            .says("The scheduler starts anew as soon as that can help")
            .await;
        program
            .says("Waiting for room on the filesystem of disk/state")
            .await;
        assert!(program.is_alive());
        assert_eq!(program.started_anew(), None, "it waits");

        program.free();
        program.says("Starting anew").await;
        eventually("a new image", async || program.started_anew()).await;
        let peer = program.connect("admin.cap").await;
        let admin = peer.admin().await;
        let known = clients(&admin).await;
        for name in &acknowledged {
            assert!(known.contains(name), "{name} was lost");
        }
        assert!(add(&admin, "later").await);
        assert!(program.is_alive(), "as the same process");
    });
}
