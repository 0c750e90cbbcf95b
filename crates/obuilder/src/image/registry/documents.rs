//! What registries say about images: manifests, lists of manifests, configurations. Read strictly where a wrong guess would be a wrong
//! image, leniently elsewhere.

use bstr::BString;
use serde::Deserialize;

use super::{Digest, Platform};
use crate::image::LayerDescriptor;

/// The largest manifest or list, in bytes: what registries must take at least.
pub(super) const MAX_MANIFEST: u64 = 4 << 20;
/// The largest configuration, in bytes.
pub(super) const MAX_CONFIG: u64 = 4 << 20;
/// The types of manifests that are understood, for the header `Accept`.
pub(super) const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json";
/// Why a manifest of the first kind that Docker had is refused.
pub(super) const SCHEMA_1: &str = "it has Docker's old schema 1, which says too little to be checked; push the image again with a newer tool";
/// The longest list of what there is in an error.
const MAX_LISTED: usize = 20;

/// A manifest, or a list of them.
#[derive(Debug)]
pub(super) enum Document {
    List(Vec<Descriptor>),
    Image {
        config: Descriptor,
        layers: Vec<Descriptor>,
    },
}

/// Something else in the registry.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    pub(super) size: u64,
    #[serde(default)]
    urls: Option<Vec<String>>,
    #[serde(default)]
    platform: Option<ListedPlatform>,
}

#[derive(Clone, Debug, Deserialize)]
struct ListedPlatform {
    #[serde(default)]
    os: String,
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    variant: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// An image's configuration, as far as it matters here.
#[derive(Debug)]
pub(super) struct Config {
    pub(super) env: Vec<(BString, BString)>,
    pub(super) diff_ids: Vec<Digest>,
    pub(super) platform: Option<Platform>,
}

#[derive(Deserialize)]
struct RawConfig {
    os: Option<String>,
    architecture: Option<String>,
    variant: Option<String>,
    config: Option<Runtime>,
    rootfs: Option<Rootfs>,
}

#[derive(Deserialize)]
struct Runtime {
    #[serde(rename = "Env")]
    env: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Rootfs {
    #[serde(default)]
    diff_ids: Option<Vec<String>>,
}

impl Descriptor {
    pub(super) fn digest(&self) -> Result<Digest, String> {
        // It was read from the registry, and is shown only if it looks like one.
        self.digest.parse().map_err(|_| {
            let algorithm = self.digest.split(':').next().unwrap_or_default();
            if matches!(algorithm, "sha384" | "sha512") {
                format!("it has a digest of kind {algorithm}, where only sha256 is understood")
            } else {
                "it has a digest that is none".to_owned()
            }
        })
    }

    fn platform(&self) -> Option<Platform> {
        let listed = self.platform.clone()?;
        Some(Platform {
            os: listed.os,
            architecture: listed.architecture,
            variant: listed.variant,
        })
    }
}

/// Whether an answer of this type is a manifest of the first kind that Docker had. Its digest is not that of its bytes.
pub(super) fn is_schema_1(content_type: &str) -> bool {
    content_type.starts_with("application/vnd.docker.distribution.manifest.v1")
}

/// Reads a manifest or list. The error is part of a sentence: "the manifest is refused: ...".
pub(super) fn document(bytes: &[u8], content_type: &str) -> Result<Document, String> {
    let raw: Raw = json(bytes)?;
    if raw.schema_version == Some(1) || is_schema_1(content_type) {
        return Err(SCHEMA_1.to_owned());
    }
    if raw.schema_version.is_some_and(|version| version != 2) {
        return Err("its schema version is not known".to_owned());
    }
    let is_list = raw.media_type.as_deref().map(|name| {
        name.ends_with(".image.index.v1+json") || name.ends_with(".manifest.list.v2+json")
    });
    match (raw.manifests, raw.config, raw.layers) {
        (Some(manifests), None, None) if is_list != Some(false) => Ok(Document::List(manifests)),
        (None, Some(config), Some(layers)) if is_list != Some(true) => {
            Ok(Document::Image { config, layers })
        }
        (None, None, None) => Err("it describes neither an image nor a list of images".to_owned()),
        _ => Err("it is ambiguous: part of it describes an image, part of it a list".to_owned()),
    }
}

/// Which of a list's images is for us.
pub(super) fn choose<'a>(
    list: &'a [Descriptor],
    wanted: &Platform,
) -> Result<&'a Descriptor, String> {
    let ranked = list.iter().filter_map(|entry| {
        let rank = wanted.suits(&entry.platform()?)?;
        Some((rank, entry))
    });
    // The first of equals, as Docker chooses.
    if let Some((_, best)) = ranked.min_by_key(|(rank, _)| *rank) {
        return Ok(best);
    }
    // Nothing is said of what runs where: one entry is the image.
    if let [only] = list
        && only.platform.is_none()
    {
        return Ok(only);
    }
    let mut there: Vec<String> = list
        .iter()
        .filter_map(Descriptor::platform)
        .filter(|platform| platform.os != "unknown")
        .map(|platform| clean(&platform.to_string()))
        .collect();
    there.dedup();
    let more = there.len().saturating_sub(MAX_LISTED);
    there.truncate(MAX_LISTED);
    Err(match (there.as_slice(), more) {
        ([], _) => format!("there is nothing for {wanted}, nor for any other platform"),
        (there, 0) => format!(
            "there is nothing for {wanted}, only for {}",
            there.join(", ")
        ),
        (there, more) => format!(
            "there is nothing for {wanted}, only for {} and {more} more",
            there.join(", ")
        ),
    })
}

