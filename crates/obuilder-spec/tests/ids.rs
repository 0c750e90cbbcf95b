//! Ids that must never change, as results are stored under them: a change of this snapshot loses every user's cache.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use bstr::BString;
use ocluster_obuilder_spec::{CopyKey, Manifest, RunKey, StepId, User};

/// A run to vary.
struct Step {
    base: StepId,
    workdir: BString,
    user: User,
    env: Vec<(BString, BString)>,
    command: BString,
    shell: Vec<BString>,
    network: Vec<BString>,
    secrets: Vec<(BString, BString)>,
}

impl Step {
    fn id(&self) -> StepId {
        RunKey {
            base: self.base,
            workdir: &self.workdir,
            user: &self.user,
            env: &self.env,
            command: &self.command,
            shell: &self.shell,
            network: &self.network,
            secrets: &self.secrets,
        }
        .id()
    }
}

fn step() -> Step {
    Step {
        base: StepId::of_base(b"debian:12"),
        workdir: "/src".into(),
        user: User::Unix { uid: 0, gid: 0 },
        env: vec![("A".into(), "1".into()), ("B".into(), "2".into())],
        command: "make".into(),
        shell: vec!["/bin/sh".into(), "-c".into()],
        network: Vec::new(),
        secrets: Vec::new(),
    }
}

fn runs() -> Vec<(&'static str, StepId)> {
    let changed = |name, change: fn(&mut Step)| {
        let mut step = step();
        change(&mut step);
        (name, step.id())
    };
    vec![
        changed("run", |_| {}),
        changed("other base", |step| {
            step.base = StepId::of_base(b"debian:13")
        }),
        changed("other directory", |step| step.workdir.push(b'/')),
        changed("other user", |step| {
            step.user = User::Unix { uid: 1, gid: 0 }
        }),
        changed("other group", |step| {
            step.user = User::Unix { uid: 0, gid: 1 }
        }),
        changed("user by name", |step| {
            step.user = User::Named("root".into())
        }),
        changed("variables in another order", |step| step.env.reverse()),
        changed("fewer variables", |step| step.env.truncate(1)),
        changed("other command", |step| step.command.push(b' ')),
        changed("empty command", |step| step.command.clear()),
        changed("command of other bytes", |step| {
            step.command = b"\xff\0\n\"".into()
        }),
        changed("other shell", |step| step.shell.push("".into())),
        changed("no shell", |step| step.shell.clear()),
        changed("network", |step| step.network.push("host".into())),
        changed("secret", |step| {
            step.secrets.push(("v".into(), "/t".into()))
        }),
        changed("other secret", |step| {
            step.secrets.push(("w".into(), "/t".into()))
        }),
        changed("secret elsewhere", |step| {
            step.secrets.push(("v".into(), "/u".into()))
        }),
    ]
}

fn file(path: &str, executable: bool) -> Manifest {
    Manifest::File {
        path: path.into(),
        sha256: [0x5a; 32],
        executable,
    }
}

fn copies() -> Vec<(&'static str, StepId)> {
    let copy = |name, items: Vec<Manifest>, dst: &str, into_directory| {
        let key = CopyKey {
            base: StepId::of_base(b"debian:12"),
            user: &User::Unix { uid: 0, gid: 0 },
            items: &items,
            dst: &dst.into(),
            into_directory,
        };
        (name, key.id())
    };
    let dir = |path: &str, entries| Manifest::Dir {
        path: path.into(),
        entries,
    };
    let link = Manifest::Symlink {
        path: "a".into(),
        target: "b".into(),
    };
    vec![
        copy("file", vec![file("a", false)], "/b", false),
        copy("executable file", vec![file("a", true)], "/b", false),
        copy("file into directory", vec![file("a", false)], "/b/", true),
        copy("link", vec![link.clone()], "/b", false),
        copy("directory", vec![dir("a", vec![])], "/b", false),
        copy(
            "tree",
            vec![dir("", vec![dir("a", vec![file("a/b", false)]), link])],
            "/b/",
            true,
        ),
        copy(
            "flat tree",
            vec![dir("", vec![dir("a", vec![]), file("a/b", false)])],
            "/b/",
            true,
        ),
        copy(
            "two files",
            vec![file("a", false), file("b", false)],
            "/b/",
            true,
        ),
        copy("nothing", vec![], "/b/", true),
    ]
}

#[test]
fn ids_never_change() {
    let bases = [b"".as_slice(), b"busybox", b"debian:12", b"\xff"];
    let bases = bases.map(|name| ("base", StepId::of_base(name)));
    let ids = bases.into_iter().chain(runs()).chain(copies());
    insta::assert_snapshot!(
        ids.map(|(name, id)| format!("{id} {name}\n"))
            .collect::<String>()
    );
}

#[test]
fn whatever_differs_has_an_id_of_its_own() {
    let mut names = BTreeMap::new();
    for (name, id) in runs().into_iter().chain(copies()) {
        if let Some(other) = names.insert(id, name) {
            panic!("{name} has the id of {other}");
        }
    }
}
