//! A step that was checked: everything in it can be told to an OCI runtime. It must never repeat a value of the environment in an error.

use std::path::Path;

use bstr::{BStr, ByteSlice};
use zeroize::Zeroizing;

use super::{Limits, Network, SandboxError, Step};
use crate::Rootfs;

/// What the kernel accepts of a path, in bytes: in one name, and in all.
const LONGEST_NAME: usize = 255;
const LONGEST_PATH: usize = 4095;

/// What a runtime is asked to do.
pub(super) struct Request {
    pub(super) rootfs: Rootfs,
    /// Where the tree is seen.
    pub(super) root: String,
    pub(super) argv: Vec<String>,
    pub(super) cwd: String,
    /// `NAME=VALUE`.
    pub(super) env: Vec<String>,
    pub(super) user: (u32, u32),
    pub(super) network: Network,
    pub(super) caches: Vec<Cache>,
    /// Values and where they go.
    pub(super) secrets: Vec<(Zeroizing<Vec<u8>>, String)>,
    pub(super) limits: Limits,
}

/// A cache and where it goes.
pub(super) struct Cache {
    pub(super) tree: Rootfs,
    /// Where the tree is seen.
    pub(super) source: String,
    pub(super) target: String,
}

impl Request {
    /// Checks `step`, but for its limits.
    pub(super) fn new(step: Step) -> Result<Self, SandboxError> {
        if step.argv.is_empty() {
            return Err(SandboxError::Request(
                "there is no command to run: the shell and the command are empty".to_owned(),
            ));
        }
        let argv = (1..)
            .zip(&step.argv)
            .map(|(n, word)| text(word.as_bstr(), || format!("word {n} of the command")))
            .collect::<Result<_, _>>()?;
        let env = step
            .env
            .iter()
            .map(|(name, value)| {
                let name = text(name.as_bstr(), || {
                    format!("the name of the variable {name:?}")
                })?;
                let value = text(value.as_bstr(), || {
                    format!("the value of the variable {name}")
                })?;
                Ok(format!("{name}={value}"))
            })
            .collect::<Result<_, SandboxError>>()?;
        let root = machine_path(step.rootfs.path())?;
        let cwd = place(step.cwd.as_bstr(), "the working directory", &root)?;
        let caches = step
            .caches
            .into_iter()
            .map(|cache| {
                let target = mountable(cache.target.as_bstr(), "the target of a cache", &root)?;
                Ok(Cache {
                    source: machine_path(cache.tree.path())?,
                    tree: cache.tree,
                    target,
                })
            })
            .collect::<Result<_, SandboxError>>()?;
        let secrets = step
            .secrets
            .into_iter()
            .map(|secret| {
                let target = mountable(secret.target.as_bstr(), "the target of a secret", &root)?;
                Ok((secret.value, target))
            })
            .collect::<Result<_, SandboxError>>()?;
        Ok(Self {
            root,
            rootfs: step.rootfs,
            argv,
            cwd,
            env,
            user: step.user,
            network: step.network,
            caches,
            secrets,
            limits: step.limits,
        })
    }

    /// Where its trees are on the machine.
    pub(super) fn places(&self) -> Vec<String> {
        let caches = self.caches.iter().map(|cache| &cache.source);
        caches.chain([&self.root]).cloned().collect()
    }
}

/// `bytes` as a runtime's configuration can say them, which is JSON and so UTF-8.
fn text(bytes: &BStr, what: impl Fn() -> String) -> Result<String, SandboxError> {
    if bytes.contains(&0) {
        return Err(SandboxError::Request(format!(
            "{} has a NUL byte in it, which no program can be given",
            what()
        )));
    }
    bytes.to_str().map(str::to_owned).map_err(|_| {
        SandboxError::Request(format!(
            "{} is not UTF-8, and a container runtime can be told nothing else",
            what()
        ))
    })
}

/// A path of the machine's, as a runtime's configuration can say it.
pub(super) fn machine_path(path: &Path) -> Result<String, SandboxError> {
    path.to_str()
        .map(str::to_owned)
        .ok_or_else(|| SandboxError::Machine {
            message: format!(
                "a container runtime can be told UTF-8 only, and {} is not; give the store a directory of another name",
                path.display()
            ),
            full_disk: false,
        })
}

/// `path` in the step's tree, which is seen at `root`.
fn place(path: &BStr, what: &str, root: &str) -> Result<String, SandboxError> {
    let path = text(path, || what.to_owned())?;
    if !path.starts_with('/') {
        return Err(SandboxError::Request(format!(
            "{what} is {path:?}, which is not absolute"
        )));
    }
    if let Some(name) = path.split('/').find(|name| name.len() > LONGEST_NAME) {
        return Err(SandboxError::Request(format!(
            "{what} has a name of {} bytes in it, and no file can have one of more than {LONGEST_NAME}",
            name.len()
        )));
    }
    let longest = LONGEST_PATH.saturating_sub(root.len());
    if path.len() > longest {
        return Err(SandboxError::Request(format!(
            "{what} is a path of {} bytes, and here it can have no more than {longest}",
            path.len()
        )));
    }
    Ok(path)
}

