//! Base images by the names that specs give them: whose business each name is.

use std::ffi::OsStr;
use std::fmt;
use std::future::Future;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;

use bstr::{BStr, ByteSlice};
use tokio_util::sync::CancellationToken;

use super::unpack::hex;
use super::{
    DockerArchive, DockerEngine, FetchError, Fetcher, Fetching, ImageSource, Installer,
    LocalImages, OciLayout, Reference, Registries, RootfsTar,
};
use crate::StepLog;
use crate::store::Store;

/// Who has the images that are no local files.
#[derive(Clone, Debug)]
pub enum Remote {
    /// The registries that their names tell.
    Registries(Registries),
    /// A Docker engine, which pulls what it has not.
    Docker(DockerEngine),
    /// Nobody.
    Nobody,
}

/// Fetches base images: `oci:DIR[:TAG]`, `docker-archive:FILE[:NAME]` and `rootfs:FILE` from local files, with absolute paths, and
/// everything else from afar.
#[derive(Clone, Debug)]
pub struct ImageFetcher {
    local: LocalImages,
    remote: Remote,
    scratch: PathBuf,
    installer: Installer,
}

/// A name, understood.
enum Named<'a> {
    Oci(&'a Path, Option<&'a str>),
    DockerArchive(&'a Path, Option<&'a str>),
    Rootfs(&'a Path),
    Remote(Reference),
}

impl ImageFetcher {
    /// A fetcher; `scratch` is an existing directory for files without names. One of them serves a store: builds that want the same layer
    /// at once then make it once.
    #[must_use]
    pub fn new(local: LocalImages, remote: Remote, scratch: PathBuf) -> Self {
        Self {
            local,
            remote,
            scratch,
            installer: Installer::default(),
        }
    }

    fn source(
        &self,
        name: &BStr,
        log: Option<&StepLog>,
    ) -> Result<Box<dyn ImageSource>, FetchError> {
        let local = self.local.clone();
        let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
        Ok(match parse(name)? {
            Named::Oci(path, tag) => Box::new(OciLayout::new(path.to_owned(), owned(tag), local)),
            Named::DockerArchive(path, name) => Box::new(DockerArchive::new(
                path.to_owned(),
                owned(name),
                local,
                self.scratch.clone(),
            )),
            Named::Rootfs(path) => Box::new(RootfsTar::new(path.to_owned(), local)),
            Named::Remote(reference) => match &self.remote {
                Remote::Registries(registries) => {
                    let source = registries.image(&reference);
                    Box::new(match log {
                        Some(log) => source.telling(log),
                        None => source,
                    })
                }
                Remote::Docker(engine) => Box::new(engine.image(&reference, self.scratch.clone())),
                Remote::Nobody => {
                    return Err(FetchError::Request(format!(
                        "the image \"{name}\" is not a local file, and nothing else is allowed here"
                    )));
                }
            },
        })
    }

    async fn digest(
        &self,
        name: &BStr,
        cancel: &CancellationToken,
    ) -> Result<Option<String>, FetchError> {
        match (parse(name)?, &self.remote) {
            (Named::Remote(reference), Remote::Registries(registries)) => {
                let digest = registries.image(&reference).resolve(cancel).await?;
                Ok(Some(format!("sha256:{}", hex(&digest.bytes()))))
            }
            (Named::Remote(reference), Remote::Docker(engine)) => {
                engine
                    .image(&reference, self.scratch.clone())
                    .id(cancel)
                    .await
            }
            _ => Ok(self.source(name, None)?.manifest(cancel).await?.digest),
        }
    }
}

impl Fetcher for ImageFetcher {
    fn fetch<'a>(
        &'a self,
        name: &'a BStr,
        store: &'a Store,
        log: &'a StepLog,
        cancel: &'a CancellationToken,
    ) -> Fetching<'a> {
        Box::pin(async move {
            let source = self.source(name, Some(log))?;
            self.installer.install(&*source, store, log, cancel).await
        })
    }

    fn resolve<'a>(
        &'a self,
        name: &'a BStr,
        cancel: &'a CancellationToken,
    ) -> Pin<Box<dyn Future<Output = Result<Option<String>, FetchError>> + Send + 'a>> {
        Box::pin(self.digest(name, cancel))
    }
}

fn parse(name: &BStr) -> Result<Named<'_>, FetchError> {
    let prefixes = ["oci:", "docker-archive:", "rootfs:"];
    let local = prefixes.iter().find_map(|prefix| {
        let rest = name.strip_prefix(prefix.as_bytes())?;
        Some((*prefix, rest.as_bstr()))
    });
    let Some((prefix, rest)) = local else {
        return Reference::parse(name)
            .map(Named::Remote)
            .map_err(|error| FetchError::Request(error.to_string()));
    };
    if !rest.starts_with(b"/") {
        return Err(FetchError::Request(format!(
            "the path in \"{name}\" is not absolute; an image of that name in a registry is written with its host, as in \"docker.io/library/{name}\""
        )));
    }
    if prefix == "rootfs:" {
        return Ok(Named::Rootfs(Path::new(OsStr::from_bytes(rest))));
    }
    let (file, image) = match rest.split_once_str(":") {
        Some((file, image)) => (file, Some(image)),
        None => (rest.as_bytes(), None),
    };
    let image = match image.map(|image| image.to_str()) {
        None => None,
        Some(Ok(image)) if !image.is_empty() => Some(image),
        Some(_) => {
            return Err(FetchError::Request(format!(
                "the name of the image at the end of \"{name}\" is none"
            )));
        }
    };
    let file = Path::new(OsStr::from_bytes(file));
    Ok(match prefix {
        "oci:" => Named::Oci(file, image),
        _ => Named::DockerArchive(file, image),
    })
}

impl fmt::Debug for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Oci(path, tag) => write!(f, "oci {} {tag:?}", path.display()),
            Self::DockerArchive(path, name) => {
                write!(f, "docker-archive {} {name:?}", path.display())
            }
            Self::Rootfs(path) => write!(f, "rootfs {}", path.display()),
            Self::Remote(reference) => write!(f, "remote {reference}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> String {
        format!("{:?}", parse(name.into()).unwrap())
    }

    #[test]
    fn prefixes_tell_local_images_from_others() {
        assert_eq!(parsed("oci:/a/b"), "oci /a/b None");
        assert_eq!(parsed("oci:/a/b:v1"), "oci /a/b Some(\"v1\")");
        assert_eq!(
            parsed("docker-archive:/a.tar:busybox:1.36"),
            "docker-archive /a.tar Some(\"busybox:1.36\")"
        );
        assert_eq!(parsed("rootfs:/a:b.tar.gz"), "rootfs /a:b.tar.gz");
        assert!(parsed("busybox").starts_with("remote "));
        assert!(parsed("localhost:5000/oci:1").starts_with("remote "));
    }

    #[test]
    fn relative_paths_are_refused_with_a_way_out() {
        for name in ["oci:b", "rootfs:./a", "docker-archive:", "oci:latest"] {
            let error = parse(name.into()).unwrap_err().to_string();
            assert!(error.contains("absolute"), "{error}");
            assert!(error.contains("docker.io/library/"), "{error}");
        }
        for name in ["oci:/a:", "docker-archive:/a:", "", "UPPER", "a b", "../a"] {
            assert!(parse(name.into()).is_err(), "{name}");
        }
    }
}
