//! The command line of `ocluster-worker` as its users see it: help, mistakes, and what a worker needs to be told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::{BufRead as _, BufReader};

use ocluster_cli::testing::Shell;

fn shell() -> Shell {
    Shell::new(env!("CARGO_BIN_EXE_ocluster-worker"))
}

#[test]
fn help() {
    insta::assert_snapshot!(shell().run_all(["--help", "completions --help", "man --help"]));
}

#[test]
fn version_is_a_number() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        shell().run("--version"),
        format!("$ ocluster-worker --version\n--- stdout\n{version}\n--- exit status: 0\n")
    );
}

#[test]
fn mistakes_on_the_command_line_are_told_with_exit_code_124() {
    let shell = shell();
    shell.write("pool.cap", "capnp://insecure@127.0.0.1:1/c2VjcmV0");
    for (args, complaint) in [
        (
            "",
            "required option '--name', option '--state-dir', argument CAP are missing.",
        ),
        (
            "no.cap --name=w --state-dir=s",
            "argument CAP: File \"no.cap\" does not exist",
        ),
        (
            "pool.cap --name=w --name=x --state-dir=s",
            "option '--name' cannot be repeated.",
        ),
        (
            "pool.cap --name=w --state-dir=s --capacity=many",
            "option '--capacity'",
        ),
        (
            "pool.cap --name=w --state-dir=s man",
            "command 'man' cannot be used together with other arguments.",
        ),
        (
            "pool.cap --name=w --state-dir=s --obuilder-store=rsync:/nonexistent",
            "an rsync store needs --rsync-mode: copy, or hardlink",
        ),
        (
            "pool.cap --name=w --state-dir=s --obuilder-store=overlayfs:/nonexistent --rsync-mode=copy",
            "--rsync-mode is for rsync stores only, and this one is overlayfs",
        ),
        (
            "pool.cap --name=w --state-dir=s --obuilder-store=zfs:pool",
            "option '--obuilder-store': zfs: stores are not supported by this build",
        ),
        (
            "pool.cap --name=w --state-dir=s --rsync-mode=copy",
            "required option '--obuilder-store' is missing.",
        ),
        (
            "pool.cap --name=w --state-dir=s --uid=1000",
            "option '--uid': it is for macOS. Leave it out",
        ),
        // Not taken for `completions` or `man`, which must be written out here.
        (
            "m --name=w --state-dir=s",
            "argument CAP: File \"m\" does not exist",
        ),
    ] {
        let said = shell.run(args);
        assert!(
            said.contains(&format!("--- stderr\nocluster-worker: {complaint}"))
                && said.ends_with("--- exit status: 124\n"),
            "{said}"
        );
    }
}

#[test]
fn nobody_becomes_a_windows_service_here() {
    insta::assert_snapshot!(shell().run_all(["install w", "remove w"]), @"
    $ ocluster-worker install w
    --- stderr
    ocluster-worker: Cannot install a service on non-Windows systems.
    --- exit status: 125

    $ ocluster-worker remove w
    --- stderr
    ocluster-worker: Cannot remove a service on non-Windows systems.
    --- exit status: 125
    ");
}

/// Upstream's worker calls `--obuilder-store` an option, and ends with exit code 125 without it.
#[test]
fn d4_a_worker_needs_no_obuilder_store() {
    let shell = shell();
    // Nobody listens there, which is a reason to try again, not to give up.
    shell.write("pool.cap", "capnp://insecure@127.0.0.1:1/c2VjcmV0");
    for cap in ["pool.cap", "-c pool.cap", "--connect=pool.cap"] {
        let mut worker = shell
            .command(&format!(
                "{cap} --name=w --state-dir=state --verbosity=info"
            ))
            .spawn()
            .unwrap();
        let log = BufReader::new(worker.stderr.take().unwrap());
        let mut lines = log.lines().map(Result::unwrap);
        assert!(
            lines.any(|line| line.contains("Will retry in")),
            "it should go on trying"
        );
        worker.kill().unwrap();
        worker.wait().unwrap();
    }
}
