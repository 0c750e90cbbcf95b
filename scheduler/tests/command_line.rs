//! The command line of `ocluster-scheduler` as its users see it: help, mistakes, and what it says when it is told to be quiet.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Child;

use ocluster_cli::testing::Shell;
use rustix::process::{Pid, Signal, kill_process};

fn shell() -> Shell {
    let shell = Shell::new(env!("CARGO_BIN_EXE_ocluster-scheduler"));
    fs::create_dir(shell.directory().join("secrets")).unwrap();
    shell
}

const FLAGS: &str = "--capnp-secret-key-file=key.pem --capnp-listen-address=unix:socket --secrets-dir=secrets --state-dir=state --pools=linux";

#[test]
fn help() {
    insta::assert_snapshot!(shell().run_all([
        "--help",
        "import --help",
        "export --help",
        "completions --help",
        "man --help",
    ]));
}

#[test]
fn version_is_a_number() {
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(
        shell().run("--version"),
        format!("$ ocluster-scheduler --version\n--- stdout\n{version}\n--- exit status: 0\n")
    );
}

#[test]
fn mistakes_on_the_command_line() {
    insta::assert_snapshot!(shell().run_all([
        "",
        "--capnp-secret-key-file=k",
        "--capnp-listen-address=9000",
        "--capnp-listen-address=http:localhost:9000",
        "--capnp-listen-address=tcp:localhost",
        "--capnp-listen-address=tcp:localhost:http",
        "--pools=",
        "--pools=a,,b",
        "--pools=a --pools=b",
        "--capnp=x",
        "--secrets-dir=nowhere",
        "--listen-prometheus=here",
        "--max-attempts=0",
        "--time-limit=linux",
        "--time-limit=running=3h/2h",
        "--quota=alice:disk=1G",
        "--min-free=lots",
        "import",
        "import --from=a --from=b",
        "export --state-dir=state",
        "remove name",
        "install name",
        "start",
        "completions tcsh",
        "man start",
    ]));
}

/// Whatever it is told at the start, until it has written its caps.
fn started(shell: &Shell, flags: &str) -> Child {
    let child = shell.command(&format!("{FLAGS} {flags}")).spawn().unwrap();
    let begun = std::time::Instant::now();
    while !shell.directory().join("secrets/pool-linux.cap").exists() {
        assert!(begun.elapsed().as_secs() < 60, "it does not start");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child
}

fn stop(mut child: Child) -> String {
    let pid = Pid::from_raw(child.id().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
    let mut said = String::new();
    child.stderr.unwrap().read_to_string(&mut said).unwrap();
    said
}

/// Upstream's daemons take `-q` for `--verbosity=info`.
#[test]
fn d17_a_quiet_scheduler_says_nothing() {
    let quiet = shell();
    assert_eq!(stop(started(&quiet, "-q")), "");
    // Without it, the scheduler says where its caps are, as upstream's does, and nothing else unless it is asked.
    let plain = shell();
    let said = stop(started(&plain, ""));
    let caps: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_once("    application  "))
        .map(|(_, said)| said)
        .collect();
    assert_eq!(
        caps,
        [
            "Wrote capability reference to \"secrets/admin.cap\"",
            "Wrote capability reference to \"secrets/pool-linux.cap\""
        ]
    );
    assert_eq!(said.lines().count(), 2, "{said}");
    let loud = shell();
    let said = stop(started(&loud, "--verbosity=info"));
    assert!(
        said.contains("[INFO] Waiting for (encrypted) connections on unix:"),
        "{said}"
    );
}

/// Upstream's scheduler does not start again if the cap file of a default client was lost.
#[test]
fn d12_a_lost_cap_file_of_a_default_client_does_not_stop_the_scheduler() {
    let shell = shell();
    let cap = shell.directory().join("secrets/submit-bob.cap");
    drop(stop(started(&shell, "--default-clients=bob")));
    let first = fs::read_to_string(&cap).unwrap();
    fs::remove_file(&cap).unwrap();
    fs::remove_file(shell.directory().join("secrets/pool-linux.cap")).unwrap();
    let said = stop(started(&shell, "--default-clients=bob"));
    assert!(
        said.contains("Client \"bob\" is registered, but \"secrets/submit-bob.cap\" is missing"),
        "{said}"
    );
    let second = fs::read_to_string(&cap).unwrap();
    assert_ne!(first, second, "the new file has a secret of its own");
    // With the file in its place there is nothing to say, and the file stays.
    fs::remove_file(shell.directory().join("secrets/pool-linux.cap")).unwrap();
    let said = stop(started(&shell, "--default-clients=bob"));
    assert!(!said.contains("bob"), "{said}");
    assert_eq!(fs::read_to_string(&cap).unwrap(), second);
}

#[test]
fn completions_load_in_bash() {
    let shell = shell();
    let script = shell.command("completions bash").output().unwrap().stdout;
    shell.write("completions", &script);
    let bash = std::process::Command::new("bash")
        .args([
            "--norc",
            "-c",
            "set -e; . ./completions; complete -p ocluster-scheduler; COMP_WORDS=(ocluster-scheduler --capnp-p); COMP_CWORD=1; \
             _ocluster__scheduler ocluster-scheduler --capnp-p ocluster-scheduler; echo \"${COMPREPLY[@]}\"; \
             COMP_WORDS=(ocluster-scheduler im); _ocluster__scheduler ocluster-scheduler im ocluster-scheduler; echo \"${COMPREPLY[@]}\"",
        ])
        .current_dir(shell.directory())
        .output()
        .unwrap();
    assert!(bash.status.success(), "{bash:?}");
    let lines: Vec<String> = BufReader::new(bash.stdout.as_slice())
        .lines()
        .map(Result::unwrap)
        .collect();
    assert!(
        matches!(lines.as_slice(), [complete, flag, chore]
            if complete.ends_with("-F _ocluster__scheduler ocluster-scheduler")
                && flag == "--capnp-public-address" && chore == "import"),
        "{lines:?}"
    );
}
