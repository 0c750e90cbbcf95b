//! What a step sees in its sandbox, and how it ends by itself, with a real runtime.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod sandbox_support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::sync::Arc;

use bstr::BString;
use ocluster_obuilder::Rootfs;
use ocluster_obuilder::sandbox::{
    CacheMount, Ended, Network, SandboxError, Seccomp, SecretFile, Step,
};
use sandbox_support::{Bench, files, read};
use zeroize::Zeroizing;

#[tokio::test]
async fn a_step_prints_to_the_log_and_ends_with_its_code() {
    let bench = Bench::new().await;
    let outcome = bench.sh("echo out; echo err >&2; exit 3").await;
    assert_eq!(outcome.ended(), Ended::Exited(3));
    let mut lines: Vec<_> = outcome.text().lines().map(str::to_owned).collect();
    lines.sort();
    assert_eq!(lines, ["err", "out"]);
    assert_eq!(bench.sh("exit 0").await.ended(), Ended::Exited(0));
    assert_eq!(bench.sh("exit 255").await.ended(), Ended::Exited(255));
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_part_of_a_step_that_is_killed_gives_the_shells_code() {
    let bench = Bench::new().await;
    let outcome = bench.sh("sh -c 'kill -9 $$'; exit $?").await;
    assert_eq!(outcome.ended(), Ended::Exited(137));
    let outcome = bench.sh("sh -c 'kill -15 $$'; exit $?").await;
    assert_eq!(outcome.ended(), Ended::Exited(143));
    bench.close();
}

#[tokio::test]
async fn a_step_has_the_environment_it_was_given_and_a_home() {
    let bench = Bench::new().await;
    let mut step = bench.step("");
    // A shell would pass on only what it understands.
    step.argv = vec!["env".into()];
    step.env.push(("A".into(), "x y\n\"z\"".into()));
    step.env.push(("É".into(), "ü".into()));
    let text = bench.run(step).await.succeeded();
    assert!(text.contains("A=x y\n\"z\"\n"), "{text}");
    assert!(text.contains("É=ü\n"), "{text}");
    assert!(text.contains("HOME=/root\n"), "{text}");
    assert!(!text.contains("CARGO"), "{text}");
    let mut step = bench.step("echo $HOME");
    step.user = (1000, 1000);
    assert_eq!(bench.run(step).await.succeeded(), "/home/opam\n");
    bench.close();
}

#[tokio::test]
async fn the_working_directory_is_made_if_it_is_missing() {
    let bench = Bench::new().await;
    let mut step = bench.step("pwd");
    step.cwd = "/a/b c/é".into();
    assert_eq!(bench.run(step).await.succeeded(), "/a/b c/é\n");
    let made = fs::metadata(bench.rootfs().join("a/b c/é")).unwrap();
    assert_eq!((made.uid(), made.mode() & 0o777), (0, 0o755));
    bench.close();
}

#[tokio::test]
async fn a_step_runs_as_its_user_with_the_builders_name_and_an_empty_input() {
    let bench = Bench::new().await;
    let mut step = bench.step("id -u; id -g; hostname; cat; cat /etc/hosts");
    step.user = (1234, 567);
    let text = bench.run(step).await.succeeded();
    assert_eq!(text, "1234\n567\nbuilder\n127.0.0.1 localhost builder");
    bench.close();
}

#[tokio::test]
async fn without_a_network_there_is_only_a_loopback_device_which_is_up() {
    let bench = Bench::new().await;
    let text = bench
        .sh("ls /sys/class/net; ip addr show lo")
        .await
        .succeeded();
    assert!(text.starts_with("lo\n"), "{text}");
    assert!(text.contains("UP"), "{text}");
    assert!(!bench.rootfs().join("etc/resolv.conf").exists());
    bench.close();
}

#[tokio::test]
async fn with_the_machines_network_a_step_sees_its_devices_and_its_resolver() {
    let bench = Bench::new().await;
    let mut step = bench.step("ls /sys/class/net; echo --; cat /etc/resolv.conf");
    step.network = Network::Host;
    let text = bench.run(step).await.succeeded();
    let (devices, resolver) = text.split_once("--\n").unwrap();
    let mut expected: Vec<_> = fs::read_dir("/sys/class/net")
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    expected.sort();
    assert!(devices.lines().any(|device| device == "lo"));
    // Other tests make and remove devices: those that stay are seen.
    assert!(
        expected
            .iter()
            .any(|device| devices.lines().any(|seen| seen == device)),
        "{devices}"
    );
    assert_eq!(resolver, read("/etc/resolv.conf".as_ref()));
    let mut step = bench.step("echo nameserver 1.2.3.4 >/etc/resolv.conf");
    step.network = Network::Host;
    assert_ne!(bench.run(step).await.ended(), Ended::Exited(0));
    bench.close();
}

#[tokio::test]
async fn images_whose_resolv_conf_leads_nowhere_have_a_resolver() {
    for target in [
        "../run/systemd/resolve/stub-resolv.conf",
        "/run/systemd/resolve/stub-resolv.conf",
        "../../../../../../nowhere",
    ] {
        let bench = Bench::new().await;
        symlink(target, bench.rootfs().join("etc/resolv.conf")).unwrap();
        let mut step = bench.step("cat /etc/resolv.conf");
        step.network = Network::Host;
        let text = bench.run(step).await.succeeded();
        assert_eq!(text, read("/etc/resolv.conf".as_ref()), "{target}");
        let link = fs::read_link(bench.rootfs().join("etc/resolv.conf")).unwrap();
        assert_eq!(link.to_str(), Some(target), "the image was changed");
        bench.close();
    }
}

#[tokio::test]
async fn an_image_without_etc_has_hosts_and_a_resolver() {
    let bench = Bench::new().await;
    fs::remove_dir_all(bench.rootfs().join("etc")).unwrap();
    let mut step = bench.step("cat /etc/hosts; echo; cat /etc/resolv.conf");
    step.network = Network::Host;
    let text = bench.run(step).await.succeeded();
    assert!(text.starts_with("127.0.0.1 localhost builder\n"), "{text}");
    bench.close();
}

fn with_secret(bench: &Bench, script: &str) -> Step {
    let mut step = bench.step(script);
    step.user = (1000, 1000);
    step.secrets.push(SecretFile {
        value: Zeroizing::new(b"hush-hush-98127".to_vec()),
        target: "/run/secrets/token".into(),
    });
    step.secrets.push(SecretFile {
        value: Zeroizing::new(b"\xff\x00other".to_vec()),
        target: "/etc/other".into(),
    });
    step
}

#[tokio::test]
async fn secrets_are_read_by_the_steps_user_only_and_written_by_nobody() {
    let bench = Bench::new().await;
    let step = with_secret(
        &bench,
        "cat /run/secrets/token; echo; stat -c '%a %u %g' /run/secrets/token; od -An -tx1 /etc/other",
    );
    let text = bench.run(step).await.succeeded();
    assert_eq!(
        text,
        "hush-hush-98127\n400 1000 1000\n ff 00 6f 74 68 65 72\n"
    );
    let mut root = with_secret(&bench, "echo x >/run/secrets/token");
    root.user = (0, 0);
    let outcome = bench.run(root).await;
    assert_eq!(outcome.ended(), Ended::Exited(1));
    assert!(outcome.text().contains("Read-only"), "{}", outcome.text());
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn values_of_secrets_are_in_no_layer_on_no_disk_and_in_no_mount_of_the_machine() {
    let bench = Arc::new(Bench::new().await);
    let before = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let step = with_secret(
        &bench,
        "cp /run/secrets/token /dev/shm/; echo ready; sleep 1000",
    );
    let (running, cancel) = bench.start(step, "ready").await;
    let everything = files(bench.path());
    assert!(everything.contains(&bench.rootfs().join("run/secrets/token")));
    for path in &everything {
        // The binary is big, and known.
        if path.is_file() && !path.ends_with("busybox") && !path.is_symlink() {
            let text = read(path);
            assert!(!text.contains("hush-hush"), "in {}", path.display());
        }
    }
    assert_eq!(
        files(&bench.state()).len(),
        2,
        "{:?}",
        files(&bench.state())
    );
    let here = bench.path().to_str().unwrap();
    let now = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!before.contains(here) && !now.contains(here), "{now}");
    cancel.cancel();
    assert_eq!(running.await.unwrap().ended(), Ended::Cancelled);
    let empty = fs::metadata(bench.rootfs().join("run/secrets/token")).unwrap();
    assert_eq!(empty.len(), 0);
    Arc::into_inner(bench).unwrap().close();
}

#[tokio::test]
async fn caches_are_written_where_they_are_and_without_devices() {
    let bench = Bench::new().await;
    let cache = bench.path().join("cache");
    fs::create_dir(&cache).unwrap();
    fs::write(cache.join("old"), "from before").unwrap();
    let mut step = bench.step(
        "cat /var/cache/x/old; echo new >/var/cache/x/new; grep ' /var/cache/x ' /proc/mounts",
    );
    step.caches.push(CacheMount {
        tree: Rootfs::Plain(cache.clone()),
        target: "/var/cache/x".into(),
    });
    let text = bench.run(step).await.succeeded();
    assert!(text.starts_with("from before"), "{text}");
    assert!(text.contains("nosuid") && text.contains("nodev"), "{text}");
    assert!(!text.contains("noexec"), "{text}");
    assert_eq!(read(&cache.join("new")), "new\n");
    assert!(files(&bench.rootfs().join("var/cache/x")).is_empty());
    bench.close();
}

#[tokio::test]
async fn bytes_that_are_not_utf_8_are_printed_as_they_are_and_refused_elsewhere() {
    let bench = Bench::new().await;
    let outcome = bench.sh(r"printf '\377\000\200\n'").await;
    assert_eq!(outcome.log, b"\xff\x00\x80\n");
    let mut argument = bench.step("true");
    argument.argv.push(BString::from(&b"\xff"[..]));
    let mut value = bench.step("true");
    value.env.push(("A".into(), b"\xff"[..].into()));
    let mut nul = bench.step("true");
    nul.argv.push("a\0b".into());
    for step in [argument, value, nul] {
        let outcome = bench.run(step).await;
        assert!(
            matches!(outcome.error(), SandboxError::Request(_)),
            "{outcome:?}"
        );
        assert!(outcome.log.is_empty());
    }
    bench.close();
}

#[tokio::test]
async fn a_program_that_the_image_lacks_is_the_steps_failure_in_the_runtimes_words() {
    let bench = Bench::new().await;
    let mut step = bench.step("");
    step.argv = vec![
        "/usr/bin/env".into(),
        "bash".into(),
        "-c".into(),
        "true".into(),
    ];
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::Exited(1));
    assert!(
        outcome.text().contains("/usr/bin/env"),
        "{}",
        outcome.text()
    );
    let mut step = bench.step("");
    step.argv = vec!["nonesuch".into()];
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::Exited(1));
    assert!(
        outcome.text().contains("executable file not found"),
        "{}",
        outcome.text()
    );
    let mut step = bench.step("");
    step.argv = vec!["/etc/passwd".into()];
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::Exited(1));
    let mut step = bench.step("true");
    step.cwd = "/etc/passwd".into();
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::Exited(1), "{}", outcome.text());
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn an_image_without_shell_and_users_runs_what_it_has() {
    let bench = Bench::new().await;
    let empty = bench.path().join("empty");
    fs::create_dir(&empty).unwrap();
    fs::copy(bench.rootfs().join("bin/busybox"), empty.join("echo")).unwrap();
    let mut step = bench.step("");
    step.rootfs = Rootfs::Plain(empty);
    step.argv = vec!["/echo".into(), "hello".into()];
    step.user = (4242, 4242);
    assert_eq!(bench.run(step).await.succeeded(), "hello\n");
    bench.close();
}

