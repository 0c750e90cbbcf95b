//! Images and requests that are not what they should be: the step fails, the machine is left as it is.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod sandbox_support;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use ocluster_obuilder::Rootfs;
use ocluster_obuilder::sandbox::{CacheMount, Ended, Network, SandboxError, SecretFile};
use sandbox_support::{Bench, leftovers, read};
use zeroize::Zeroizing;

#[tokio::test]
async fn links_out_of_the_image_lead_nowhere() {
    let bench = Bench::new().await;
    let outside = bench.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let up = Path::new("../../../../../../../../../..").join(outside.strip_prefix("/").unwrap());
    for (n, target) in [outside.clone(), up].iter().enumerate() {
        let link = format!("link-{n}");
        symlink(target, bench.rootfs().join(&link)).unwrap();
        let mut step = bench.step("echo x >here; pwd -P");
        step.cwd = format!("/{link}/made").into();
        step.secrets.push(SecretFile {
            value: Zeroizing::new(b"s".to_vec()),
            target: format!("/{link}/secret").into(),
        });
        let outcome = bench.run(step).await;
        assert_eq!(outcome.ended(), Ended::Exited(0), "{}", outcome.text());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{target:?}");
    }
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn an_image_whose_system_directories_are_links_fails_by_itself() {
    for place in ["proc", "sys"] {
        let bench = Bench::new().await;
        let outside = bench.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, bench.rootfs().join(place)).unwrap();
        let outcome = bench.sh("true").await;
        assert_eq!(
            outcome.ended(),
            Ended::Exited(1),
            "{place}: {}",
            outcome.text()
        );
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
        bench.nothing_left();
        bench.close();
    }
}

#[tokio::test]
async fn a_target_that_cannot_be_mounted_on_is_the_steps_failure() {
    let bench = Bench::new().await;
    let cache = bench.path().join("cache");
    fs::create_dir(&cache).unwrap();
    for (link, system) in [("p", "/proc"), ("s", "/sys"), ("d", "/dev")] {
        symlink(system, bench.rootfs().join(link)).unwrap();
    }
    for target in [
        "/etc/passwd",
        "/etc/passwd/below",
        "/p/inside",
        "/s/inside",
        "/d/null",
    ] {
        let mut step = bench.step("true");
        step.caches.push(CacheMount {
            tree: Rootfs::Plain(cache.clone()),
            target: target.into(),
        });
        let outcome = bench.run(step).await;
        assert_eq!(
            outcome.ended(),
            Ended::Exited(1),
            "{target}: {}",
            outcome.text()
        );
        assert!(!outcome.log.is_empty());
    }
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_target_that_the_container_has_of_its_own_is_refused_before_it_starts() {
    let bench = Bench::new().await;
    let deep = format!("/{}", "n".repeat(256));
    let far = "/d".repeat(2040);
    for target in ["/proc/inside", "/sys/foo", "/dev/null", &deep, &far] {
        let mut step = bench.step("true");
        step.secrets.push(SecretFile {
            value: Zeroizing::new(b"s".to_vec()),
            target: target.into(),
        });
        let outcome = bench.run(step).await;
        let SandboxError::Request(why) = outcome.error() else {
            panic!("{target}: {outcome:?}");
        };
        assert!(why.starts_with("the target of a secret"), "{why}");
        assert!(!why.contains(&*bench.path().to_string_lossy()), "{why}");
    }
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_resolver_that_is_a_directory_is_the_steps_failure() {
    let bench = Bench::new().await;
    fs::create_dir(bench.rootfs().join("etc/resolv.conf")).unwrap();
    let mut step = bench.step("true");
    step.network = Network::Host;
    let outcome = bench.run(step).await;
    assert_eq!(outcome.ended(), Ended::Exited(1), "{}", outcome.text());
    bench.close();
}

#[tokio::test]
async fn a_command_that_no_program_can_take_fails_and_a_long_one_runs() {
    let bench = Bench::new().await;
    let text = bench
        .sh(&format!("echo {} | wc -c", "x".repeat(100_000)))
        .await
        .succeeded();
    assert_eq!(text, "100001\n");
    let outcome = bench.sh(&format!(": {}", "x".repeat(300_000))).await;
    assert_eq!(outcome.ended(), Ended::Exited(1), "{}", outcome.text());
    assert!(
        outcome.text().contains("argument list too long"),
        "{}",
        outcome.text()
    );
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn a_step_cannot_leave_its_tree_or_reach_the_machines_groups() {
    let bench = Bench::new().await;
    let text = bench
        .sh("cd /; cd ..; cd ../..; ls -d /bin/busybox; mkdir /sys/fs/cgroup/pids/x 2>&1; mkdir /sys/fs/cgroup/x 2>&1; mknod /dev/kmem c 1 2 && cat /dev/kmem 2>&1; true")
        .await
        .succeeded();
    assert!(text.starts_with("/bin/busybox\n"), "{text}");
    assert!(
        text.contains("Read-only") || text.contains("No such file"),
        "{text}"
    );
    assert!(text.contains("Operation not permitted"), "{text}");
    bench.nothing_left();
    bench.close();
}

/// A small filesystem, unmounted when it is dropped.
struct Small(PathBuf);

impl Small {
    fn new(at: PathBuf) -> Self {
        fs::create_dir(&at).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=16m,nr_inodes=1000", "small"])
            .arg(&at)
            .status()
            .unwrap();
        assert!(mounted.success(), "mounting needs root");
        Self(at)
    }

    fn fill(&self) {
        for n in 0.. {
            if fs::write(self.0.join(format!("filler-{n}")), "").is_err() {
                return;
            }
        }
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_told_apart_in_the_words_of_the_real_runtime() {
    let bench = Bench::new().await;
    let small = Small::new(bench.path().join("small"));
    sandbox_support::make_image(&small.0);
    small.fill();
    let mut step = bench.step("true");
    step.rootfs = Rootfs::Plain(small.0.clone());
    step.secrets.push(SecretFile {
        value: Zeroizing::new(b"s".to_vec()),
        target: "/new/place".into(),
    });
    let outcome = bench.run(step).await;
    let SandboxError::Machine { message, full_disk } = outcome.error() else {
        panic!("{outcome:?}");
    };
    assert!(*full_disk, "{message}");
    drop(small);
    bench.nothing_left();
    bench.close();
}

#[tokio::test]
async fn what_was_not_there_when_it_began_is_not_there_afterwards() {
    let bench = Bench::new().await;
    let mut step = bench.step("umask; ulimit -n; touch /a; ls -l /a | cut -c1-10");
    step.user = (0, 0);
    let text = bench.run(step).await.succeeded();
    assert_eq!(text, "0022\n1024\n-rw-r--r--\n");
    // Only what runtimes make as places for mounts, and what the step made.
    let mut made: Vec<_> = fs::read_dir(bench.rootfs())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    made.sort();
    assert_eq!(
        made,
        ["a", "bin", "dev", "etc", "proc", "root", "sys", "tmp"]
    );
    assert_eq!(read(&bench.rootfs().join("etc/hosts")), "");
    let left = leftovers(bench.path());
    assert!(
        left.iter().all(|trace| trace.starts_with("empty group")),
        "{left:?}"
    );
    bench.close();
}
