//! Images as registries should serve them, for tests that change one thing.

use std::collections::BTreeMap;

use ocluster_obuilder::image::registry::Digest;

use crate::server::{Reply, Request};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// An image, and the registry's content that it takes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    /// Manifests by tag and digest, with their types.
    pub(crate) manifests: BTreeMap<String, (String, Vec<u8>)>,
    /// Blobs by digest.
    pub(crate) blobs: BTreeMap<String, Vec<u8>>,
    /// The layers' digests.
    pub(crate) layers: Vec<Digest>,
    /// The manifest's digest.
    pub(crate) digest: String,
}

/// Bytes that nothing compresses and nothing repeats.
pub(crate) fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

impl Image {
    /// One with these layers, tagged `latest`.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        let mut image = Self::default();
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let quoted: Vec<_> = diff_ids.iter().map(|id| format!("\"{id}\"")).collect();
        let config = format!(
            r#"{{"os":"linux","architecture":"{}","config":{{"Env":["PATH=/bin","A=b=c"]}},"rootfs":{{"type":"layers","diff_ids":[{}]}}}}"#,
            architecture(),
            quoted.join(",")
        );
        let config_digest = image.add_blob(config.as_bytes());
        let listed: Vec<_> = layers
            .iter()
            .map(|layer| {
                let digest = image.add_blob(layer);
                image.layers.push(digest);
                format!(
                    r#"{{"mediaType":"{OCI_LAYER}","digest":"{digest}","size":{}}}"#,
                    layer.len()
                )
            })
            .collect();
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{}]}}"#,
            config.len(),
            listed.join(",")
        );
        image.tag(OCI_MANIFEST, manifest.as_bytes());
        image
    }

    /// Puts a list with this image for `platform` (and nothing for others) in its place.
    pub(crate) fn listed(mut self, os: &str, architecture: &str) -> Self {
        let (kind, manifest) = self.manifests[&self.digest].clone();
        let list = format!(
            r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[{{"mediaType":"{kind}","digest":"{}","size":{},"platform":{{"os":"{os}","architecture":"{architecture}"}}}}]}}"#,
            self.digest,
            manifest.len()
        );
        self.tag(OCI_INDEX, list.as_bytes());
        self
    }

    /// Makes `document` what `latest` stands for.
    pub(crate) fn tag(&mut self, kind: &str, document: &[u8]) {
        self.digest = Digest::of(document).to_string();
        for name in ["latest", &self.digest.clone()] {
            let entry = (kind.to_owned(), document.to_vec());
            self.manifests.insert(name.to_owned(), entry);
        }
    }

    pub(crate) fn add_blob(&mut self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        self.blobs.insert(digest.to_string(), bytes.to_vec());
        digest
    }

    /// What an honest registry answers.
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let name = request.path.rsplit('/').next().unwrap_or_default();
        if request.path.contains("/manifests/") {
            return match self.manifests.get(name) {
                Some((kind, bytes)) => Reply::new(200, bytes.clone())
                    .with("content-type", kind)
                    .with("docker-content-digest", Digest::of(bytes).to_string()),
                None => Reply::new(404, "{}"),
            };
        }
        match (self.blobs.get(name), request.from()) {
            (None, _) => Reply::new(404, "{}"),
            (Some(bytes), None) => Reply::new(200, bytes.clone()),
            (Some(bytes), Some(from)) if from >= bytes.len() => Reply::new(416, ""),
            (Some(bytes), Some(from)) => Reply::new(206, &bytes[from..]).with(
                "content-range",
                format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()),
            ),
        }
    }
}

/// This machine's, in registries' words.
pub(crate) fn architecture() -> String {
    ocluster_obuilder::image::registry::Platform::here().architecture
}