/// Whether `descriptor` is an image's configuration, and not that of something else that registries keep.
pub(super) fn check_config(descriptor: &Descriptor) -> Result<(), String> {
    match descriptor.media_type.as_str() {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json"
        | "" => Ok(()),
        other => Err(format!(
            "it is not the image of a container, but something else ({})",
            clean(other)
        )),
    }
}

/// Reads a configuration.
pub(super) fn config(bytes: &[u8]) -> Result<Config, String> {
    let raw: RawConfig = json(bytes)?;
    let rootfs = raw
        .rootfs
        .ok_or("it does not say which layers the image has")?;
    let diff_ids = rootfs.diff_ids.unwrap_or_default();
    let diff_ids: Result<_, _> = diff_ids.iter().map(|text| text.parse()).collect();
    let env = raw.config.and_then(|config| config.env).unwrap_or_default();
    let platform = raw.os.zip(raw.architecture);
    Ok(Config {
        env: env
            .iter()
            .filter_map(|entry| entry.split_once('='))
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        diff_ids: diff_ids.map_err(|_| "the id of one of its layers is none")?,
        platform: platform.map(|(os, architecture)| Platform {
            os,
            architecture,
            variant: raw.variant,
        }),
    })
}

/// What an image's layers are, or why it cannot be used.
pub(super) fn layers(
    listed: &[Descriptor],
    diff_ids: &[Digest],
    largest: u64,
) -> Result<Vec<LayerDescriptor>, String> {
    if listed.len() != diff_ids.len() {
        return Err(format!(
            "its manifest has {} layers and its configuration {}",
            listed.len(),
            diff_ids.len()
        ));
    }
    let layers = listed.iter().zip(diff_ids).enumerate();
    layers
        .map(|(at, (layer, diff_id))| {
            let refused = |why: String| format!("its layer {} is refused: {why}", at + 1);
            let kind = layer.media_type.as_str();
            let has_urls = layer.urls.as_ref().is_some_and(|urls| !urls.is_empty());
            if has_urls || kind.contains("foreign") || kind.contains("nondistributable") {
                return Err(refused(
                    "it is a foreign layer, which is not to be had from registries".to_owned(),
                ));
            }
            if !is_layer(kind) {
                return Err(refused(format!("its type {} is not known", clean(kind))));
            }
            if layer.size > largest {
                return Err(refused(format!(
                    "it has {} bytes, more than the {largest} that are allowed",
                    layer.size
                )));
            }
            Ok(LayerDescriptor {
                digest: layer.digest().map_err(refused)?.bytes(),
                size: Some(layer.size),
                diff_id: Some(diff_id.bytes()),
            })
        })
        .collect()
}

/// Whether `kind` is a tar, compressed in a way that we can read.
fn is_layer(kind: &str) -> bool {
    let rest = kind
        .strip_prefix("application/vnd.oci.image.layer.v1.tar")
        .or_else(|| kind.strip_prefix("application/vnd.docker.image.rootfs.diff.tar"));
    matches!(rest, Some("" | "+gzip" | ".gzip" | "+zstd" | ".zstd"))
}

fn json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| {
        format!(
            "it is not what it should be at line {}, column {}",
            error.line(),
            error.column()
        )
    })
}

