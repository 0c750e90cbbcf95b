//! One build, with all that a spec can ask for, on each kind of store: the same ids, files, modes and owners come out of all of them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/filesystem.rs"]
#[allow(dead_code)]
mod filesystem;
#[path = "support/tree.rs"]
#[allow(dead_code)]
mod tree;
mod whole_support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use filesystem::{Filesystem, Mounted, where_nobody_sees};
use ocluster_obuilder::build::Secrets;
use ocluster_obuilder::store::{Backend, Btrfs, Kind, Location, RsyncMode};
use tempfile::TempDir;
use whole_support::{Whole, base_image, from};

/// What came out of a build.
#[derive(Clone)]
struct Outcome {
    result: String,
    ids: BTreeSet<String>,
    files: Vec<String>,
    said: Vec<String>,
}

fn context(dir: &Path) {
    for path in ["lib", "bin", ".git"] {
        fs::create_dir_all(dir.join(path)).unwrap();
    }
    fs::write(dir.join("lib/plain text"), "plain").unwrap();
    fs::write(dir.join("bin/program"), "#!/bin/sh\necho program\n").unwrap();
    fs::set_permissions(dir.join("bin/program"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(dir.join(".git/HEAD"), "excluded").unwrap();
    symlink("../../outside", dir.join("lib/link")).unwrap();
    symlink("program", dir.join("bin/alias")).unwrap();
}

fn spec(base: &str) -> String {
    let tools = format!(
        r#"(build tools ({base}
            (run (cache (shared (target /cache)))
                 (shell "mkdir -p /opt/tool/sub && echo tool > /cache/x && cat /cache/x > /opt/tool/t && chmod 4750 /opt/tool/t"))
            (run (shell "ln /opt/tool/t /opt/tool/hard && ln -s t /opt/tool/soft && chown 12:34 /opt/tool/sub && rm /bin/true"))
            (copy (src bin "lib/plain text") (dst /opt/tool/))))"#
    );
    let data = format!(
        r#"(build data ({base}
            (user (uid 1000) (gid 1000)) (workdir /tmp/data)
            (copy (src lib) (dst ./))
            (run (secrets (token (target /run/secrets/token)))
                 (shell "cat /run/secrets/token | sha256sum > sum && echo mine > /tmp/mine && rm lib/link"))))"#
    );
    format!(
        r#"({tools} {data} {base}
            (workdir /src)
            (copy (src .) (dst ./) (exclude .git))
            (run (shell "echo before > kept; echo gone > removed; mkdir -p full/of; echo x > full/of/x"))
            (copy (from (build tools)) (src opt/tool bin) (dst /usr/))
            (copy (from (build data)) (src tmp) (dst /data))
            (user (uid 1000) (gid 1000))
            (run (network host) (cache (shared (target /cache)) (own (target /home/own)))
                 (secrets (token (target /secret)))
                 (shell "id -u; cat /cache/x; echo net $(readlink /proc/self/ns/net); test -r /secret && echo of mine > /home/own/file && touch /tmp/by-opam"))
            (user (uid 0) (gid 0)) (env NAME value)
            (run (shell "rm removed && rm -r full && mkdir full && echo anew > full/y && mv kept moved && chmod 2711 /usr/tool && rm -r /usr/bin/sh; test ! -e /bin/nothing && echo $NAME; readlink /proc/self/ns/net")))"#
    )
}

async fn build(dir: &Path, location: &Location, base: &Path, context: &Path) -> Outcome {
    let whole = Whole::new(dir, location).await;
    let spec = spec(&from(base));
    let secrets = || {
        let mut secrets = Secrets::default();
        let value = b"not told".to_vec().into();
        secrets.0.insert("token".to_owned(), value);
        secrets
    };
    let (built, log) = whole.build(&spec, context, secrets()).await;
    let result = built.unwrap_or_else(|error| panic!("{location}: {error}\n{log}"));
    let files = result
        .layer
        .view()
        .unwrap()
        .with(tree::describe)
        .await
        .unwrap();
    let store = whole.builder().store();
    let ids = store.list().await.unwrap();
    // Once more, to see that all of it is found again.
    let (again, replayed) = whole.build(&spec, context, secrets()).await;
    let again = again.unwrap();
    assert!(again.cached && again.id == result.id, "{replayed}");
    assert!(!replayed.contains("saved as"), "{replayed}");
    assert!(!log.contains("not told"), "{log}");
    let outcome = Outcome {
        result: result.id.to_string(),
        ids: ids.iter().map(|layer| layer.id.to_string()).collect(),
        // When a step ran is the only thing that may differ.
        files: files.iter().map(|line| without_time(line)).collect(),
        said: log
            .lines()
            .filter(|line| !line.starts_with(';') && !line.contains("net:["))
            .map(str::to_owned)
            .collect(),
    };
    let ours = fs::read_link("/proc/self/ns/net").unwrap();
    let ours = ours.to_str().unwrap();
    assert!(log.contains(&format!("net {ours}")), "{log}");
    assert_eq!(log.matches(ours).count(), 1, "{log}");
    drop((result, again));
    whole.prune_to_empty().await;
    whole.close();
    outcome
}

