//! Images from local files, installed into a store on overlayfs. Needs root, `umoci`, `skopeo` and `busybox-static`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/tars.rs"]
mod tars;
#[path = "support/trees.rs"]
mod trees;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use ocluster_obuilder::StepLog;
use ocluster_obuilder::image::{
    BaseImage, Blob, FetchError, Fetcher, ImageFetcher, ImageManifest, ImageSource, Installer,
    LayerDescriptor, LocalImages, Remote,
};
use ocluster_obuilder::store::{Kind, Layer, Location, Store, StoreOptions};
use tars::{Tar, gzip, sha256};
use tempfile::TempDir;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use trees::{assert_same, run};

const PATIENCE: Duration = Duration::from_secs(60);

struct Machine {
    dir: TempDir,
    store: Store,
    log: StepLog,
}

impl Machine {
    async fn new() -> Self {
        Self::at(TempDir::new().unwrap()).await
    }

    async fn at(dir: TempDir) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "these tests mount layers: run them as root"
        );
        let root = dir.path().canonicalize().unwrap().join("store");
        let location = Location {
            kind: Kind::Overlayfs,
            root,
        };
        let store = Store::open(&location, StoreOptions::default())
            .await
            .unwrap();
        let log = StepLog::create(&dir.path().join("log")).await.unwrap();
        Self { dir, store, log }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().canonicalize().unwrap().join(name)
    }

    fn fetcher(&self) -> ImageFetcher {
        let scratch = self.path("scratch");
        fs::create_dir_all(&scratch).unwrap();
        ImageFetcher::new(LocalImages::Any, Remote::Nobody, scratch)
    }

    async fn fetch(&self, name: &str) -> Result<BaseImage, FetchError> {
        let cancel = CancellationToken::new();
        self.fetcher()
            .fetch(name.into(), &self.store, &self.log, &cancel)
            .await
    }

    async fn install(&self, installer: &Installer, source: &Fake) -> Result<BaseImage, FetchError> {
        let cancel = CancellationToken::new();
        installer
            .install(source, &self.store, &self.log, &cancel)
            .await
    }

    /// What was told so far.
    fn told(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap()
    }

    async fn nothing_half_made(&self) {
        let tmp = self.path("store/tmp");
        until("the store's temporary directory is empty", || {
            fs::read_dir(&tmp).unwrap().count() == 0
        })
        .await;
    }

    /// Copies a layer's tree to where the tests can look at it.
    async fn copy_out(&self, layer: Option<Layer>) -> TempDir {
        let copy = TempDir::new().unwrap();
        let to = copy.path().to_owned();
        let layer = layer.unwrap();
        let view = layer.view().unwrap();
        view.with(move |root| {
            run("cp", |cp| cp.arg("-a").arg("-T").arg(root).arg(to));
        })
        .await
        .unwrap();
        copy
    }
}