/// `fsync` of a device is an error, unless nobody asks the device.
const SYNC_A_DEVICE: &str = "dd if=/dev/zero of=/dev/null count=1 conv=fsync 2>&1";

#[tokio::test]
async fn with_fast_sync_nothing_waits_for_the_disk() {
    let slow = Bench::new().await;
    assert_eq!(slow.sh(SYNC_A_DEVICE).await.ended(), Ended::Exited(1));
    slow.close();
    let fast = Bench::with(|config| config.fast_sync = true).await;
    fast.sh(SYNC_A_DEVICE).await.succeeded();
    fast.sh("sync && grep '^Seccomp:.*2' /proc/self/status")
        .await
        .succeeded();
    fast.close();
}

#[tokio::test]
async fn guarded_steps_leave_namespaces_as_they_are() {
    let open = Bench::new().await;
    let script = "unshare -U true";
    open.sh(script).await.succeeded();
    open.close();
    let guarded = Bench::with(|config| config.seccomp = Seccomp::Guarded).await;
    let outcome = guarded.sh(script).await;
    assert_eq!(outcome.ended(), Ended::Exited(1));
    assert!(
        outcome.text().contains("not permitted"),
        "{}",
        outcome.text()
    );
    guarded.close();
}

#[tokio::test]
async fn a_step_sees_no_process_no_group_and_no_device_of_the_machine() {
    let bench = Bench::new().await;
    let text = bench
        .sh("ls /proc | grep -c '^[0-9]*$'; cat /proc/self/cgroup; ls /dev | tr '\\n' ' '; grep CapInh /proc/self/status")
        .await
        .succeeded();
    let processes: u32 = text.lines().next().unwrap().parse().unwrap();
    assert!(processes < 6, "{text}");
    assert!(!text.contains("obuilder"), "{text}");
    assert!(!text.contains("vda") && !text.contains("loop"), "{text}");
    assert!(text.contains("CapInh:\t0000000000000000"), "{text}");
    bench.close();
}

