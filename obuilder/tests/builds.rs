//! The `obuilder` program at work: it builds with the real runtime, in a real store.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use support::{
    Running, built, files_named, line, need, run, run_all, somebody_runs, spec, wait_for, workshop,
};

#[test]
fn the_second_build_finds_what_the_first_has_saved() {
    needs_obuilder!("the_second_build_finds_what_the_first_has_saved");
    let shell = workshop();
    let said = run_all(
        &shell,
        [
            "build -f hello.spec --store=STORE .",
            "build -f hello.spec --store=STORE",
            "ls --store=STORE",
            "check --store=STORE",
        ],
    );
    // How long the log of the image's fetch is depends on the image, and on where it is.
    let (before, after) = said.split_once(" B  rootfs:").unwrap();
    let before = before.trim_end_matches(|digit: char| digit.is_ascii_digit());
    insta::assert_snapshot!(format!("{before}N B  rootfs:{after}"));
}

#[test]
fn secrets_come_from_files_and_are_asked_for_by_name() {
    needs_obuilder!("secrets_come_from_files_and_are_asked_for_by_name");
    let shell = workshop();
    shell.write("password", "sesame");
    spec(
        &shell,
        "secret.spec",
        r#"(run (secrets (token (target /run/token))) (shell "cat /run/token; echo"))"#,
    );
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "build -f secret.spec --store=STORE --secret=token:password .",
            "build -f secret.spec --store=STORE --secret=other:password .",
            "build -f secret.spec --store=STORE --secret=token:nowhere .",
        ]
    ));
}

