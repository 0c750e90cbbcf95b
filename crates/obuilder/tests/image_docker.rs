//! Images out of a Docker engine of the test's own, and our images into it. Needs root, `docker.io`, `skopeo`, `umoci` and `util-linux`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use ocluster_obuilder::StepLog;
use ocluster_obuilder::export::{ImageConfig, LayerCompression, OciExport, write_oci};
use ocluster_obuilder::image::{
    DockerEngine, FetchError, Fetcher, ImageFetcher, LocalImages, Remote,
};
use ocluster_obuilder::store::{Kind, Location, Store, StoreOptions};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use trees::{assert_same, run, varied};

const PATIENCE: Duration = Duration::from_secs(120);

/// An engine in namespaces of its own, which ends with them.
struct Engine {
    dir: TempDir,
    process: Child,
}

impl Engine {
    fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let log = fs::File::create(path("log")).unwrap();
        let process = Command::new("unshare")
            .args(["--pid", "--net", "--mount", "--fork", "--kill-child=KILL", "--mount-proc", "dockerd"])
            .arg(format!("--host=unix://{}", path("docker.sock")))
            .arg(format!("--data-root={}", path("data")))
            .arg(format!("--exec-root={}", path("exec")))
            .arg(format!("--pidfile={}", path("pid")))
            .args(["--bridge=none", "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--storage-driver=vfs"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .expect("cannot run `unshare dockerd`: install `util-linux` and `docker.io`, and run the tests as root");
        let mut engine = Self { dir, process };
        let deadline = Instant::now() + PATIENCE;
        while std::os::unix::net::UnixStream::connect(engine.socket()).is_err() {
            let gone = engine.process.try_wait().unwrap();
            if gone.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(engine.dir.path().join("log")).unwrap();
                panic!("the Docker engine does not start (root is needed):\n{log}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        engine
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("docker.sock")
    }

    fn docker(&self, args: &[&str]) -> String {
        let host = format!("unix://{}", self.socket().display());
        run("docker", |docker| docker.arg("--host").arg(host).args(args))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Brings `tree` into the engine as `name`, by way of our own export.
fn load(engine: &Engine, tree: &Path, name: &str) {
    let work = TempDir::new().unwrap();
    let layout = work.path().join("layout");
    let to = OciExport {
        directory: layout.clone(),
        tag: "result".into(),
        compression: LayerCompression::Gzip,
        config: ImageConfig {
            env: vec![("PATH".into(), "/bin".into())],
            ..ImageConfig::default()
        },
    };
    write_oci(tree, &to, &CancellationToken::new()).unwrap();
    let archive = work.path().join("archive.tar").display().to_string();
    let from = format!("oci:{}:result", layout.display());
    let to = format!("docker-archive:{archive}:{name}");
    run("skopeo", |skopeo| {
        skopeo.args(["--insecure-policy", "copy", "--quiet", &from, &to])
    });
    engine.docker(&["load", "--input", &archive]);
}

#[tokio::test]
async fn an_engine_takes_what_is_exported_and_gives_it_back() {
    let engine = Engine::start();
    let tree = varied();
    load(&engine, tree.path(), "result:v1");

    let home = TempDir::new().unwrap();
    let root = home.path().canonicalize().unwrap().join("store");
    let location = Location {
        kind: Kind::Overlayfs,
        root,
    };
    let store = Store::open(&location, StoreOptions::default())
        .await
        .unwrap();
    let log = StepLog::create(&home.path().join("log")).await.unwrap();
    let scratch = home.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let remote = Remote::Docker(DockerEngine::unix(&engine.socket()).unwrap());
    let fetcher = ImageFetcher::new(LocalImages::Below(Vec::new()), remote, scratch.clone());
    let cancel = CancellationToken::new();
    let image = fetcher
        .fetch("result:v1".into(), &store, &log, &cancel)
        .await
        .unwrap();
    assert_eq!(image.env, [("PATH".into(), "/bin".into())]);
    let id = engine.docker(&["image", "inspect", "--format", "{{.Id}}", "result:v1"]);
    assert_eq!(image.digest.as_deref(), Some(id.trim()));
    let resolved = fetcher.resolve("result:v1".into(), &cancel).await.unwrap();
    assert_eq!(resolved, image.digest);
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0);

    let copy = TempDir::new().unwrap();
    let to = copy.path().to_owned();
    let top = image.top.unwrap();
    let view = top.view().unwrap();
    view.with(move |root| run("cp", |cp| cp.arg("-a").arg("-T").arg(root).arg(to)))
        .await
        .unwrap();
    assert_same(copy.path(), tree.path());

    // Without a network, it cannot be pulled.
    let error = fetcher
        .fetch("localhost:1/missing".into(), &store, &log, &cancel)
        .await
        .unwrap_err();
    assert!(
        matches!(error, FetchError::Source(_) | FetchError::Request(_)),
        "{error}"
    );
    assert!(error.to_string().contains("Docker engine"), "{error}");
    drop(engine);
    let error = fetcher
        .fetch("result:v1".into(), &store, &log, &cancel)
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Source(_)), "{error}");
}