#[tokio::test]
async fn what_goes_on_in_the_background_ends_with_the_step() {
    let bench = Bench::new().await;
    let script = "(setsid sh -c 'echo late; sleep 1000' &) ; sleep 0.1; echo done";
    let text = bench.sh(script).await.succeeded();
    assert!(text.contains("done"), "{text}");
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn all_that_was_printed_before_the_end_is_in_the_log() {
    let bench = Bench::new().await;
    let outcome = bench
        .sh("yes 0123456789abcde | head -c 3000000; exit 4")
        .await;
    assert_eq!(outcome.ended(), Ended::Exited(4));
    assert_eq!(outcome.log.len(), 3_000_000);
    let whole = outcome
        .log
        .chunks(16)
        .all(|line| line == b"0123456789abcde\n");
    assert!(whole, "the output is not in order");
    bench.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_steps_at_once_do_not_meet() {
    let bench = Arc::new(Bench::new().await);
    let steps = (0..20).map(|n| {
        let bench = Arc::clone(&bench);
        tokio::spawn(async move {
            let mut step = bench.step("cat /run/s; sleep 0.2; exit $N");
            step.env.push(("N".into(), n.to_string().into()));
            step.secrets.push(SecretFile {
                value: Zeroizing::new(n.to_string().into_bytes()),
                target: "/run/s".into(),
            });
            let outcome = bench.run(step).await;
            assert_eq!(outcome.ended(), Ended::Exited(n));
            assert_eq!(outcome.text(), n.to_string());
        })
    });
    for step in steps.collect::<Vec<_>>() {
        step.await.unwrap();
    }
    bench.nothing_left();
    Arc::into_inner(bench).unwrap().close();
}
