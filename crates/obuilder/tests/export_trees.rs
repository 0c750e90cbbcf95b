//! Trees exported as files, tars and images, and taken back. Needs root, `skopeo`, `umoci` and GNU tar.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/tars.rs"]
mod tars;
#[path = "support/trees.rs"]
mod trees;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::{Arc, Mutex};

use ocluster_obuilder::export::{
    Destination, ExportError, ImageConfig, LayerCompression, OciExport, write_oci, write_path,
};
use ocluster_obuilder::image::{
    Expected, ImageSource, LocalImages, OciLayout, Unpack, unpack_layer,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use trees::{assert_same, run, varied};

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn tar_of(root: &Path, path: &str) -> Result<Vec<u8>, ExportError> {
    let out = Shared::default();
    let to = Destination::Tar(Box::new(out.clone()));
    write_path(root, path.into(), to, &CancellationToken::new())?;
    let bytes = out.0.lock().unwrap().clone();
    Ok(bytes)
}

fn export(root: &Path, path: &str, to: &Path) -> Result<(), ExportError> {
    let to = Destination::Directory(to.to_owned());
    write_path(root, path.into(), to, &CancellationToken::new())
}

#[test]
fn a_directory_comes_out_with_all_that_files_have() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    export(tree.path(), "/", out.path()).unwrap();
    assert_same(out.path(), tree.path());
    let linked = |name: &str| fs::metadata(out.path().join(name)).unwrap().ino();
    assert_eq!(linked("bin/setuid"), linked("hard"));
}

#[test]
fn gnu_tar_reads_what_is_written() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    let file = out.path().join("tar");
    fs::write(&file, tar_of(tree.path(), "/").unwrap()).unwrap();
    let unpacked = out.path().join("unpacked");
    fs::create_dir(&unpacked).unwrap();
    let args = ["--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"];
    run("tar", |tar| {
        tar.args(args).arg(&file).arg("-C").arg(&unpacked)
    });
    assert_same(&unpacked, tree.path());
}

#[test]
fn one_file_or_directory_keeps_its_name() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    export(tree.path(), "/bin/setuid", &out.path().join("new/place")).unwrap();
    let file = fs::metadata(out.path().join("new/place/setuid")).unwrap();
    assert_eq!((file.mode(), file.uid(), file.gid()), (0o106755, 12, 34));
    export(tree.path(), "bin", out.path()).unwrap();
    assert!(out.path().join("bin/setuid").exists());
    export(tree.path(), "bin/", &out.path().join("content")).unwrap();
    assert!(out.path().join("content/setuid").exists());
}

#[test]
fn nothing_outside_of_the_result_comes_out() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    let root = tree.path();
    let secret = TempDir::new().unwrap();
    fs::write(secret.path().join("key"), "secret").unwrap();
    symlink(secret.path(), root.join("out")).unwrap();
    symlink(secret.path().join("key"), root.join("key")).unwrap();
    symlink("/bin", root.join("programs")).unwrap();
    let up = "../".repeat(20);
    for path in [
        "out/key",
        "/out/key",
        &format!("{up}{}/key", secret.path().display()),
        "out/",
        "missing",
        "bin/setuid/x",
        "a\0b",
    ] {
        let error = export(root, path, out.path()).unwrap_err();
        assert!(matches!(error, ExportError::Missing(_)), "{path}: {error}");
    }
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0);
    // A link at the end comes out as a link, one on the way leads where it leads in the result.
    export(root, "key", out.path()).unwrap();
    assert!(
        fs::symlink_metadata(out.path().join("key"))
            .unwrap()
            .is_symlink()
    );
    export(root, "programs/setuid", out.path()).unwrap();
    assert!(fs::metadata(out.path().join("setuid")).unwrap().is_file());
}

#[test]
fn what_is_in_the_way_outside_is_not_followed() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    let victim = TempDir::new().unwrap();
    symlink(victim.path(), out.path().join("bin")).unwrap();
    export(tree.path(), "bin", out.path()).unwrap();
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 0);
}

fn image(directory: &Path, compression: LayerCompression) -> OciExport {
    OciExport {
        directory: directory.to_owned(),
        tag: "result".into(),
        compression,
        config: ImageConfig {
            env: vec![("PATH".into(), "/bin".into()), ("A".into(), "b=c".into())],
            workdir: Some("/src".into()),
            user: Some("12:34".into()),
            cmd: vec!["/bin/sh".into()],
        },
    }
}