/// Like [`place`], for what is mounted: not over everything, and not over what every container has of its own.
fn mountable(path: &BStr, what: &str, root: &str) -> Result<String, SandboxError> {
    let path = place(path, what, root)?;
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => (),
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let why = match *parts {
        [] => "the whole tree",
        ["dev", "shm", _, ..] => return Ok(path),
        ["proc" | "sys" | "dev", ..] => "for the system alone, as is all of /proc, /sys and /dev",
        _ => return Ok(path),
    };
    Err(SandboxError::Request(format!(
        "{what} is {path:?}, which is {why}"
    )))
}

/// Whether `limits` make sense; if not, why.
pub(super) fn check(limits: &Limits) -> Result<(), String> {
    // The kernel's period is 100 ms, and it accepts no share of it below 1 ms.
    if let Some(cpus) = limits.cpus
        && !(cpus.is_finite() && (0.01..=1_000_000.0).contains(&cpus))
    {
        return Err(format!(
            "a limit of {cpus} CPUs makes no sense; the least is 0.01"
        ));
    }
    if limits.pids == Some(0) {
        return Err("a limit of no processes leaves none for the step".to_owned());
    }
    for (limit, what) in [(limits.memory, "memory"), (limits.pids, "processes")] {
        if limit.is_some_and(|limit| i64::try_from(limit).is_err()) {
            return Err(format!(
                "the limit of {what} is beyond what any machine has"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step() -> Step {
        Step {
            rootfs: Rootfs::Plain("/nowhere".into()),
            argv: vec!["true".into()],
            cwd: "/".into(),
            env: vec![],
            user: (0, 0),
            network: Network::None,
            caches: vec![],
            secrets: vec![],
            limits: Limits::default(),
        }
    }

    fn refused(step: Step) -> String {
        match Request::new(step) {
            Err(SandboxError::Request(why)) => why,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("accepted"),
        }
    }

    #[test]
    fn a_plain_step_is_accepted() {
        assert!(Request::new(step()).is_ok());
    }

    #[test]
    fn what_a_runtime_cannot_be_told_is_refused_with_its_place() {
        let mut nul = step();
        nul.argv.push(b"a\0b"[..].into());
        assert_eq!(
            refused(nul),
            "word 2 of the command has a NUL byte in it, which no program can be given"
        );
        let mut latin = step();
        latin.env.push(("A".into(), b"gar\xe7on"[..].into()));
        let why = refused(latin);
        assert!(
            why.starts_with("the value of the variable A is not UTF-8"),
            "{why}"
        );
        assert!(!why.contains("gar"), "{why}");
        let mut none = step();
        none.argv.clear();
        assert!(refused(none).starts_with("there is no command"));
        let mut relative = step();
        relative.cwd = "src".into();
        assert_eq!(
            refused(relative),
            "the working directory is \"src\", which is not absolute"
        );
    }

    #[test]
    fn nothing_is_mounted_over_the_whole_tree() {
        for target in ["/", "//", "/./", "/..", "/a/.."] {
            let mut step = step();
            step.secrets.push(super::super::SecretFile {
                value: Zeroizing::new(vec![]),
                target: target.into(),
            });
            let why = refused(step);
            assert!(why.ends_with("which is the whole tree"), "{why}");
        }
    }

    fn with_cache_and_with_secret(target: &str) -> [Step; 2] {
        let (mut cached, mut secret) = (step(), step());
        cached.caches.push(super::super::CacheMount {
            tree: Rootfs::Plain("/nowhere".into()),
            target: target.into(),
        });
        secret.secrets.push(super::super::SecretFile {
            value: Zeroizing::new(vec![]),
            target: target.into(),
        });
        [cached, secret]
    }

    #[test]
    fn nothing_is_mounted_on_what_the_container_has_of_its_own() {
        for target in [
            "/proc",
            "/proc/x",
            "/sys/foo",
            "/dev",
            "/dev/null",
            "/dev/shm",
            "/a/../dev/./pts/x",
        ] {
            for step in with_cache_and_with_secret(target) {
                let why = refused(step);
                assert!(why.contains("for the system alone"), "{why}");
            }
        }
        for target in ["/dev/shm/x", "/process", "/opt/sys/foo"] {
            for step in with_cache_and_with_secret(target) {
                assert!(Request::new(step).is_ok(), "{target}");
            }
        }
    }

    #[test]
    fn paths_that_no_file_can_have_are_refused() {
        let name = "n".repeat(256);
        let long = "/d".repeat(2046);
        for (path, text) in [
            (format!("/a/{name}/b"), "a name of 256 bytes"),
            (long, "a path of 4092 bytes"),
        ] {
            let mut inside = step();
            inside.cwd = path.as_str().into();
            for step in with_cache_and_with_secret(&path)
                .into_iter()
                .chain([inside])
            {
                let why = refused(step);
                assert!(why.contains(text), "{why}");
                assert!(!why.contains("nowhere"), "{why}");
            }
        }
        let mut longest = step();
        longest.cwd = format!("/{}", "n".repeat(255)).as_str().into();
        assert!(Request::new(longest).is_ok());
    }

    #[test]
    fn limits_that_make_no_sense_are_refused() {
        let refused = |limits: Limits| check(&limits).unwrap_err();
        for cpus in [f64::NAN, 0.0, -1.0, f64::INFINITY] {
            let why = refused(Limits {
                cpus: Some(cpus),
                ..Limits::default()
            });
            assert!(why.contains("makes no sense"), "{why}");
        }
        let why = refused(Limits {
            memory: Some(u64::MAX),
            ..Limits::default()
        });
        assert!(why.contains("memory"), "{why}");
        assert_eq!(check(&Limits::default()), Ok(()));
    }
}