/// A layout with the image `two` of three layers: busybox, a whiteout with changes, an opaque directory. `one` is the first of them.
fn layout(at: &Path) -> String {
    let work = TempDir::new().unwrap();
    let bundle = work.path().join("bundle");
    let rootfs = bundle.join("rootfs");
    let umoci = |args: &[&str]| {
        run("umoci", |umoci| umoci.args(args));
    };
    let (layout, bundled) = (at.display().to_string(), bundle.display().to_string());
    let (one, two) = (format!("{layout}:one"), format!("{layout}:two"));
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &one]);
    umoci(&["unpack", "--image", &one, &bundled]);
    for dir in ["bin", "etc", "opaque/deep", "removed/deep"] {
        fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    let busybox = Path::new("/bin/busybox");
    assert!(
        busybox.exists(),
        "there is no /bin/busybox: install `busybox-static`"
    );
    fs::copy(busybox, rootfs.join("bin/busybox")).unwrap();
    fs::hard_link(rootfs.join("bin/busybox"), rootfs.join("bin/sh")).unwrap();
    fs::write(rootfs.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\n").unwrap();
    fs::write(rootfs.join("etc/old"), "old").unwrap();
    fs::write(rootfs.join("opaque/deep/hidden"), "hidden").unwrap();
    fs::write(rootfs.join("removed/deep/file"), "removed").unwrap();
    umoci(&["repack", "--refresh-bundle", "--image", &one, &bundled]);
    let configure = |image: &str| {
        umoci(&[
            "config",
            "--image",
            image,
            "--config.env",
            "PATH=/bin",
            "--config.env",
            "A=x=y",
        ]);
    };
    configure(&one);
    fs::remove_dir_all(rootfs.join("removed")).unwrap();
    fs::remove_file(rootfs.join("etc/old")).unwrap();
    fs::write(rootfs.join("etc/passwd"), "nobody:x:65534:65534::/:\n").unwrap();
    umoci(&["repack", "--image", &two, &bundled]);
    configure(&two);
    let inserted = work.path().join("inserted");
    fs::create_dir(&inserted).unwrap();
    fs::write(inserted.join("new"), "new").unwrap();
    umoci(&[
        "insert",
        "--image",
        &two,
        "--opaque",
        &inserted.display().to_string(),
        "/opaque",
    ]);
    layout
}

fn unpacked_by_umoci(image: &str) -> (TempDir, PathBuf) {
    let work = TempDir::new().unwrap();
    let bundle = work.path().join("bundle");
    run("umoci", |umoci| {
        umoci.args(["unpack", "--image", image]).arg(&bundle)
    });
    (work, bundle.join("rootfs"))
}

#[tokio::test]
async fn an_oci_layout_becomes_the_tree_that_umoci_makes_of_it() {
    let machine = Machine::new().await;
    let layout = layout(&machine.path("layout"));
    let image = machine.fetch(&format!("oci:{layout}:two")).await.unwrap();
    assert_eq!(machine.store.count(), 3);
    let top = image.top.clone().unwrap();
    assert_eq!(top.meta().origin["kind"], "image layer");
    let copy = machine.copy_out(image.top).await;
    let (_work, expected) = unpacked_by_umoci(&format!("{layout}:two"));
    assert_same(copy.path(), &expected);
    let names = |dir: &str| {
        let names = fs::read_dir(copy.path().join(dir)).unwrap();
        names
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect::<BTreeSet<_>>()
    };
    assert_eq!(names("opaque"), BTreeSet::from(["new".into()]));
    assert_eq!(names(""), ["bin", "etc", "opaque"].map(String::from).into());

    // What the first of them has in common with it is there.
    let one = machine.fetch(&format!("oci:{layout}:one")).await.unwrap();
    assert_eq!(machine.store.count(), 3);
    assert_eq!(
        one.env,
        [("PATH", "/bin"), ("A", "x=y")].map(|(n, v)| (n.into(), v.into()))
    );
    let copy = machine.copy_out(one.top).await;
    let (_work, expected) = unpacked_by_umoci(&format!("{layout}:one"));
    assert_same(copy.path(), &expected);
}

#[tokio::test]
async fn a_name_stands_for_the_manifest_that_was_fetched() {
    let machine = Machine::new().await;
    let layout = layout(&machine.path("layout"));
    let cancel = CancellationToken::new();
    let name = format!("oci:{layout}:two");
    let digest = machine
        .fetcher()
        .resolve(name.as_str().into(), &cancel)
        .await
        .unwrap();
    assert_eq!(machine.fetch(&name).await.unwrap().digest, digest);
    let shown = run("skopeo", |skopeo| {
        skopeo.args(["inspect", "--format", "{{.Digest}}", &name])
    });
    assert_eq!(digest.unwrap(), shown.trim());
}

#[tokio::test]
async fn archives_of_docker_save_have_the_same_layers() {
    let machine = Machine::new().await;
    let layout = layout(&machine.path("layout"));
    machine.fetch(&format!("oci:{layout}:two")).await.unwrap();
    let archive = machine.path("archive.tar");
    let to = format!("docker-archive:{}:image:v1", archive.display());
    let from = format!("oci:{layout}:two");
    run("skopeo", |skopeo| {
        skopeo.args(["--insecure-policy", "copy", "--quiet", &from, &to])
    });
    let bytes = fs::read(&archive).unwrap();
    let compressed = [
        ("gz", gzip(&bytes)),
        ("zst", zstd::encode_all(&bytes[..], 1).unwrap()),
    ];
    for (end, bytes) in compressed {
        fs::write(machine.path(&format!("archive.tar.{end}")), bytes).unwrap();
    }
    let name = format!("docker-archive:{}", archive.display());
    for name in [
        name.clone(),
        format!("{name}:image:v1"),
        format!("{name}.gz"),
        format!("{name}.zst:docker.io/library/image:v1"),
    ] {
        let image = machine.fetch(&name).await.unwrap();
        assert_eq!(machine.store.count(), 3, "{name}");
        assert_eq!(image.env[0], ("PATH".into(), "/bin".into()));
    }
    let other = machine
        .fetch(&format!("{name}:image:v2"))
        .await
        .unwrap_err()
        .to_string();
    assert!(other.contains("image:v1"), "{other}");
    assert_eq!(fs::read_dir(machine.path("scratch")).unwrap().count(), 0);
}

#[tokio::test]
async fn archives_of_old_engines_share_layers_by_links() {
    let machine = Machine::new().await;
    let layer = Tar::new().file("a", "1").end();
    let second = gzip(&Tar::new().file("b", "2").end());
    let hex = |bytes: &[u8]| {
        sha256(bytes)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let diff_ids = [
        hex(&layer),
        hex(&Tar::new().file("b", "2").end()),
        hex(&layer),
    ];
    let diff_ids = diff_ids.map(|id| format!("\"sha256:{id}\"")).join(",");
    let config = format!(r#"{{"rootfs":{{"type":"layers","diff_ids":[{diff_ids}]}}}}"#);
    let manifest = r#"[{"Config":"c.json","RepoTags":null,"Layers":["x/layer.tar","y/layer.tar","z/layer.tar"]}]"#;
    let archive = Tar::new()
        .file("c.json", &config)
        .raw(tar::EntryType::Regular, b"x/layer.tar", b"", &layer)
        .raw(tar::EntryType::Regular, b"./y/layer.tar", b"", &second)
        .symlink("z/layer.tar", "../x/layer.tar")
        .file("manifest.json", manifest)
        .end();
    fs::write(machine.path("old.tar"), archive).unwrap();
    let name = format!("docker-archive:{}", machine.path("old.tar").display());
    let image = machine.fetch(&name).await.unwrap();
    assert_eq!(
        image.digest,
        Some(format!("sha256:{}", hex(config.as_bytes())))
    );
    let copy = machine.copy_out(image.top).await;
    assert_eq!(fs::read_to_string(copy.path().join("b")).unwrap(), "2");
    assert_eq!(machine.store.count(), 3);
}

#[tokio::test]
async fn tars_of_root_filesystems_are_images_compressed_or_not() {
    let machine = Machine::new().await;
    let tar = Tar::new().dir("./").file("./etc/hostname", "here").end();
    let zstd = zstd::encode_all(&tar[..], 1).unwrap();
    for (end, bytes) in [
        ("tar", tar.clone()),
        ("tar.gz", gzip(&tar)),
        ("tar.zst", zstd),
    ] {
        let file = machine.path(&format!("root.{end}"));
        fs::write(&file, bytes).unwrap();
        let image = machine
            .fetch(&format!("rootfs:{}", file.display()))
            .await
            .unwrap();
        let copy = machine.copy_out(image.top).await;
        assert_eq!(
            fs::read_to_string(copy.path().join("etc/hostname")).unwrap(),
            "here"
        );
    }
}

/// On a filesystem of 16 MiB, which only the threads of this test see, and which is gone with them.
#[test]
fn a_layer_that_filled_the_disk_has_left_it_when_the_fetch_fails() {
    let story = async {
        let outside = TempDir::new().unwrap();
        let file = outside.path().join("root.tar.gz");
        let zeros = vec![0; 1 << 20];
        let tar = (0..24).fold(Tar::new(), |tar, n| {
            tar.raw(
                tar::EntryType::Regular,
                format!("f{n}").as_bytes(),
                b"",
                &zeros,
            )
        });
        fs::write(&file, gzip(&tar.end())).unwrap();
        let disk = TempDir::new().unwrap();
        rustix::mount::mount(
            "tmpfs",
            disk.path(),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            c"size=16m,mode=0755",
        )
        .unwrap();
        let machine = Machine::at(disk).await;
        for _ in 0..5 {
            let error = machine
                .fetch(&format!("rootfs:{}", file.display()))
                .await
                .unwrap_err();
            assert!(
                matches!(&error, FetchError::Store(error) if error.is_full_disk()),
                "{error}"
            );
            // At once, for whoever makes room and tries again.
            assert_eq!(fs::read_dir(machine.path("store/tmp")).unwrap().count(), 0);
        }
    };
    let test = std::thread::spawn(move || {
        ocluster_obuilder::unshare_mounts().expect("these tests need root");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(story);
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

#[tokio::test]
async fn bad_layouts_are_refused_with_a_reason() {
    let machine = Machine::new().await;
    let layout = layout(&machine.path("layout"));
    let refused = async |name: String| machine.fetch(&name).await.unwrap_err().to_string();
    let several = refused(format!("oci:{layout}")).await;
    assert!(several.contains("one, two"), "{several}");
    let missing = refused(format!("oci:{layout}:three")).await;
    assert!(
        missing.contains("\"three\"") && missing.contains("one, two"),
        "{missing}"
    );
    let nowhere = refused("oci:/nowhere/at/all".into()).await;
    assert!(nowhere.contains("/nowhere/at/all"), "{nowhere}");
    let nobody = refused("busybox".into()).await;
    assert!(nobody.contains("not a local file"), "{nobody}");

    // Each blob in turn is changed by one byte.
    let blobs: Vec<_> = fs::read_dir(machine.path("layout/blobs/sha256"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    let mut told = 0;
    for blob in blobs {
        let good = fs::read(&blob).unwrap();
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&blob, &bad).unwrap();
        let machine = Machine::new().await;
        if let Err(error) = machine.fetch(&format!("oci:{layout}:two")).await {
            machine.nothing_half_made().await;
            assert!(matches!(error, FetchError::Source(_)), "{error}");
            assert!(error.to_string().contains("sha256:"), "{error}");
            told += 1;
        }
        fs::write(&blob, &good).unwrap();
    }
    // Manifest, configuration, three layers; the rest belongs to the other image.
    assert_eq!(told, 5);
    machine.fetch(&format!("oci:{layout}:two")).await.unwrap();
}

#[tokio::test]
async fn images_of_this_processor_are_chosen_from_a_list() {
    let machine = Machine::new().await;
    let layout = layout(&machine.path("layout"));
    let index = machine.path("layout/index.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&index).unwrap()).unwrap();
    let ours = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    for manifest in json["manifests"].as_array_mut().unwrap() {
        let two = manifest["annotations"]["org.opencontainers.image.ref.name"] == "two";
        manifest["annotations"] = serde_json::Value::Null;
        let architecture = if two { ours } else { "s360" };
        manifest["platform"] = serde_json::json!({ "os": "linux", "architecture": architecture });
    }
    fs::write(&index, json.to_string()).unwrap();
    machine.fetch(&format!("oci:{layout}")).await.unwrap();
    assert_eq!(machine.store.count(), 3);
}

#[tokio::test]
async fn others_read_only_what_they_are_allowed_to() {
    let machine = Machine::new().await;
    fs::create_dir(machine.path("images")).unwrap();
    for name in ["images/root.tar", "secret.tar"] {
        fs::write(machine.path(name), Tar::new().file("a", "1").end()).unwrap();
    }
    std::os::unix::fs::symlink("../secret.tar", machine.path("images/link.tar")).unwrap();
    let images = LocalImages::Below(vec![machine.path("images")]);
    let fetcher = ImageFetcher::new(images, Remote::Nobody, machine.path(""));
    let cancel = CancellationToken::new();
    for (file, allowed) in [
        ("images/root.tar", true),
        ("secret.tar", false),
        ("images/link.tar", false),
        ("images/../secret.tar", false),
    ] {
        for kind in ["rootfs", "docker-archive", "oci"] {
            let name = format!("{kind}:{}", machine.path(file).display());
            let done = fetcher
                .fetch(name.as_str().into(), &machine.store, &machine.log, &cancel)
                .await;
            assert_eq!(
                done.is_ok(),
                allowed && kind == "rootfs",
                "{name}: {done:?}"
            );
            let resolved = fetcher.resolve(name.as_str().into(), &cancel).await;
            assert_eq!(
                resolved.is_ok(),
                allowed && kind == "rootfs",
                "{name}: {resolved:?}"
            );
        }
    }
}

/// An image of our own making, whose layers come when a test lets them.
struct Fake {
    layers: Vec<Vec<u8>>,
    asked: Arc<Mutex<Vec<usize>>>,
    /// Permits to give one layer away.
    gate: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// Layers that do not come until they are let go.
    late: BTreeSet<usize>,
    let_go: CancellationToken,
    /// How many were given away.
    given: AtomicUsize,
    fails: Mutex<BTreeSet<usize>>,
    lies: bool,
    origin: &'static str,
}

impl Fake {
    fn new(layers: usize) -> Self {
        let layers = (0..layers).map(|n| gzip(&Tar::new().file(&n.to_string(), "x").end()));
        Self {
            layers: layers.collect(),
            asked: Arc::default(),
            gate: Arc::new(Semaphore::new(1000)),
            waiting: Arc::default(),
            late: BTreeSet::new(),
            let_go: CancellationToken::new(),
            given: AtomicUsize::new(0),
            fails: Mutex::default(),
            lies: false,
            origin: "a place",
        }
    }

    fn late(mut self, layer: usize) -> Self {
        self.late.insert(layer);
        self
    }

    fn from(mut self, origin: &'static str) -> Self {
        self.origin = origin;
        self
    }

    fn closed(mut self) -> Self {
        self.gate = Arc::new(Semaphore::new(0));
        self
    }

    fn asked(&self) -> Vec<usize> {
        let mut asked = self.asked.lock().unwrap().clone();
        asked.sort_unstable();
        asked
    }
}

impl ImageSource for Fake {
    fn origin(&self) -> &str {
        self.origin
    }

    fn manifest<'a>(
        &'a self,
        _cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<ImageManifest, FetchError>> {
        let layers = self
            .layers
            .iter()
            .enumerate()
            .map(|(n, layer)| LayerDescriptor {
                digest: if self.lies { [7; 32] } else { sha256(layer) },
                size: Some(layer.len() as u64),
                diff_id: Some(sha256(&Tar::new().file(&n.to_string(), "x").end())),
            });
        let manifest = ImageManifest {
            digest: None,
            layers: layers.collect(),
            env: Vec::new(),
        };
        async { Ok(manifest) }.boxed()
    }

    fn blob<'a>(
        &'a self,
        layer: &'a LayerDescriptor,
        _log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Blob, FetchError>> {
        async move {
            let found = self
                .layers
                .iter()
                .position(|bytes| sha256(bytes) == layer.digest);
            let n = found.unwrap_or_default();
            self.asked.lock().unwrap().push(n);
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let permit = cancel.run_until_cancelled(self.gate.acquire()).await;
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            permit.ok_or(FetchError::Cancelled)?.unwrap().forget();
            if self.late.contains(&n) {
                let waited = cancel.run_until_cancelled(self.let_go.cancelled()).await;
                waited.ok_or(FetchError::Cancelled)?;
            }
            if self.fails.lock().unwrap().remove(&n) {
                return Err(FetchError::Source("the line is cut".into()));
            }
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&self.layers[n]).unwrap();
            let range = 0..self.layers[n].len() as u64;
            self.given.fetch_add(1, Ordering::SeqCst);
            Ok(Blob {
                file,
                range,
                verified: false,
            })
        }
        .boxed()
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn two_installs_at_once_make_each_layer_once() {
    let machine = Machine::new().await;
    let installer = Installer::default();
    let (first, second) = (Fake::new(6).closed(), Fake::new(6).closed());
    let (a, b, ()) = tokio::join!(
        machine.install(&installer, &first),
        machine.install(&installer, &second),
        async {
            until("both ask", || {
                [&first, &second].map(|fake| fake.waiting.load(Ordering::SeqCst)) == [3, 3]
            })
            .await;
            first.gate.add_permits(100);
            second.gate.add_permits(100);
        }
    );
    assert_eq!(a.unwrap().top.unwrap().id(), b.unwrap().top.unwrap().id());
    assert_eq!(machine.told().matches(" bytes\n").count(), 6);
    assert_eq!(machine.store.count(), 6);
}

/// Lets `first` have its second layer in hand and its first one not, and then runs `second`.
async fn after_one_that_hangs(
    machine: &Machine,
    installer: &Installer,
    second: &Fake,
) -> Result<BaseImage, FetchError> {
    let first = Fake::new(2).late(0);
    tokio::select! {
        _ = machine.install(installer, &first) => panic!("its first layer never comes"),
        done = async {
            until("one layer came", || first.given.load(Ordering::SeqCst) == 1).await;
            let done = machine.install(installer, second);
            tokio::time::timeout(PATIENCE, done).await.expect("an end")
        } => done,
    }
}

#[tokio::test]
async fn an_install_that_stands_still_holds_up_nobody_for_long() {
    let machine = Machine::new().await;
    let installer = Installer::default().with_patience(Duration::from_millis(200));
    let image = after_one_that_hangs(&machine, &installer, &Fake::new(2)).await;
    assert!(image.unwrap().top.is_some());
    assert_eq!(machine.store.count(), 2);
    let told = machine.told();
    assert!(told.contains("does not get on with it"), "{told}");
}

#[tokio::test]
async fn a_slow_place_holds_up_no_images_of_others() {
    let machine = Machine::new().await;
    // Longer than the test waits.
    let installer = Installer::default().with_patience(PATIENCE * 10);
    let other = Fake::new(2).from("elsewhere");
    let image = after_one_that_hangs(&machine, &installer, &other).await;
    assert!(image.unwrap().top.is_some());
    let told = machine.told();
    assert!(!told.contains("another build"), "{told}");
}

#[tokio::test]
async fn who_waited_for_one_that_failed_makes_the_layer() {
    let machine = Machine::new().await;
    let installer = Installer::default().with_patience(PATIENCE * 10);
    let (first, second) = (Fake::new(2).late(0), Fake::new(2));
    first.fails.lock().unwrap().insert(0);
    let (a, b) = tokio::join!(machine.install(&installer, &first), async {
        until("one layer came", || first.given.load(Ordering::SeqCst) == 1).await;
        let (done, ()) = tokio::join!(machine.install(&installer, &second), async {
            until("the lowest is made", || machine.store.count() == 1).await;
            first.let_go.cancel();
        });
        done
    });
    assert_eq!(a.unwrap_err().to_string(), "the line is cut");
    b.unwrap();
    // The other had the second in hand.
    assert_eq!(second.given.load(Ordering::SeqCst), 2);
    assert_eq!(machine.store.count(), 2);
}

#[tokio::test]
async fn an_interrupted_install_keeps_whole_layers_and_goes_on_there() {
    let machine = Machine::new().await;
    let installer = Installer::default();
    let source = Fake::new(4);
    source.fails.lock().unwrap().insert(2);
    machine.install(&installer, &source).await.unwrap_err();
    assert_eq!(machine.store.count(), 2);
    source.asked.lock().unwrap().clear();
    machine.install(&installer, &source).await.unwrap();
    assert_eq!(source.asked(), [2, 3]);
    // Nothing is missing now.
    machine.install(&installer, &source).await.unwrap();
    assert_eq!(source.asked(), [2, 3]);
}

#[tokio::test]
async fn no_more_than_three_layers_are_fetched_ahead() {
    let machine = Machine::new().await;
    let installer = Installer::default();
    let source = Fake::new(9).closed();
    let (done, ()) = tokio::join!(machine.install(&installer, &source), async {
        for given in 0..=6 {
            until("three wait", || source.waiting.load(Ordering::SeqCst) == 3).await;
            assert_eq!(source.asked().len(), given + 3);
            source.gate.add_permits(1);
            until("one came", || {
                source.asked().len() > given + 3 || given == 6
            })
            .await;
        }
        source.gate.add_permits(100);
    });
    done.unwrap();
    assert_eq!(machine.store.count(), 9);
}

#[tokio::test]
async fn an_install_can_be_cancelled_while_it_fetches_and_while_it_waits() {
    let machine = Machine::new().await;
    let installer = Installer::default();
    let (first, second) = (Fake::new(3).closed(), Fake::new(3));
    let (cancel_first, cancel_second) = (CancellationToken::new(), CancellationToken::new());
    let (a, ()) = tokio::join!(
        installer.install(&first, &machine.store, &machine.log, &cancel_first),
        async {
            until("all are asked for", || {
                first.waiting.load(Ordering::SeqCst) == 3
            })
            .await;
            let (b, ()) = tokio::join!(
                installer.install(&second, &machine.store, &machine.log, &cancel_second),
                async {
                    tokio::task::yield_now().await;
                    cancel_second.cancel();
                }
            );
            assert!(matches!(b, Err(FetchError::Cancelled)), "{b:?}");
            cancel_first.cancel();
        }
    );
    assert!(matches!(a, Err(FetchError::Cancelled)), "{a:?}");
    assert_eq!(machine.store.count(), 0);
    machine.install(&installer, &second).await.unwrap();
}

#[tokio::test]
async fn a_layer_with_another_digest_is_thrown_away() {
    let machine = Machine::new().await;
    let mut source = Fake::new(1);
    source.lies = true;
    let error = machine
        .install(&Installer::default(), &source)
        .await
        .unwrap_err();
    assert!(matches!(error, FetchError::Source(_)), "{error}");
    assert!(error.to_string().contains("0707"), "{error}");
    assert_eq!(machine.store.count(), 0);
    machine.nothing_half_made().await;
}

#[tokio::test]
async fn an_image_without_layers_has_no_tree() {
    let machine = Machine::new().await;
    let image = machine
        .install(&Installer::default(), &Fake::new(0))
        .await
        .unwrap();
    assert!(image.top.is_none());
}
