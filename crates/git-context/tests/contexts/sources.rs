//! Repositories made with the `git` program, for servers to serve.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Runs `git` in a directory, away from the configuration of this machine.
pub(crate) fn try_git<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> Output {
    Command::new("git")
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.org")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.org")
        .args([
            "-c",
            "init.defaultBranch=main",
            "-c",
            "protocol.file.allow=always",
        ])
        .args(["-c", "safe.directory=*"])
        .args(args)
        .output()
        .expect("the git program is needed for these tests")
}

/// The same, for what must pass; gives the trimmed output.
pub(crate) fn git<S: AsRef<OsStr>>(dir: &Path, args: &[S]) -> String {
    let output = try_git(dir, args);
    let shown: Vec<_> = args
        .iter()
        .map(|arg| arg.as_ref().to_string_lossy())
        .collect();
    assert!(
        output.status.success(),
        "git {shown:?} in {}: {}",
        dir.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// A repository with a work directory, below a directory that a server serves.
pub(crate) struct Source {
    pub(crate) path: PathBuf,
}

impl Source {
    pub(crate) fn new(root: &Path, name: &str) -> Source {
        let path = root.join(name);
        fs::create_dir_all(&path).unwrap();
        git(&path, &["init", "-q"]);
        Source { path }
    }

    pub(crate) fn write(&self, file: &str, text: &str) -> &Source {
        let path = self.path.join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Commits all files; gives the hash.
    pub(crate) fn commit(&self, message: &str) -> String {
        git(&self.path, &["add", "-A"]);
        git(
            &self.path,
            &["commit", "-q", "--allow-empty", "-m", message],
        );
        self.head()
    }

    /// Writes one file and commits.
    pub(crate) fn commit_file(&self, file: &str, text: &str) -> String {
        self.write(file, text);
        self.commit(file)
    }

    pub(crate) fn head(&self) -> String {
        git(&self.path, &["rev-parse", "HEAD"])
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.path, args)
    }
}

/// Text that does not compress well, the same on each run.
pub(crate) struct Noise(pub(crate) u64);

impl Noise {
    pub(crate) fn letters(&mut self, length: usize) -> String {
        let mut next = || {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b'a' + u8::try_from((self.0 >> 33) % 26).unwrap())
        };
        (0..length).map(|_| next()).collect()
    }
}

/// What a directory holds, in a form that compares: path, kind, whether executable, content or target. Leaves out `.git`
/// at the top.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut rest = vec![dir.to_owned()];
    while let Some(at) = rest.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_owned();
            if name == Path::new(".git") {
                continue;
            }
            lines.push(describe(&path, &name));
            if fs::symlink_metadata(&path).unwrap().is_dir() {
                rest.push(path);
            }
        }
    }
    lines.sort();
    lines
}

fn describe(path: &Path, name: &Path) -> String {
    use std::os::unix::fs::PermissionsExt;
    let metadata = fs::symlink_metadata(path).unwrap();
    let name = name
        .as_os_str()
        .to_owned()
        .into_vec()
        .escape_ascii()
        .to_string();
    if metadata.is_symlink() {
        return format!("{name} -> {:?}", fs::read_link(path).unwrap());
    }
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_dir() {
        return format!("{name}/ {mode:o}");
    }
    format!("{name} {mode:o} {}", fs::read(path).unwrap().escape_ascii())
}

/// The files of a commit as `git clone` and `git checkout` write them.
pub(crate) fn oracle(source: &Source, commit: &str) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let clone = dir.path().join("clone");
    git(
        dir.path(),
        &[
            OsStr::new("clone"),
            OsStr::new("-q"),
            source.path.as_os_str(),
            clone.as_os_str(),
        ],
    );
    git(&clone, &["fetch", "-q", "origin", "+refs/*:refs/all/*"]);
    git(&clone, &["checkout", "-q", commit]);
    listing(&clone)
}
