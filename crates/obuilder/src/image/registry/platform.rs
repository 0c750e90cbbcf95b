//! Which machine an image is for, and which of several images suits a machine.

use std::fmt;

/// What an image runs on, in the words of registries (those of Go).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform {
    /// The operating system, e.g. `linux`.
    pub os: String,
    /// The processor, e.g. `amd64`.
    pub architecture: String,
    /// The generation of the processor, e.g. `v7` of `arm`.
    pub variant: Option<String>,
}

impl Platform {
    /// What this program was made for. Processors of kind `arm` count as `v7`: an older one has to be named.
    #[must_use]
    pub fn here() -> Self {
        let (architecture, variant) = words();
        Self {
            os: std::env::consts::OS.to_owned(),
            architecture: architecture.to_owned(),
            variant: variant.map(ToOwned::to_owned),
        }
    }

    /// How well an image for `other` suits this machine: the smaller the better, `None` if it does not run here.
    pub(super) fn suits(&self, other: &Platform) -> Option<usize> {
        if (&self.os, &self.architecture) != (&other.os, &other.architecture) {
            return None;
        }
        let other = other.variant.as_deref().filter(|text| !text.is_empty());
        let own = self.variant.as_deref();
        // A plain image runs on all; a newer processor runs what was made for an older one.
        let order: &[Option<&str>] = match (self.architecture.as_str(), own) {
            ("arm64", None | Some("v8")) => &[Some("v8"), None],
            ("amd64", None | Some("v1")) => &[None, Some("v1")],
            ("arm", None | Some("v7")) => &[Some("v7"), None, Some("v6"), Some("v5")],
            ("arm", Some("v6")) => &[Some("v6"), None, Some("v5")],
            _ => &[own, None],
        };
        order.iter().position(|variant| *variant == other)
    }
}

/// The processor that this program was made for, in the words of registries.
pub(crate) fn architecture() -> &'static str {
    words().0
}

fn words() -> (&'static str, Option<&'static str>) {
    words_of(std::env::consts::ARCH, cfg!(target_endian = "little"))
}

/// What registries call a processor that Rust calls `architecture`.
fn words_of(
    architecture: &'static str,
    little_endian: bool,
) -> (&'static str, Option<&'static str>) {
    match architecture {
        "x86_64" => ("amd64", None),
        "x86" => ("386", None),
        "aarch64" => ("arm64", Some("v8")),
        "arm" => ("arm", Some("v7")),
        "powerpc64" if little_endian => ("ppc64le", None),
        "powerpc64" => ("ppc64", None),
        "loongarch64" => ("loong64", None),
        other => (other, None),
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match self.variant.as_deref() {
            Some(variant) if !variant.is_empty() => write!(f, "/{variant}"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Platform, words_of};

    fn platform(architecture: &str, variant: Option<&str>) -> Platform {
        Platform {
            os: "linux".into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
    }

    #[test]
    fn the_best_image_is_the_newest_that_runs() {
        let pi = platform("arm", Some("v7"));
        let rank = |variant| pi.suits(&platform("arm", variant));
        assert!(rank(Some("v7")) < rank(Some("v6")));
        assert!(rank(Some("v6")) < rank(Some("v5")));
        assert_eq!(rank(Some("v8")), None);
        let zero = platform("arm", Some("v6"));
        assert_eq!(zero.suits(&pi), None);
        let server = platform("amd64", None);
        assert_eq!(server.suits(&platform("amd64", None)), Some(0));
        assert_eq!(server.suits(&platform("amd64", Some("v3"))), None);
        assert_eq!(server.suits(&platform("arm64", None)), None);
        let arm = platform("arm64", Some("v8"));
        assert!(arm.suits(&platform("arm64", None)).is_some());
    }

    #[test]
    fn processors_have_the_names_that_registries_know() {
        assert_eq!(words_of("x86_64", true), ("amd64", None));
        assert_eq!(words_of("aarch64", true), ("arm64", Some("v8")));
        assert_eq!(words_of("powerpc64", true), ("ppc64le", None));
        assert_eq!(words_of("s390x", false), ("s390x", None));
        assert_eq!(Platform::here().os, "linux");
    }
}