/// What somebody wrote, fit for a log.
fn clean(text: &str) -> String {
    text.chars()
        .filter(|c| c.is_ascii_graphic())
        .take(100)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Document, choose, config, document, layers};
    use crate::image::registry::{Digest, Platform};

    fn here() -> Platform {
        Platform {
            os: "linux".into(),
            architecture: "amd64".into(),
            variant: None,
        }
    }

    fn list(platforms: &[(&str, &str)]) -> Vec<super::Descriptor> {
        let entry = |(at, (os, architecture)): (usize, &(&str, &str))| {
            let digest = Digest::of(&[u8::try_from(at).expect("few")]);
            format!(
                r#"{{"digest":"{digest}","size":{at},"platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#
            )
        };
        let entries: Vec<_> = platforms.iter().enumerate().map(entry).collect();
        let text = format!(
            r#"{{"schemaVersion":2,"manifests":[{}]}}"#,
            entries.join(",")
        );
        match document(text.as_bytes(), "") {
            Ok(Document::List(list)) => list,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn our_platform_is_chosen_and_attestations_are_not() {
        let all = list(&[
            ("unknown", "unknown"),
            ("linux", "arm64"),
            ("linux", "amd64"),
            ("linux", "amd64"),
        ]);
        assert_eq!(choose(&all, &here()).expect("a choice").size, 2);
    }

    #[test]
    fn what_there_is_instead_of_our_platform_is_listed() {
        let all = list(&[
            ("linux", "arm64"),
            ("windows", "amd64"),
            ("unknown", "unknown"),
        ]);
        assert_eq!(
            choose(&all, &here()).expect_err("none"),
            "there is nothing for linux/amd64, only for linux/arm64, windows/amd64"
        );
        let none = choose(&[], &here()).expect_err("none");
        assert!(none.contains("nor for any other"), "{none}");
    }

    #[test]
    fn what_is_half_a_list_and_half_an_image_is_refused() {
        let digest = Digest::of(b"");
        let item = format!(r#"{{"digest":"{digest}","size":1}}"#);
        let both = format!(r#"{{"schemaVersion":2,"manifests":[],"config":{item},"layers":[]}}"#);
        assert!(
            document(both.as_bytes(), "")
                .expect_err("both")
                .contains("ambiguous")
        );
        let lie = format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","config":{item},"layers":[]}}"#
        );
        assert!(
            document(lie.as_bytes(), "")
                .expect_err("lie")
                .contains("ambiguous")
        );
        for wrong in [
            "",
            "[]",
            "{}",
            "null",
            r#"{"schemaVersion":3,"manifests":[]}"#,
            r#"{"manifests":[{"digest":1}]}"#,
            r#"{"manifests":[{"digest":"x","size":-1}]}"#,
        ] {
            document(wrong.as_bytes(), "").expect_err(wrong);
        }
    }

    #[test]
    fn schema_1_is_refused_by_its_name() {
        let text = br#"{"schemaVersion":1,"name":"a","fsLayers":[]}"#;
        assert!(document(text, "").expect_err("old").contains("schema 1"));
    }

    #[test]
    fn the_environment_keeps_its_order_and_its_equals_signs() {
        let text =
            r#"{"config":{"Env":["B=1","A=x=y","C=","nothing"]},"rootfs":{"diff_ids":null}}"#;
        let env = config(text.as_bytes()).expect("a configuration").env;
        assert_eq!(
            env,
            [("B", "1"), ("A", "x=y"), ("C", "")].map(|(n, v)| (n.into(), v.into()))
        );
        assert!(
            config(br#"{"config":null,"rootfs":{}}"#)
                .expect("no env")
                .env
                .is_empty()
        );
        config(b"{}").expect_err("no layers");
    }

    fn one_layer(kind: &str, more: &str) -> Result<(), String> {
        let digest = Digest::of(b"");
        let text = format!(
            r#"{{"config":{{"digest":"{digest}","size":1}},"layers":[{{"mediaType":"{kind}","digest":"{digest}","size":100{more}}}]}}"#
        );
        let Ok(Document::Image { layers: listed, .. }) = document(text.as_bytes(), "") else {
            panic!("{text}");
        };
        layers(&listed, &[digest], 100).map(drop)
    }

    #[test]
    fn layers_are_tars_that_we_can_read_and_nothing_else() {
        for good in [
            "application/vnd.oci.image.layer.v1.tar",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "application/vnd.oci.image.layer.v1.tar+zstd",
            "application/vnd.docker.image.rootfs.diff.tar.gzip",
            "application/vnd.docker.image.rootfs.diff.tar",
        ] {
            assert_eq!(one_layer(good, ""), Ok(()), "{good}");
        }
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        assert!(
            one_layer(foreign, "")
                .expect_err("foreign")
                .contains("foreign")
        );
        let urls = one_layer(
            "application/vnd.oci.image.layer.v1.tar",
            r#","urls":["https://a"]"#,
        );
        assert!(urls.expect_err("urls").contains("foreign"));
        let other = one_layer("application/vnd.oci.image.layer.v1.tar+encrypted", "");
        assert!(other.expect_err("encrypted").contains("not known"));
    }

    #[test]
    fn layers_must_be_as_many_as_their_ids_and_not_too_large() {
        let digest = Digest::of(b"");
        assert!(
            layers(&[], &[digest], 1)
                .expect_err("fewer")
                .contains("0 layers")
        );
        let large = format!(
            r#"{{"config":{{"digest":"{digest}","size":1}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":101}}]}}"#
        );
        let Ok(Document::Image { layers: listed, .. }) = document(large.as_bytes(), "") else {
            panic!("{large}");
        };
        assert!(
            layers(&listed, &[digest], 100)
                .expect_err("large")
                .contains("101 bytes")
        );
    }
}