#[test]
fn a_failing_step_ends_the_program_with_its_reason() {
    needs_obuilder!("a_failing_step_ends_the_program_with_its_reason");
    let shell = workshop();
    spec(
        &shell,
        "fail.spec",
        r#"(run (shell "echo so far; exit 3"))"#,
    );
    spec(&shell, "long.spec", r#"(run (shell "sleep 100"))"#);
    spec(&shell, "copy.spec", r"(copy (src nowhere) (dst /x))");
    insta::assert_snapshot!(run_all(
        &shell,
        [
            "build -f fail.spec --store=STORE .",
            // Failed steps are not kept.
            "build -f fail.spec --store=STORE .",
            "build -f long.spec --store=STORE --step-time=200ms .",
            "build -f copy.spec --store=STORE .",
            "build -f hello.spec --store=STORE nowhere",
        ]
    ));
}

#[test]
fn a_machine_that_can_build_is_healthy() {
    needs_obuilder!("a_machine_that_can_build_is_healthy");
    let shell = workshop();
    let check = format!(
        "healthcheck --store=STORE --image=rootfs:{}/busybox.tar",
        shell.directory().display()
    );
    let said = run(&shell, &check);
    assert!(
        said.ends_with("--- stdout\nHealthcheck passed\n--- exit status: 0\n"),
        "{said}"
    );
    fs::remove_file(shell.directory().join("busybox.tar")).unwrap();
    spec(&shell, "other.spec", "");
    let missing = format!(
        "healthcheck --store=STORE --image=rootfs:{}/missing.tar",
        shell.directory().display()
    );
    let said = run(&shell, &missing);
    assert!(said.contains("Healthcheck failed: "), "{said}");
    assert!(said.ends_with("--- exit status: 1\n"), "{said}");
}

#[test]
fn a_terminal_shows_that_something_takes_long_and_is_clean_afterwards() {
    needs_obuilder!("a_terminal_shows_that_something_takes_long_and_is_clean_afterwards");
    let shell = workshop();
    // A runtime that takes its time,
    shell.write(
        "slow",
        "#!/bin/sh\n[ \"$1\" = --version ] || sleep 2\nexec runc \"$@\"\n",
    );
    let slow = shell.directory().join("slow");
    fs::set_permissions(&slow, Permissions::from_mode(0o755)).unwrap();
    let check = line(
        &shell,
        &format!(
            "{} healthcheck --store=STORE --image=rootfs:{}/busybox.tar --runtime={}",
            env!("CARGO_BIN_EXE_obuilder"),
            shell.directory().display(),
            slow.display()
        ),
    );
    // and a terminal of which everything is recorded.
    let output = Command::new(need("script", "bsdutils"))
        .args(["-qec", &check, "/dev/null"])
        .output()
        .unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{shown}");
    assert!(shown.contains("\r[ checking: 1 s ]"), "{shown:?}");
    // Nothing of the line is left: what comes last begins where it was erased.
    assert!(
        shown.ends_with("\r\u{1b}[KHealthcheck passed\r\n"),
        "{shown:?}"
    );
}

#[test]
fn results_and_caches_are_listed_and_removed() {
    needs_obuilder!("results_and_caches_are_listed_and_removed");
    let shell = workshop();
    spec(
        &shell,
        "two.spec",
        r#"(run (cache (c (target /c))) (shell "echo x > /c/x")) (run (shell "echo two"))"#,
    );
    let two = built(&shell, "build -f two.spec --store=STORE .");
    let one = built(&shell, "build -f hello.spec --store=STORE .");
    let listed = run(&shell, "ls --store=STORE --output=json");
    assert!(
        listed.contains("{\"version\":1,\"results\":[{\"id\":\""),
        "{listed}"
    );
    let caches = run(&shell, "ls --store=STORE --caches");
    assert!(caches.contains("NAME  USED"), "{caches}");
    let delete = format!("delete --store=STORE {one}");
    let said = run_all(
        &shell,
        [
            &delete,
            &delete,
            "clean --store=STORE",
            "clean --store=STORE --caches",
            "ls --store=STORE",
            "ls --store=STORE --caches --output=json",
            "check --store=STORE",
        ],
    );
    insta::assert_snapshot!(said);
    assert_ne!(one, two);
}

#[test]
fn what_was_left_behind_is_found_by_a_check_and_mended_by_a_build() {
    needs_obuilder!("what_was_left_behind_is_found_by_a_check_and_mended_by_a_build");
    let shell = workshop();
    built(&shell, "build -f hello.spec --store=STORE .");
    fs::create_dir(shell.directory().join("store/tmp/half-a-layer")).unwrap();
    for _ in 0..2 {
        let said = run(&shell, "check --store=STORE");
        assert!(said.contains("DIR/store/tmp/half-a-layer: "), "{said}");
        assert!(said.contains("the store has 1 problem;"), "{said}");
        assert!(said.ends_with("--- exit status: 1\n"), "{said}");
    }
    built(&shell, "build -f hello.spec --store=STORE .");
    let said = run(&shell, "check --store=STORE");
    assert!(said.contains("The store is in order"), "{said}");
}

#[test]
fn files_are_exported_as_a_tar_or_to_a_directory() {
    needs_obuilder!("files_are_exported_as_a_tar_or_to_a_directory");
    let shell = workshop();
    spec(
        &shell,
        "files.spec",
        r#"(run (shell "echo one > /one; echo two > /bin/two"))"#,
    );
    let id = built(&shell, "build -f files.spec --store=STORE .");
    // A file to a directory,
    let said = run(
        &shell,
        &format!("export --store=STORE {id} --path=/one --to=out"),
    );
    assert!(said.ends_with("--- exit status: 0\n"), "{said}");
    let one = fs::read_to_string(shell.directory().join("out/one"));
    assert_eq!(one.unwrap(), "one\n");
    // a directory as a tar,
    let export = format!("export --store=STORE {id} --path=/bin/");
    let output = shell.command(&line(&shell, &export)).output().unwrap();
    assert!(output.status.success());
    fs::write(shell.directory().join("bin.tar"), output.stdout).unwrap();
    let listed = Command::new("tar")
        .arg("-xOf")
        .arg(shell.directory().join("bin.tar"))
        .args(["--wildcards", "*two"])
        .output()
        .unwrap();
    assert_eq!(listed.stdout, b"two\n");
    // and nothing, of what is not there.
    let said = run(
        &shell,
        &format!("export --store=STORE {id} --path=/three --to=out"),
    );
    assert!(said.contains("the result has no \"/three\""), "{said}");
    let nobody = "0".repeat(64);
    let said = run(
        &shell,
        &format!("export --store=STORE {nobody} --path=/one"),
    );
    assert!(said.contains("there is no result"), "{said}");
}

#[test]
fn a_result_is_exported_as_an_image_that_skopeo_accepts() {
    needs_obuilder!("a_result_is_exported_as_an_image_that_skopeo_accepts");
    let shell = workshop();
    let skopeo = need("skopeo", "skopeo");
    let id = built(&shell, "build -f hello.spec --store=STORE .");
    let export = format!("export --store=STORE {id} --oci=image --tag=mine");
    let output = shell.command(&line(&shell, &export)).output().unwrap();
    let digest = String::from_utf8(output.stdout).unwrap();
    let inspected = Command::new(skopeo)
        .args(["inspect", "--format={{.Digest}}"])
        .arg(format!(
            "oci:{}:mine",
            shell.directory().join("image").display()
        ))
        .output()
        .unwrap();
    assert!(inspected.status.success(), "{inspected:?}");
    assert_eq!(String::from_utf8(inspected.stdout).unwrap(), digest);
    // It can be built on.
    shell.write(
        "on.spec",
        format!(
            "((from oci:{}:mine) (shell /bin/sh -c) (run (shell \"echo on top\")))",
            shell.directory().join("image").display()
        ),
    );
    built(&shell, "build -f on.spec --store=STORE .");
}

#[test]
fn an_interrupt_leaves_nothing_and_the_store_opens_at_once() {
    needs_obuilder!("an_interrupt_leaves_nothing_and_the_store_opens_at_once");
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let shell = workshop();
        // A time of its own, by which the process can be told from others.
        let marker = format!("{}.{code}", 100_000 + std::process::id());
        spec(
            &shell,
            "long.spec",
            &format!("(run (shell \"echo begun; sleep {marker} & sleep {marker}\"))"),
        );
        let mut build = Running::start(&shell, "build -f long.spec --store=STORE .");
        build.wait_until_said("begun");
        wait_for("the step's process", || {
            somebody_runs(&marker).then_some(())
        });
        kill_process(Pid::from_child(&build.child), signal).unwrap();
        let status = wait_for("the end", || build.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(code), "{}", build.said());
        assert!(
            build.said().ends_with("Cancelled at user's request\n"),
            "{}",
            build.said()
        );
        assert!(!somebody_runs(&marker), "the step's process is left");
        let store = shell.directory().join("store");
        let containers = files_named(&store, "state.json");
        assert!(containers.is_empty(), "{containers:?}");
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let directory = shell.directory().display().to_string();
        assert!(!mounts.contains(&directory), "{mounts}");
        let said = run_all(
            &shell,
            ["check --store=STORE", "build -f hello.spec --store=STORE ."],
        );
        assert!(said.contains("The store is in order"), "{said}");
        assert!(said.contains("Got: \"ID-"), "{said}");
    }
}

