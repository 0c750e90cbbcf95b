//! What images say about themselves: indexes, manifests, configurations. All of it is checked against its digest before it is read.

use std::collections::BTreeMap;

use bstr::BString;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::image::registry::{Digest, architecture};
use crate::image::{FetchError, LayerDescriptor};

/// The largest of these documents, in bytes. Registries allow no larger ones.
pub(super) const LARGEST: u64 = 4 << 20;
/// Which image of an index a name stands for.
pub(super) const TAG: &str = "org.opencontainers.image.ref.name";

/// A reference to something by digest.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Descriptor {
    #[serde(rename = "mediaType", default)]
    pub(super) media_type: String,
    pub(super) digest: String,
    pub(super) size: u64,
    #[serde(default)]
    pub(super) platform: Option<Platform>,
    #[serde(default)]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What an image runs on, in Go's words.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Platform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
}

/// An index, or a manifest: they are told apart by what they hold.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) manifests: Option<Vec<Descriptor>>,
    pub(super) config: Option<Descriptor>,
    pub(super) layers: Option<Vec<Descriptor>>,
}

/// An image's configuration.
#[derive(Debug, Deserialize)]
pub(super) struct Config {
    config: Option<Runtime>,
    rootfs: Rootfs,
}

#[derive(Debug, Deserialize)]
struct Runtime {
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct Rootfs {
    diff_ids: Option<Vec<String>>,
}

impl Descriptor {
    pub(super) fn tag(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(TAG).map(String::as_str)
    }

    pub(super) fn digest(&self) -> Result<[u8; 32], FetchError> {
        digest(&self.digest)
    }

    /// Whether it runs here. What does not say is believed to.
    pub(super) fn suits(&self) -> bool {
        self.platform.as_ref().is_none_or(|platform| {
            platform.os == "linux" && platform.architecture == architecture()
        })
    }

    /// Refuses what is no layer of files, or one that cannot be read.
    pub(super) fn layer(&self, diff_id: [u8; 32]) -> Result<LayerDescriptor, FetchError> {
        let kind = self.media_type.as_str();
        let known = ["", "+gzip", ".gzip", "+zstd", ".zstd"];
        let readable = [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.docker.image.rootfs.diff.tar",
        ]
        .iter()
        .filter_map(|start| kind.strip_prefix(start))
        .any(|end| known.contains(&end));
        if !readable {
            return Err(FetchError::Request(format!(
                "the image has a layer of the type {kind:?}, which is not supported"
            )));
        }
        Ok(LayerDescriptor {
            digest: self.digest()?,
            size: Some(self.size),
            diff_id: Some(diff_id),
        })
    }
}

impl Config {
    /// The environment, in order. Entries without an equals sign have no value, and are no variables.
    pub(super) fn env(&self) -> Vec<(BString, BString)> {
        let env = self.config.as_ref().and_then(|config| config.env.as_ref());
        env.into_iter()
            .flatten()
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.into(), value.into()))
            .collect()
    }

    /// What the layers are, of which there must be `count`.
    pub(super) fn diff_ids(&self, count: usize) -> Result<Vec<[u8; 32]>, FetchError> {
        let ids = self.rootfs.diff_ids.as_deref().unwrap_or_default();
        if ids.len() != count {
            return Err(FetchError::Request(format!(
                "the image has {count} layers, but its configuration tells of {}",
                ids.len()
            )));
        }
        ids.iter().map(|id| digest(id)).collect()
    }
}

/// Reads a document.
pub(super) fn parse<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, FetchError> {
    serde_json::from_slice(bytes)
        .map_err(|error| FetchError::Request(format!("the image's {what} is malformed: {error}")))
}

/// Reads `sha256:` and 64 digits.
pub(super) fn digest(text: &str) -> Result<[u8; 32], FetchError> {
    let digest: Digest = text.parse().map_err(|_| {
        FetchError::Request(format!(
            "the image names something by {text:?}, which is not a SHA-256 digest"
        ))
    })?;
    Ok(digest.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_64_lower_case_digits_of_sha256() {
        let digits = "0123456789abcdef".repeat(4);
        assert_eq!(
            digest(&format!("sha256:{digits}")).unwrap()[..2],
            [0x01, 0x23]
        );
        for wrong in [
            digits.clone(),
            format!("sha256:{}", digits.to_uppercase()),
            format!("sha256:{}", &digits[..62]),
            format!("sha256:{digits}0"),
            format!("sha512:{digits}{digits}"),
            format!("sha256:../../{}", &digits[..58]),
        ] {
            assert!(digest(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_environment_keeps_its_order_and_its_equals_signs() {
        let text = r#"{"config":{"Env":["B=1","A=x=y","C=","D"]},"rootfs":{"diff_ids":null}}"#;
        let config: Config = parse("configuration", text.as_bytes()).unwrap();
        let env = config.env();
        assert_eq!(
            env,
            [("B", "1"), ("A", "x=y"), ("C", "")].map(|(n, v)| (n.into(), v.into()))
        );
        assert!(config.diff_ids(0).unwrap().is_empty());
        assert!(config.diff_ids(1).is_err());
    }
}