/// A line of a description without the time of the last change.
fn without_time(line: &str) -> String {
    match line.split_once(" at ") {
        Some((before, after)) => {
            let rest = after.split_once(' ').map_or("", |(_, rest)| rest);
            format!("{before} {rest}")
        }
        None => line.to_owned(),
    }
}

fn kinds() -> [(Filesystem, Kind); 6] {
    [
        (Filesystem::Ext4, Kind::Overlayfs),
        (Filesystem::Btrfs, Kind::Btrfs),
        (Filesystem::Xfs, Kind::Xfs),
        (Filesystem::Ext4, Kind::Rsync(RsyncMode::Copy)),
        (Filesystem::Ext4, Kind::Rsync(RsyncMode::Hardlink)),
        (Filesystem::Ext4, Kind::Rsync(RsyncMode::HardlinkUnsafe)),
    ]
}

#[test]
fn a_build_comes_out_the_same_on_every_kind_of_store() {
    let shared = TempDir::new().unwrap();
    let base = base_image(shared.path());
    let source = shared.path().join("context");
    fs::create_dir(&source).unwrap();
    context(&source);
    let mut first: Option<Outcome> = None;
    for (filesystem, kind) in kinds() {
        let outcome = where_nobody_sees(|| {
            let (_mounted, dir) = Mounted::shared(filesystem);
            let location = Location {
                kind,
                root: dir.path().join("store"),
            };
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            let outcome = runtime.block_on(build(dir.path(), &location, &base, &source));
            drop(runtime);
            if kind == Kind::Btrfs {
                // A temporary directory cannot remove subvolumes.
                Btrfs::default().remove(dir.path()).unwrap();
            }
            outcome
        });
        if first.is_none() {
            look_closely(&outcome);
        }
        let first = first.get_or_insert_with(|| outcome.clone());
        assert_eq!(first.result, outcome.result, "{kind:?}");
        assert_eq!(first.ids, outcome.ids, "{kind:?}");
        assert_eq!(first.said, outcome.said, "{kind:?}");
        for (one, other) in first.files.iter().zip(&outcome.files) {
            assert_eq!(one, other, "{kind:?}");
        }
        assert_eq!(first.files.len(), outcome.files.len(), "{kind:?}");
    }
}

/// What all agree on must be right, too.
fn look_closely(outcome: &Outcome) {
    let has = |start: &str| {
        assert!(
            outcome.files.iter().any(|line| line.starts_with(start)),
            "no {start} in {:#?}",
            outcome.files
        );
    };
    let has_not = |start: &str| {
        assert!(
            !outcome.files.iter().any(|line| line.starts_with(start)),
            "{start} in {:#?}",
            outcome.files
        );
    };
    has(r#""src/bin/program" 100755 0:0"#);
    has(r#""src/lib/plain text" 100644 0:0 5 bytes"#);
    has(r#""src/lib/link" 120777 0:0"#);
    has_not(r#""src/.git"#);
    has(r#""src/moved" 100644 0:0"#);
    has_not(r#""src/removed"#);
    has_not(r#""src/full/of"#);
    has(r#""src/full/y""#);
    // No set-user-id bit, owner or hard link comes along with a copy.
    has(r#""usr/tool" 42711 0:0"#);
    has(r#""usr/tool/t" 100755 0:0 5 bytes"#);
    has(r#""usr/tool/hard" 100755 0:0"#);
    has(r#""usr/tool/sub" 40755 0:0"#);
    has(r#""usr/tool/bin/program" 100755 0:0"#);
    has_not(r#""usr/bin/true""#);
    has_not(r#""usr/bin/sh""#);
    has(r#""usr/bin/cat" 120777 0:0"#);
    has(r#""bin/true" 120777"#);
    has(r#""data/data/lib" 40755 0:0"#);
    has(r#""data/mine" 100644 0:0"#);
    has_not(r#""data/data/lib/link""#);
    has(r#""tmp/by-opam" 100644 1000:1000"#);
    has(r#""tmp" 41777 0:0"#);
    for line in ["1000", "tool", "value"] {
        assert!(
            outcome.said.iter().any(|said| said == line),
            "{:#?}",
            outcome.said
        );
    }
}
