//! What BuildKit wants of a build's files: it names a directory, and may name the only paths that the build uses.

use std::path::{Component, Path, PathBuf};

use hyper::HeaderMap;

use super::grpc::{Code, Status};

/// The name under which BuildKit asks for the directory with the Dockerfile.
const DOCKERFILE: &str = "dockerfile";
/// The name under which it asks for the build context.
const CONTEXT: &str = "context";

/// What a request wants to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The Dockerfile, and the file beside it that says what is not sent.
    Dockerfile,
    /// The context: only what is at or below these paths, or all of it.
    Context(Option<Vec<PathBuf>>),
}

/// Reads what the headers of an exchange ask for, of the context in the directory `root`.
///
/// # Errors
/// If they ask for a directory that a build does not have.
pub(super) fn wanted(headers: &HeaderMap, root: &Path) -> Result<Wanted, Status> {
    let name = headers
        .get("dir-name")
        .map_or(&b""[..], |name| name.as_bytes());
    if name == DOCKERFILE.as_bytes() {
        Ok(Wanted::Dockerfile)
    } else if name == CONTEXT.as_bytes() {
        Ok(Wanted::Context(narrowed(headers, root)))
    } else {
        let name = String::from_utf8_lossy(name);
        let message = format!("this build has no directory {name:?}");
        Err(Status::new(Code::NotFound, message))
    }
}

/// The only paths that the build uses, if the engine knows them, and they can be understood without following links or matching
/// patterns. More than these is never wrong, only slower.
fn narrowed(headers: &HeaderMap, root: &Path) -> Option<Vec<PathBuf>> {
    let is_there = |name| headers.contains_key(name);
    if is_there("include-patterns") || is_there("followpaths-encoded") {
        return None;
    }
    let mut paths = Vec::new();
    for path in headers.get_all("followpaths") {
        let path = Path::new(path.to_str().ok()?.trim_start_matches('/'));
        let is_plain = |part: Component<'_>| match part {
            Component::Normal(name) => name
                .to_str()
                .is_some_and(|name| !name.contains(['*', '?', '[', '\\'])),
            _ => false,
        };
        let goes_through_link = path.ancestors().any(|part| {
            std::fs::symlink_metadata(root.join(part)).is_ok_and(|found| found.is_symlink())
        });
        if path.as_os_str().is_empty() || !path.components().all(is_plain) || goes_through_link {
            return None;
        }
        paths.push(path.to_owned());
    }
    (!paths.is_empty()).then_some(paths)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn context(paths: &[&str]) -> Wanted {
        let root = TempDir::new().unwrap();
        std::fs::create_dir_all(root.path().join("src/a")).unwrap();
        symlink("src", root.path().join("link")).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("dir-name", CONTEXT.parse().unwrap());
        for path in paths {
            headers.append("followpaths", path.parse().unwrap());
        }
        wanted(&headers, root.path()).unwrap()
    }

    #[test]
    fn only_what_the_build_uses_is_sent_where_that_is_plain() {
        let only = Some(vec!["src/a".into(), "missing".into()]);
        assert_eq!(context(&["/src/a", "missing"]), Wanted::Context(only));
        let all: [&[&str]; 6] = [
            &[],
            &["src", "*.rs"],
            &["link/a"],
            &["link"],
            &["."],
            &["../x"],
        ];
        for paths in all {
            assert_eq!(context(paths), Wanted::Context(None), "{paths:?}");
        }
    }

    #[test]
    fn a_directory_that_nobody_has_is_refused() {
        let mut headers = HeaderMap::new();
        headers.insert("dir-name", "secrets".parse().unwrap());
        let status = wanted(&headers, Path::new("/")).unwrap_err();
        assert_eq!(status.message, "this build has no directory \"secrets\"");
    }
}
