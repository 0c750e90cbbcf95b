//! A base image from a registry, compared with `skopeo copy` to a directory and `umoci unpack`.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ocluster_obuilder::build::{Builder, BuilderOptions};
use ocluster_obuilder::image::{ImageFetcher, LocalImages, Registries, RegistryConfig, Remote};
use ocluster_obuilder::sandbox::{RuncConfig, RuncSandbox};
use ocluster_obuilder::spec::Spec;
use ocluster_obuilder::store::{Kind, Location, Store, StoreOptions};

use super::args::Numbers;
use super::figures::{Figure, Limit};
use super::lab::{self, Lab, finish};
use super::steps::limit;
use crate::pairs::Pairs;

/// Layers of the image.
const LAYERS: usize = 4;
/// Files in each.
const FILES: usize = 400;
/// Of each file, in KiB. Together they are 200 MiB.
const FILE_KIB: usize = 128;
/// What a pull may take, as a multiple of the others' time.
const RATIO: f64 = 1.5;
/// How long the registry may take to listen.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Pulls the image into a new store, and the others' way, in turns.
pub(super) async fn pull(lab: &Lab, numbers: Numbers) -> anyhow::Result<Figure> {
    let image = lab.beside("image");
    make_image(&image)?;
    let registry = Registry::start(&lab.beside("registry"))?;
    let name = format!("127.0.0.1:{}/base:1", registry.port);
    finish(
        Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q", "--dest-tls-verify=false"])
            .arg(format!("oci:{}:1", image.display()))
            .arg(format!("docker://{name}")),
    )?;
    let mut pairs = Pairs::default();
    for pair in 0..numbers.pulls {
        let mut theirs = Duration::ZERO;
        if pair % 2 == 0 {
            theirs = their_pull(lab, &name)?;
        }
        let ours = our_pull(lab, &name).await?;
        if pair % 2 != 0 {
            theirs = their_pull(lab, &name)?;
        }
        pairs.add(ours, theirs);
    }
    drop(registry);
    let compared = pairs.compare()?;
    Ok(Figure {
        name: format!(
            "{}: a pull of 200 MiB as a multiple of skopeo's and umoci's time",
            lab.word()
        ),
        value: compared.ratio,
        unit: "",
        limit: limit(lab, Limit::Below(RATIO)),
        details: format!(
            "{:.2} s ours, {:.2} s theirs (medians of {} pairs)",
            compared.ours_ms / 1000.0,
            compared.theirs_ms / 1000.0,
            compared.pairs
        ),
    })
}

async fn our_pull(lab: &Lab, name: &str) -> anyhow::Result<Duration> {
    let root = lab.beside("pulled");
    fs::create_dir(&root)?;
    let location = Location {
        kind: Kind::Overlayfs,
        root: root.join("store"),
    };
    let store = Store::open(&location, StoreOptions::default()).await?;
    let sandbox = RuncSandbox::open(RuncConfig::new(root.join("sandbox"))).await?;
    let began = Instant::now();
    let registries = Registries::open(RegistryConfig::new(root.join("blobs"))).await?;
    let fetcher = ImageFetcher::new(
        LocalImages::Any,
        Remote::Registries(registries),
        root.clone(),
    );
    let builder = Builder::new(
        store,
        Arc::new(sandbox),
        Arc::new(fetcher),
        BuilderOptions::default(),
    );
    let spec = Spec::parse(format!("((from {name}))").as_bytes())
        .map_err(|error| anyhow::anyhow!("{error}"))?;
    let result = lab::build(&builder, &root, &spec).await?;
    let took = began.elapsed();
    drop((result, builder));
    remove(&root)?;
    Ok(took)
}

fn their_pull(lab: &Lab, name: &str) -> anyhow::Result<Duration> {
    let root = lab.beside("theirs");
    fs::create_dir(&root)?;
    let (layout, bundle) = (root.join("layout"), root.join("bundle"));
    let began = Instant::now();
    finish(
        Command::new("skopeo")
            .args(["--insecure-policy", "copy", "-q", "--src-tls-verify=false"])
            .arg(format!("docker://{name}"))
            .arg(format!("oci:{}:1", layout.display())),
    )?;
    finish(
        Command::new("umoci")
            .args(["unpack", "--image"])
            .arg(format!("{}:1", layout.display()))
            .arg(&bundle),
    )?;
    let took = began.elapsed();
    remove(&root)?;
    Ok(took)
}

/// A store may still be tidying up when its last handle is gone.
fn remove(root: &Path) -> anyhow::Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        match fs::remove_dir_all(root) {
            Err(error) if Instant::now() > deadline => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(50)),
            Ok(()) => return Ok(()),
        }
    }
}

/// Makes an image as an OCI layout, of files that can be compressed to about a half.
fn make_image(layout: &Path) -> anyhow::Result<()> {
    let name = format!("{}:1", layout.display());
    finish(Command::new("umoci").args(["init", "--layout"]).arg(layout))?;
    finish(Command::new("umoci").args(["new", "--image", &name]))?;
    let tar = layout.with_extension("tar");
    let mut seed = 1u64;
    for layer in 0..LAYERS {
        let mut builder = tar::Builder::new(fs::File::create(&tar)?);
        for file in 0..FILES {
            let mut content = Vec::with_capacity(FILE_KIB * 1024);
            while content.len() < FILE_KIB * 1024 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                content.write_all(&seed.to_be_bytes())?;
                content.write_all(b"repeated")?;
            }
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(1_000_000_000);
            header.set_cksum();
            let path = format!("usr/share/{layer}/{}/{file}", file % 20);
            builder.append_data(&mut header, path, content.as_slice())?;
        }
        builder.into_inner()?;
        finish(
            Command::new("umoci")
                .args(["raw", "add-layer", "--image", &name])
                .arg(&tar),
        )?;
    }
    fs::remove_file(tar)?;
    Ok(())
}

/// A registry on loopback, gone with this.
struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    fn start(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir(directory)?;
        // A free port: taken again by the registry right away.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let config = directory.join("config.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
                directory.display()
            ),
        )?;
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("cannot run docker-registry: is it installed?")?;
        let registry = Self { process, port };
        let deadline = Instant::now() + START_LIMIT;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            ensure!(Instant::now() < deadline, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
