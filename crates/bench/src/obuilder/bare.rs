//! The same containers, started by nothing but the runtime: with the configuration that the sandbox gives it, in a plain directory.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ocluster_obuilder::sandbox::{
    CacheMount, Limits, Network, RuncConfig, RuncSandbox, Sandbox as _, Step,
};
use ocluster_obuilder::{Rootfs, StepLog};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::lab::{Lab, finish};

/// A container that can be run again and again, one at a time.
pub(super) struct Bundle {
    path: PathBuf,
    state: PathBuf,
    runs: AtomicUsize,
}

impl Bundle {
    /// The bundle of `script`, run as a step with a cache if `cached`.
    ///
    /// # Errors
    /// The sandbox's, or the disk's.
    pub(super) async fn take(
        lab: &Lab,
        name: &str,
        script: &str,
        cached: bool,
    ) -> anyhow::Result<Self> {
        let path = lab.beside(&format!("bundle-{name}"));
        fs::create_dir_all(path.join("cache"))?;
        let spy = path.join("spy");
        fs::write(
            &spy,
            format!(
                "#!/bin/sh\nlast=\nfor word in \"$@\"; do\n  [ \"$last\" = --bundle ] && cp \"$word/config.json\" {}/\n  last=$word\ndone\n\
                 exec runc \"$@\"\n",
                path.display()
            ),
        )?;
        fs::set_permissions(&spy, fs::Permissions::from_mode(0o755))?;
        let mut config = RuncConfig::new(path.join("sandbox"));
        config.runtime = spy;
        let sandbox = RuncSandbox::open(config).await?;
        let step = Step {
            rootfs: Rootfs::Plain(lab.rootfs()),
            argv: vec!["/bin/sh".into(), "-c".into(), script.into()],
            cwd: "/".into(),
            env: vec![("PATH".into(), "/bin".into())],
            user: (0, 0),
            network: Network::None,
            caches: cached
                .then(|| CacheMount {
                    tree: Rootfs::Plain(path.join("cache")),
                    target: "/cache".into(),
                })
                .into_iter()
                .collect(),
            secrets: Vec::new(),
            limits: Limits::default(),
        };
        let log = StepLog::create(&path.join("log")).await?;
        sandbox.run(step, &log, &CancellationToken::new()).await?;
        drop(sandbox);
        adapt(&path, &lab.rootfs(), name)?;
        Ok(Self {
            state: path.join("state"),
            path,
            runs: AtomicUsize::new(0),
        })
    }

    /// Runs it, and waits for its end.
    ///
    /// # Errors
    /// The runtime's.
    pub(super) fn run(&self) -> anyhow::Result<Duration> {
        let run = self.runs.fetch_add(1, Ordering::Relaxed);
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        let began = Instant::now();
        finish(
            Command::new("runc")
                .arg("--root")
                .arg(&self.state)
                .arg("run")
                .arg("--bundle")
                .arg(&self.path)
                .arg(format!("ocluster-{}-{name}-{run}", std::process::id())),
        )?;
        Ok(began.elapsed())
    }
}

/// Makes a configuration that was taken from the sandbox work without it.
fn adapt(bundle: &Path, rootfs: &Path, name: &str) -> anyhow::Result<()> {
    let path = bundle.join("config.json");
    let text = fs::read(&path).context("the sandbox gave the runtime no configuration")?;
    let mut config: Value = serde_json::from_slice(&text)?;
    let set = |value: Option<&mut Value>, new: String| {
        if let Some(value) = value {
            *value = Value::String(new);
        }
    };
    set(
        config.get_mut("root").and_then(|root| root.get_mut("path")),
        rootfs.display().to_string(),
    );
    set(
        config.pointer_mut("/linux/cgroupsPath"),
        format!("/ocluster-bench-{}-{name}", std::process::id()),
    );
    fs::write(bundle.join("file"), "")?;
    let mounts = config.pointer_mut("/mounts").and_then(Value::as_array_mut);
    for mount in mounts.into_iter().flatten() {
        let is_cache = mount.get("destination").and_then(Value::as_str) == Some("/cache");
        let source = mount.get("source").and_then(Value::as_str);
        // What only the sandbox could see.
        if source.is_some_and(|source| source.starts_with('/') && !Path::new(source).exists())
            || is_cache
        {
            let new = bundle.join(if is_cache { "cache" } else { "file" });
            set(mount.get_mut("source"), new.display().to_string());
        }
    }
    fs::write(path, serde_json::to_vec(&config)?)?;
    Ok(())
}