#[test]
fn a_store_in_use_says_who_has_it() {
    needs_obuilder!("a_store_in_use_says_who_has_it");
    let shell = workshop();
    spec(
        &shell,
        "long.spec",
        r#"(run (shell "echo begun; sleep 1000"))"#,
    );
    let build = Running::start(&shell, "build -f long.spec --store=STORE .");
    build.wait_until_said("begun");
    let holder = format!("(pid {})", build.child.id());
    let output = shell
        .command(&line(&shell, "build -f hello.spec --store=STORE ."))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains(&holder), "{said}");
    insta::assert_snapshot!(run_all(
        &shell,
        ["check --store=STORE", "clean --store=STORE",]
    ));
}

#[test]
fn a_build_on_a_link_in_the_context_takes_the_link() {
    needs_obuilder!("a_build_on_a_link_in_the_context_takes_the_link");
    let shell = workshop();
    fs::create_dir(shell.directory().join("context")).unwrap();
    symlink("/etc/shadow", shell.directory().join("context/link")).unwrap();
    spec(
        &shell,
        "link.spec",
        r#"(copy (src link) (dst /)) (run (shell "ls -l /link"))"#,
    );
    let said = run(&shell, "build -f link.spec --store=STORE context");
    assert!(said.contains("/link -> /etc/shadow"), "{said}");
}
