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

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures::future::join_all;
use ocluster_api::cluster_capnp::{admin, submission};
use ocluster_vat::{Connection, DialOptions, Stats, SturdyRef, Vat};
use support::client::{Client, result};
use support::keeper::{Keeper, Wanted};
use support::{POOL, eventually, story};
use tempfile::TempDir;

/// A scheduler whose state is on a small disk. It is killed when dropped, and its disk goes with it.
struct Program {
    dir: TempDir,
    child: Child,
    /// Kept, because a vat knows its connections.
    vats: RefCell<Vec<Vat>>,
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
        Self {
            dir,
            child,
            vats: RefCell::default(),
        }
    }

    /// The disk, as the program sees it.
    fn disk(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.child.id()));
        let disk = self.dir.path().join("disk");
        root.join(disk.strip_prefix("/").unwrap())
    }

    /// Leaves so much room on the disk, in bytes, or a little less.
    fn fill(&self, left: u64) {
        let stat = rustix::fs::statvfs(self.disk()).unwrap();
        let free = (stat.f_bavail * stat.f_frsize).saturating_sub(left);
        let mut ballast = File::create(self.disk().join("ballast")).unwrap();
        let piece = vec![b'x'; 1 << 16];
        for _ in 0..free / (1 << 16) {
            if ballast.write_all(&piece).is_err() {
                break;
            }
        }
        let rest = vec![b'x'; usize::try_from(free % (1 << 16)).unwrap()];
        // Somebody else may have had it.
        let _ = ballast.write_all(&rest);
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
            self.vats.borrow_mut().push(vat);
            Some(Peer { cap, connection })
        })
        .await
    }

    async fn keeper(&self) -> Keeper {
        let Peer { cap, connection } = self.connect("submit-client.cap").await;
        let submission: submission::Client = connection.bootstrap(&cap.id);
        Keeper::new(Client {
            connection,
            submission,
        })
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
}

impl Peer {
    fn admin(&self) -> admin::Client {
        self.connection.bootstrap(&self.cap.id)
    }
}

/// Whether the client was acknowledged. No answer within some seconds is a no.
async fn add(admin: &admin::Client, name: &str) -> bool {
    let mut request = admin.add_client_request();
    request.get().set_id(name);
    let answer = tokio::time::timeout(Duration::from_secs(30), request.send().promise).await;
    matches!(answer, Ok(Ok(_)))
}

/// The job's id, if it was accepted. No answer within some seconds is a no.
async fn submit(keeper: &Keeper, wanted: &Wanted) -> Option<String> {
    let answer = tokio::time::timeout(Duration::from_secs(30), keeper.submit(wanted)).await;
    Some(answer.ok()?.ok()?.id)
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
        // Wherever the store is in its files when the disk is full.
        let left = [0, 5_000, 64 << 10, 300 << 10, 700 << 10];
        join_all(left.map(fill_and_free)).await;
    });
}

async fn fill_and_free(left: u64) {
    // Nothing is refused before the store is hurt.
    let mut program = Program::start("64M", "--min-free=0");
    let admin = program.connect("admin.cap").await.admin();
    let keeper = program.keeper().await;
    let mut clients_added = vec!["client".to_owned()];
    let mut jobs_accepted = Vec::new();
    for n in 0..10_000 {
        if n == 10 {
            program.fill(left);
        }
        let name = format!("c{n}");
        // So that the store soon needs more of the disk.
        let wanted = Wanted::new(&"FROM scratch\n".repeat(3_000));
        let (added, accepted) =
            futures::future::join(add(&admin, &name), submit(&keeper, &wanted)).await;
        if added {
            clients_added.push(name);
        }
        jobs_accepted.extend(accepted.clone());
        if !added || accepted.is_none() {
            break;
        }
    }
    assert!(jobs_accepted.len() >= 10, "{jobs_accepted:?}");
    program
        .says("The scheduler starts anew as soon as that can help")
        .await;
    program
        .says("Waiting for room on the filesystem of disk/state")
        .await;
    assert!(program.is_alive());
    assert_eq!(program.started_anew(), None, "it waits");

    program.free();
    eventually("a new image", async || program.started_anew()).await;
    let admin = program.connect("admin.cap").await.admin();
    let known = clients(&admin).await;
    for name in &clients_added {
        assert!(known.contains(name), "{left}: client {name} was lost");
    }
    let keeper = program.keeper().await;
    for id in &jobs_accepted {
        let job = keeper.find(id).await.unwrap();
        assert_eq!(job.info().await.state, "queued", "{left}");
    }
    assert!(add(&admin, "later").await);
    keeper.keep("later").await;
    assert!(program.is_alive(), "as the same process");
}

#[test]
fn below_the_bound_new_jobs_are_refused_until_there_is_room_and_the_others_go_on() {
    story(async {
        let program = Program::start("64M", "--min-free=32M");
        let keeper = program.keeper().await;
        let before = Wanted::new("before").key("before");
        let kept = keeper.submit(&before).await.unwrap();
        program.fill(20 << 20);
        let refused = eventually("a refusal", async || {
            keeper.submit(&Wanted::new("refused")).await.err()
        })
        .await;
        assert!(
            refused.contains("the scheduler's disk has 1")
                && refused.ends_with(
                    "MiB free, and new jobs need 32 MiB (--min-free): try again later, or ask the operator"
                ),
            "{refused}"
        );
        let attached = keeper.client.submit("refused");
        let refused = result(&attached.job).await.unwrap_err();
        assert!(refused.contains("(--min-free)"), "{refused}");
        // What was accepted is not in doubt.
        let again = keeper.submit(&before).await.unwrap();
        assert_eq!((again.id, again.known), (kept.id.clone(), true));
        kept.stop("no longer wanted").await.unwrap();
        assert_eq!(kept.ended().await.unwrap().state, "cancelled");
        let admin = program.connect("admin.cap").await.admin();
        assert!(add(&admin, "another").await, "it is not work");

        program.free();
        eventually("jobs are taken again", async || {
            keeper.submit(&Wanted::new("taken")).await.ok()
        })
        .await;
        let said = program.said();
        for line in [
            "new jobs are refused until there are more than 32 MiB. What runs goes on",
            "new jobs are taken again",
        ] {
            assert_eq!(said.matches(line).count(), 1, "{said}");
        }
    });
}

#[test]
fn a_scheduler_that_is_started_on_a_full_disk_says_so_and_ends() {
    story(async {
        for size in ["64k", "600k", "2M"] {
            let mut program = Program::start(size, "--min-free=0");
            let ended = eventually("it ends", async || program.child.try_wait().unwrap()).await;
            let said = program.said();
            assert_eq!(ended.code(), Some(125), "{size}: {said}");
            assert!(
                said.starts_with("ocluster-scheduler: failed to open the store in disk/state: its filesystem has ")
                    && said.ends_with(
                        " free, and the store needs 8 MiB; make room there, then start the scheduler again\n"
                    ),
                "{size}: {said}"
            );
        }
    });
}
