//! Finds or writes the Dockerfile of a build inside its context.
//!
//! The path comes from a stranger, and so does everything in the context: no component may be a symbolic link, so that nothing
//! outside the context is ever read or written. The sentences are OCluster's.

use std::fs::{self, FileType};
use std::io::{self, Write};
use std::path::Path;

use ocluster_api::Dockerfile;

use crate::executor::Failure;

/// The name of a Dockerfile that the client sends.
const NAME: &str = "Dockerfile";

/// Makes sure that the Dockerfile is in `context`, and returns its path there, with `/` between components.
pub(super) fn prepare(context: &Path, dockerfile: &Dockerfile) -> Result<String, Failure> {
    match dockerfile {
        Dockerfile::Contents(contents) => {
            write(context, contents).map_err(|error| {
                Failure::setup(format!(
                    "cannot write the Dockerfile into the build context: {error}"
                ))
            })?;
            Ok(NAME.to_owned())
        }
        Dockerfile::Path(path) => find(context, path).map_err(Failure::request),
    }
}

/// Replaces whatever the repository has under that name, without following it if it is a link.
fn write(context: &Path, contents: &str) -> io::Result<()> {
    let path = context.join(NAME);
    match fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path)?,
        Ok(_) => fs::remove_file(&path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    fs::File::create_new(&path)?.write_all(contents.as_bytes())
}

fn find(context: &Path, path: &str) -> Result<String, String> {
    if path.is_empty() {
        return Err("Empty path!".to_owned());
    }
    if path == "-" {
        return Err("Path cannot be '-'!".to_owned());
    }
    if path.starts_with('/') {
        return Err(format!("{path} is an absolute path!"));
    }
    if path.contains('\0') {
        return Err(format!("NUL byte in {path:?}!"));
    }
    let normal = normalise(path);
    let components: Vec<&str> = normal.split('/').collect();
    if components
        .iter()
        .any(|component| matches!(*component, "." | ".."))
    {
        return Err(format!("Relative segment in {normal}"));
    }
    let (last, directories) = components.split_last().ok_or("Empty path!")?;
    let mut reached = context.to_owned();
    for directory in directories {
        reached.push(directory);
        if !kind_of(&reached, directory, &normal)?.is_dir() {
            return Err(format!("{directory:?} is not a directory (in {normal})"));
        }
    }
    if last.is_empty() {
        return Err(format!("Empty segment in {normal}!"));
    }
    reached.push(last);
    if !kind_of(&reached, last, &normal)?.is_file() {
        return Err(format!("{last:?} is not a regular file (in {normal})"));
    }
    Ok(normal)
}

/// The shortest path that says the same, judged by its text alone. What cannot be resolved stays: `..` in front, `.` for nothing at
/// all, and a final slash.
fn normalise(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for component in path.split('/') {
        match component {
            "" | "." => {}
            ".." if kept.last().is_some_and(|last| *last != "..") => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    if kept.is_empty() {
        kept.push(".");
    }
    let slash = if path.ends_with('/') { "/" } else { "" };
    kept.join("/") + slash
}

fn kind_of(reached: &Path, component: &str, path: &str) -> Result<FileType, String> {
    match fs::symlink_metadata(reached) {
        Ok(metadata) => Ok(metadata.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("{component:?} does not exist (in {path})"))
        }
        Err(error) => Err(format!(
            "{component:?} cannot be looked up (in {path}): {error}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    fn context() -> TempDir {
        let context = TempDir::new().unwrap();
        fs::create_dir_all(context.path().join("docker/build")).unwrap();
        fs::write(
            context.path().join("docker/build/Dockerfile.web"),
            "FROM scratch\n",
        )
        .unwrap();
        fs::write(context.path().join("file"), "x").unwrap();
        symlink("docker", context.path().join("link")).unwrap();
        symlink(
            "docker/build/Dockerfile.web",
            context.path().join("Dockerfile.link"),
        )
        .unwrap();
        context
    }

    fn refusal(path: &str) -> String {
        prepare(context().path(), &Dockerfile::Path(path.to_owned()))
            .unwrap_err()
            .message
    }

    #[test]
    fn a_regular_file_in_the_context_is_found() {
        let context = context();
        let path = "docker/build/Dockerfile.web";
        for spelling in [
            path,
            "./docker//build/Dockerfile.web",
            "docker/../docker/./build/Dockerfile.web",
        ] {
            assert_eq!(
                prepare(context.path(), &Dockerfile::Path(spelling.into())).unwrap(),
                path
            );
        }
    }

    #[test]
    fn bad_paths_are_refused_in_ocluster_s_words() {
        assert_eq!(refusal("-"), "Path cannot be '-'!");
        assert_eq!(refusal(""), "Empty path!");
        assert_eq!(refusal("/etc/passwd"), "/etc/passwd is an absolute path!");
        assert_eq!(refusal("../file"), "Relative segment in ../file");
        assert_eq!(refusal("docker/../../file"), "Relative segment in ../file");
        assert_eq!(refusal("."), "Relative segment in .");
        assert_eq!(refusal("docker/.."), "Relative segment in .");
        assert_eq!(refusal("docker/"), "Empty segment in docker/!");
        assert_eq!(
            refusal("docker/missing/x"),
            "\"missing\" does not exist (in docker/missing/x)"
        );
        assert_eq!(
            refusal("missing"),
            "\"missing\" does not exist (in missing)"
        );
        assert_eq!(refusal("file/x"), "\"file\" is not a directory (in file/x)");
    }

    #[test]
    fn links_are_not_followed() {
        assert_eq!(
            refusal("link/build/Dockerfile.web"),
            "\"link\" is not a directory (in link/build/Dockerfile.web)"
        );
        assert_eq!(
            refusal("Dockerfile.link"),
            "\"Dockerfile.link\" is not a regular file (in Dockerfile.link)"
        );
        assert_eq!(
            refusal("docker"),
            "\"docker\" is not a regular file (in docker)"
        );
        assert_eq!(refusal("file/"), "\"file\" is not a directory (in file/)");
    }

    #[test]
    fn sent_contents_replace_the_repository_s_own_without_touching_what_a_link_points_at() {
        let outside = TempDir::new().unwrap();
        let victim = outside.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        for plant in ["nothing", "file", "link", "dangling", "directory"] {
            let context = TempDir::new().unwrap();
            let path = context.path().join("Dockerfile");
            match plant {
                "file" => fs::write(&path, "FROM the-repository, which is much longer\n").unwrap(),
                "link" => symlink(&victim, &path).unwrap(),
                "dangling" => symlink(outside.path().join("new"), &path).unwrap(),
                "directory" => fs::create_dir_all(path.join("sub")).unwrap(),
                _ => {}
            }
            assert_eq!(
                prepare(context.path(), &Dockerfile::Contents("FROM x\n".into())).unwrap(),
                "Dockerfile"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), "FROM x\n", "{plant}");
            assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{plant}");
        }
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        assert!(!outside.path().join("new").exists());
    }
}
