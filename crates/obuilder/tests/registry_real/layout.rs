//! OCI layouts, written by hand.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use ocluster_obuilder::image::registry::{Digest, Platform};

/// An archive with one file.
pub(crate) fn tar(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).expect("room");
    tar.into_inner().expect("room")
}

/// Writes an image with these layers (tars), compressed with gzip, into `dir`, for this machine.
pub(crate) fn write(dir: &Path, tars: &[Vec<u8>]) {
    let blobs = dir.join("blobs/sha256");
    fs::create_dir_all(&blobs).expect("a directory");
    let add = |bytes: &[u8]| {
        let digest = Digest::of(bytes);
        fs::write(blobs.join(digest.hex()), bytes).expect("a file");
        (digest, bytes.len())
    };
    let layers: Vec<_> = tars
        .iter()
        .map(|tar| {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(tar).expect("room");
            let (digest, size) = add(&gzip.finish().expect("room"));
            format!(r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{digest}","size":{size}}}"#)
        })
        .collect();
    let ids: Vec<_> = tars
        .iter()
        .map(|tar| format!("\"{}\"", Digest::of(tar)))
        .collect();
    let Platform {
        os, architecture, ..
    } = Platform::here();
    let (config, size) = add(
        format!(
            r#"{{"created":"2024-01-01T00:00:00Z","os":"{os}","architecture":"{architecture}","config":{{"Env":["PATH=/bin:/usr/bin","GREETING=a=b c"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}},"history":[{}]}}"#,
            ids.join(","),
            vec![r#"{"created":"2024-01-01T00:00:00Z","created_by":"a test"}"#; tars.len()].join(",")
        )
        .as_bytes(),
    );
    let (manifest, length) = add(
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":{size}}},"layers":[{}]}}"#,
            layers.join(",")
        )
        .as_bytes(),
    );
    let index = format!(
        r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{manifest}","size":{length}}}]}}"#
    );
    fs::write(dir.join("index.json"), index).expect("a file");
    fs::write(dir.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("a file");
}