async fn layer_of(
    layout: &Path,
    tag: &str,
    into: &Path,
) -> ocluster_obuilder::image::ImageManifest {
    let cancel = CancellationToken::new();
    let source = OciLayout::new(layout.to_owned(), Some(tag.into()), LocalImages::Any);
    let manifest = source.manifest(&cancel).await.unwrap();
    let log = TempDir::new().unwrap();
    let log = ocluster_obuilder::StepLog::create(&log.path().join("log"))
        .await
        .unwrap();
    for layer in &manifest.layers {
        let blob = source.blob(layer, &log, &cancel).await.unwrap();
        let how = Unpack {
            expected: Expected {
                digest: Some(layer.digest),
                diff_id: layer.diff_id,
            },
            ..Unpack::default()
        };
        unpack_layer(into, blob.file, &how, &cancel).unwrap();
    }
    manifest
}

#[tokio::test]
async fn images_come_back_as_the_same_tree_however_they_are_compressed() {
    let tree = varied();
    for compression in [
        LayerCompression::None,
        LayerCompression::Gzip,
        LayerCompression::Zstd,
    ] {
        let (out, back) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let digest = write_oci(
            tree.path(),
            &image(out.path(), compression),
            &CancellationToken::new(),
        )
        .unwrap();
        let manifest = layer_of(out.path(), "result", back.path()).await;
        assert_eq!(manifest.digest, Some(digest));
        assert_eq!(
            manifest.env,
            [("PATH", "/bin"), ("A", "b=c")].map(|(n, v)| (n.into(), v.into()))
        );
        assert_same(back.path(), tree.path());
    }
}

#[test]
fn the_same_tree_gives_the_same_image_and_others_in_the_layout_stay() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    let cancel = CancellationToken::new();
    let mut to = image(out.path(), LayerCompression::Gzip);
    let first = write_oci(tree.path(), &to, &cancel).unwrap();
    assert_eq!(write_oci(tree.path(), &to, &cancel).unwrap(), first);
    to.tag = "second".into();
    assert_eq!(write_oci(tree.path(), &to, &cancel).unwrap(), first);
    let index: serde_json::Value =
        serde_json::from_slice(&fs::read(out.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 2);
    assert_eq!(
        fs::read_dir(out.path().join("blobs/sha256"))
            .unwrap()
            .count(),
        3
    );
}

#[test]
fn names_that_layers_cannot_have_are_refused() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    fs::write(tree.path().join(".wh.a"), "").unwrap();
    let to = image(out.path(), LayerCompression::None);
    let error = write_oci(tree.path(), &to, &CancellationToken::new()).unwrap_err();
    assert!(matches!(error, ExportError::Refused { .. }), "{error}");
    assert_eq!(
        fs::read_dir(out.path().join("blobs/sha256"))
            .unwrap()
            .count(),
        0
    );
    tar_of(tree.path(), "/").unwrap();
}

#[test]
fn umoci_and_skopeo_accept_an_exported_image() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    let layout = out.path().join("layout");
    write_oci(
        tree.path(),
        &image(&layout, LayerCompression::Gzip),
        &CancellationToken::new(),
    )
    .unwrap();
    let named = format!("{}:result", layout.display());
    let shown = run("skopeo", |skopeo| {
        skopeo
            .arg("inspect")
            .arg("--config")
            .arg(format!("oci:{named}"))
    });
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["config"]["WorkingDir"], "/src");
    assert_eq!(shown["config"]["User"], "12:34");
    assert_eq!(shown["config"]["Cmd"][0], "/bin/sh");
    assert_eq!(shown["config"]["Env"][1], "A=b=c");
    let archive = out.path().join("archive.tar");
    let to = format!("docker-archive:{}:result:latest", archive.display());
    run("skopeo", |skopeo| {
        skopeo
            .args(["--insecure-policy", "copy", "--quiet"])
            .arg(format!("oci:{named}"))
            .arg(to)
    });
    assert!(archive.exists());
    let bundle = out.path().join("bundle");
    run("umoci", |umoci| {
        umoci.args(["unpack", "--image"]).arg(&named).arg(&bundle)
    });
    let unpacked = bundle.join("rootfs");
    assert_same(&unpacked, tree.path());
}

#[test]
fn an_export_can_be_cancelled() {
    let (tree, out) = (varied(), TempDir::new().unwrap());
    let cancel = CancellationToken::new();
    cancel.cancel();
    let to = Destination::Directory(out.path().to_owned());
    let error = write_path(tree.path(), "/".into(), to, &cancel).unwrap_err();
    assert!(matches!(error, ExportError::Cancelled), "{error}");
    let error = write_oci(
        tree.path(),
        &image(out.path(), LayerCompression::Zstd),
        &cancel,
    )
    .unwrap_err();
    assert!(matches!(error, ExportError::Cancelled), "{error}");
}
