//! The `obuilder` program as its users see it where nothing is built: help, mistakes, specs, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use support::{run, run_all, shell, workshop};

#[test]
fn help() {
    insta::assert_snapshot!(shell().run_all([
        "--help",
        "build --help",
        "healthcheck --help",
        "dockerfile --help",
        "ls --help",
        "export --help",
        "delete --help",
        "clean --help",
        "check --help",
        "completions --help",
        "man --help",
    ]));
}

#[test]
fn version_is_a_number() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        shell().run("--version"),
        format!("$ obuilder --version\n--- stdout\n{version}\n--- exit status: 0\n")
    );
}

#[test]
fn mistakes_on_the_command_line() {
    let shell = shell();
    shell.write("x.spec", "((from busybox))");
    insta::assert_snapshot!(shell.run_all([
        "",
        "push",
        "build",
        "build -f x.spec",
        "build -f x.spec --store=here",
        "build -f x.spec --store=btrfs:here",
        "build -f x.spec --store=zfs:tank",
        "build -f x.spec --store=rsync:/nowhere",
        "build -f x.spec --store=btrfs:/nowhere --rsync-mode=copy",
        "build -f x.spec --store=/nowhere --secret=token",
        "build -f x.spec --store=/nowhere --pull=sometimes",
        "build -f x.spec --store=/nowhere --fetcher=pigeon",
        "build -f x.spec --store=/nowhere --mirror=docker.io",
        "build -f x.spec --store=/nowhere --memory=much",
        "build -f x.spec --store=/nowhere --cpus=0",
        "build -f x.spec --store=/nowhere --pids=few",
        "build -f x.spec --store=/nowhere --step-time=soon",
        "build -f x.spec --store=/nowhere --parallel-stages=0",
        "dockerfile",
        "dockerfile -f x.spec --escape=mac",
        "delete --store=/nowhere",
        "delete --store=/nowhere 12",
        "export --store=/nowhere 12",
        "export --store=/nowhere 6e120137cdc285b78a3b65f182b3bdfcbe5f8f0e48077f6fb9aa35e20c766c3e",
        "ls --store=/nowhere more",
    ]));
}

#[test]
fn mistakes_in_specs_have_a_place() {
    let shell = shell();
    for (name, text) in [
        ("open.spec", "((from busybox)\n (run (shell x))"),
        ("close.spec", "((from busybox)))"),
        ("empty.spec", ""),
        ("none.spec", "((env A b))"),
        ("field.spec", "((from busybox)\n (run (network host)))"),
        ("word.spec", "((from busybox)\n (rum (shell x)))"),
        (
            "stage.spec",
            "((build dev ((from busybox)))\n (from busybox)\n (copy (from (build deb)) (src x) (dst y)))",
        ),
    ] {
        shell.write(name, text);
    }
    insta::assert_snapshot!(shell.run_all([
        "dockerfile -f open.spec",
        "dockerfile -f close.spec",
        "dockerfile -f empty.spec",
        "dockerfile -f none.spec",
        "dockerfile -f field.spec",
        "dockerfile -f word.spec",
        "build -f stage.spec --store=/nowhere",
        "build -f missing.spec --store=/nowhere",
    ]));
}

#[test]
fn dockerfiles() {
    let shell = shell();
    shell.write(
        "app.spec",
        r#"((build dev
  ((from debian:12)
   (run (network host) (cache (apt (target /var/cache/apt))) (shell "apt-get update \
       && apt-get install -y gcc"))
   (copy (src .) (dst /src/))
   (run (secrets (token (target /run/secrets/token))) (shell "make -C /src"))))
 (from busybox)
 (comment "what is shipped")
 (env GREETING "hello \"you\"")
 (user (uid 1000) (gid 1000))
 (workdir /app)
 (copy (from (build dev)) (src /src/app) (dst ./)))"#,
    );
    insta::assert_snapshot!(shell.run_all([
        "dockerfile -f app.spec",
        "dockerfile -f app.spec --buildkit",
        "dockerfile -f app.spec --escape=windows",
    ]));
}

#[test]
fn a_store_is_made_by_builds_alone() {
    let shell = shell();
    let id = "0".repeat(64);
    let export = format!("export --store=STORE {id} --path=/x");
    let delete = format!("delete --store=STORE {id}");
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "ls --store=STORE",
            "check --store=STORE",
            "clean --store=STORE",
            &export,
            &delete
        ]
    ));
    assert!(!shell.directory().join("store").exists());
}

#[test]
fn who_is_not_root_is_told_so() {
    needs_obuilder!("who_is_not_root_is_told_so");
    let shell = workshop();
    fs::create_dir(shell.directory().join("store")).unwrap();
    fs::set_permissions(shell.directory(), Permissions::from_mode(0o755)).unwrap();
    // A copy that everybody may run, wherever the tree is. Another process copies it: ours might hand its open file to a program that
    // another test starts at this moment.
    let program = shell.directory().join("obuilder");
    let copied = Command::new("cp")
        .arg(env!("CARGO_BIN_EXE_obuilder"))
        .arg(&program)
        .status();
    assert!(copied.unwrap().success());
    for args in ["build -f hello.spec --store=STORE .", "ls --store=STORE"] {
        let line = support::line(&shell, args);
        let output = Command::new(&program)
            .args(line.split(' '))
            .current_dir(shell.directory())
            .uid(65_534)
            .gid(65_534)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(
            said.contains("which only root can do; run this as root"),
            "{said}"
        );
    }
}

#[test]
fn a_store_of_the_ocaml_version_is_refused_with_advice() {
    needs_obuilder!("a_store_of_the_ocaml_version_is_refused_with_advice");
    let shell = workshop();
    let store = shell.directory().join("store");
    for directory in ["result", "cache", "state/db"] {
        fs::create_dir_all(store.join(directory)).unwrap();
    }
    fs::write(store.join("state/db/db.sqlite"), "SQLite format 3").unwrap();
    insta::assert_snapshot!(run(&shell, "build -f hello.spec --store=STORE ."));
    // It is as it was.
    assert_eq!(fs::read_dir(&store).unwrap().count(), 3);
}

#[test]
fn a_runtime_that_is_missing_is_named_with_advice() {
    needs_obuilder!("a_runtime_that_is_missing_is_named_with_advice");
    let shell = workshop();
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "build -f hello.spec --store=STORE --runtime=no-such-runtime .",
            "healthcheck --store=STORE --runtime=/no/such/runtime",
        ]
    ));
}
