//! Docker builds on the machine's real engine: what they do, and that their log reads as `docker build`'s does.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use docker_support::{BASE, Job, engine, nonce};
use ocluster_api::Dockerfile;
use ocluster_worker::executor::docker::{BUILT_BY, BuildLimits};
use ocluster_worker::executor::{Cause, DockerConfig, DockerExecutor, Failure, Outcome};

fn succeeded() -> Outcome {
    Outcome::Succeeded {
        output: String::new(),
    }
}

/// What the `docker build` command prints for a directory, and its exit code.
fn docker_command(context: &Path, arguments: &[String]) -> (String, Option<i32>) {
    let output = Command::new("docker")
        // As the executor does: nothing is left of a failed step, and images are labelled.
        .args(["build", "--force-rm"])
        .args(["--label", &format!("{}={}", BUILT_BY.0, BUILT_BY.1)])
        .args(arguments.iter().flat_map(|argument| ["--build-arg", argument]))
        .arg(context)
        .env("DOCKER_BUILDKIT", "0")
        .output()
        .expect("cannot run `docker`: install `docker.io`, or leave these tests out with OCLUSTER_SKIP_DOCKER=1");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    // Newer commands complain about the classic builder first; that is theirs to say, not the build's.
    let stderr = match stderr
        .strip_prefix("DEPRECATED:")
        .and_then(|rest| rest.split_once("\n\n"))
    {
        Some((_, rest)) => rest.to_owned(),
        None => stderr,
    };
    (
        String::from_utf8_lossy(&output.stdout).into_owned() + &stderr,
        output.status.code(),
    )
}

/// The text with what differs from run to run made the same: ids and nonces.
fn without_ids(log: &str) -> String {
    let is_id = |word: &str| {
        let hash = word.strip_prefix("sha256:").unwrap_or(word);
        matches!(hash.len(), 12 | 64) && hash.bytes().all(|b| b.is_ascii_hexdigit())
            || word.len() == 20 && word.bytes().all(|b| b.is_ascii_digit())
    };
    log.split_inclusive([' ', '\n', '\r', '\''])
        .map(|word| {
            let bare = word.trim_end_matches([' ', '\n', '\r', '\'']);
            if is_id(bare) {
                word.replace(bare, "<id>")
            } else {
                word.to_owned()
            }
        })
        .collect()
}

/// Builds the same context with the executor and with the command, each time as if for the first time, and compares.
async fn compare_with_command(job: Job) -> (Outcome, String) {
    let (executor, _) = engine().await;
    let copy = tempfile::TempDir::new().unwrap();
    let copied = Command::new("cp")
        .arg("-aT")
        .args([job.context.path(), copy.path()])
        .status()
        .unwrap();
    assert!(copied.success());
    if let Dockerfile::Contents(contents) = &job.build.dockerfile {
        std::fs::write(copy.path().join("Dockerfile"), contents).unwrap();
    }
    if copy.path().join("nonce").exists() {
        std::fs::write(copy.path().join("nonce"), nonce()).unwrap();
    }
    let arguments = job.build.build_args.clone();
    let (outcome, log) = job.run(&executor).await;
    let (expected, code) = docker_command(copy.path(), &arguments);
    assert_eq!(without_ids(&log), without_ids(&expected));
    match (&outcome, code) {
        (Outcome::Succeeded { .. }, Some(0)) => {}
        (Outcome::Failed(failure), Some(code)) => {
            assert_eq!(
                failure.message,
                format!("docker-build failed with exit-code {code}")
            );
        }
        other => panic!("{other:?}"),
    }
    (outcome, log)
}

#[tokio::test]
async fn the_log_reads_as_docker_build_prints_it() {
    needs_docker!("the_log_reads_as_docker_build_prints_it");
    let steps =
        "ENV A=1\nRUN echo out; printf 'no line end'\nRUN echo err >&2\nRUN seq 1000\nLABEL x=y";
    let (outcome, log) = compare_with_command(Job::fresh(steps)).await;
    assert_eq!(outcome, succeeded());
    assert!(
        log.starts_with("Sending build context to Docker daemon  3.072kB"),
        "{log}"
    );
    assert!(
        log.contains("\nout\nno line endRemoving ")
            && log.contains("err\n")
            && log.contains("\nSuccessfully built "),
        "{log}"
    );
}

#[tokio::test]
async fn a_failed_step_ends_the_build_in_upstream_s_words() {
    needs_docker!("a_failed_step_ends_the_build_in_upstream_s_words");
    let (outcome, log) =
        compare_with_command(Job::fresh("RUN echo oh dear; exit 7\nRUN echo never")).await;
    assert_eq!(
        outcome,
        Failure::build("docker-build failed with exit-code 7").into()
    );
    assert!(log.contains("\noh dear\n"), "{log}");
    assert!(
        log.ends_with(
            "The command '/bin/sh -c echo oh dear; exit 7' returned a non-zero code: 7\n"
        ),
        "{log}"
    );
}

#[tokio::test]
async fn a_dockerfile_that_cannot_be_parsed_is_explained() {
    needs_docker!("a_dockerfile_that_cannot_be_parsed_is_explained");
    let (outcome, log) = compare_with_command(Job::new(format!("FROM {BASE}\n\nFORM x\n"))).await;
    assert_eq!(
        outcome,
        Failure::request("docker-build failed with exit-code 1").into()
    );
    assert!(
        log.ends_with(
            "Error response from daemon: dockerfile parse error line 3: unknown instruction: FORM\n"
        ),
        "{log}"
    );
}

#[tokio::test]
async fn an_image_that_does_not_exist_is_explained() {
    needs_docker!("an_image_that_does_not_exist_is_explained");
    let (executor, _) = engine().await;
    // A registry on the discard port: refused at once, without any network.
    let (outcome, log) = Job::new("FROM 127.0.0.1:9/nobody/has:this\n")
        .run(&executor)
        .await;
    assert_eq!(
        outcome,
        Failure::build("docker-build failed with exit-code 1").into()
    );
    assert!(
        log.contains("Step 1/2 : FROM 127.0.0.1:9/nobody/has:this\n")
            && log.contains("127.0.0.1:9"),
        "{log}"
    );
}

#[tokio::test]
async fn a_dockerfile_from_a_path_is_used_and_a_bad_path_is_refused() {
    needs_docker!("a_dockerfile_from_a_path_is_used_and_a_bad_path_is_refused");
    let (executor, _) = engine().await;
    let job = |path: &str| {
        let mut job = Job::new("").with_file(
            "sub/Web.Dockerfile",
            format!("FROM {BASE}\nRUN echo from the path {}\n", nonce()),
        );
        job.build.dockerfile = Dockerfile::Path(path.to_owned());
        job
    };
    let (outcome, log) = job("sub/Web.Dockerfile").run(&executor).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert!(log.contains("\nfrom the path "), "{log}");
    let (outcome, log) = job("sub/missing").run(&executor).await;
    assert_eq!(
        outcome,
        Failure::request("\"missing\" does not exist (in sub/missing)").into()
    );
    assert_eq!(log, "");
}

#[tokio::test]
async fn build_arguments_arrive_even_without_a_value() {
    needs_docker!("build_arguments_arrive_even_without_a_value");
    let arguments = ["A=x y&z=%", "PATH_LIKE", "HOME", "UNUSED=1"];
    let steps = "ARG A\nARG HOME\nARG PATH_LIKE=default\nRUN echo \"[$A] [$HOME] [$PATH_LIKE]\"";
    let (outcome, log) = compare_with_command(Job::fresh(steps).with_args(arguments)).await;
    assert_eq!(outcome, succeeded());
    let home = std::env::var("HOME").unwrap_or_default();
    assert!(
        log.contains(&format!("\n[x y&z=%] [{home}] [default]\n")),
        "{log}"
    );
    assert!(
        log.contains("[Warning] One or more build-args [UNUSED] were not consumed"),
        "{log}"
    );
}

const IGNORE_FILES: [&str; 10] = [
    "*.log\n!keep.log\n",
    "# comment\n\n  a  \n/b/\n",
    "**/*.log\n!a/b/x.log\n",
    "a\n!a/b/x.log\n!a/b/c\n",
    "*\n!a\n!b/*.txt\n",
    "**\n!**/x.txt\n",
    "a/**\n!a/**/x.txt\n",
    "?\n[k-m]*\n",
    "**.txt\nb/../a/b\n",
    ".dockerignore\nDockerfile\nnonce*\n!nonce\n",
];

#[tokio::test]
async fn what_dockerignore_keeps_out_is_what_the_command_keeps_out() {
    needs_docker!("what_dockerignore_keeps_out_is_what_the_command_keeps_out");
    for rules in IGNORE_FILES {
        let mut job = Job::fresh("COPY . /ctx/\nRUN find /ctx | sort")
            .with_file(".dockerignore", format!("{rules}!nonce\n"));
        for file in [
            "keep.log",
            "x.log",
            "a/x.log",
            "a/x.txt",
            "a/b/x.log",
            "a/b/x.txt",
            "a/b/c/x.txt",
            "b/x.log",
            "b/y.txt",
            "l",
        ] {
            job = job.with_file(file, file);
        }
        let (outcome, log) = compare_with_command(job).await;
        assert_eq!(outcome, succeeded(), "{rules}");
        assert!(log.contains("\n/ctx/nonce\n"), "{rules}: {log}");
    }
}

#[tokio::test]
async fn a_broken_dockerignore_is_explained() {
    needs_docker!("a_broken_dockerignore_is_explained");
    let (executor, _) = engine().await;
    let (outcome, _) = Job::fresh("")
        .with_file(".dockerignore", "a\n[\n")
        .run(&executor)
        .await;
    assert_eq!(
        outcome,
        Failure::request(".dockerignore: syntax error in pattern \"[\"").into()
    );
}

#[tokio::test]
async fn odd_names_modes_and_links_arrive_as_the_command_sends_them() {
    needs_docker!("odd_names_modes_and_links_arrive_as_the_command_sends_them");
    let job = Job::fresh(
        "COPY . /ctx/\nRUN cd /ctx && find . -exec stat -c '%a %u %g %F %N' {} + | sort | od -c",
    );
    let long = "n".repeat(220);
    for name in [
        &b"new\nline"[..],
        b"bad\xff\xfe",
        b"-rf",
        b" space ",
        b"quo'te\"",
        "\u{e9}\u{1f600}".as_bytes(),
        long.as_bytes(),
    ] {
        let path = job.context.path().join(OsStr::from_bytes(name));
        std::fs::write(&path, name).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&path, Some(1234), Some(5678)).unwrap();
    }
    let deep = job.context.path().join(format!("{long}-1/{long}-2"));
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("leaf"), "x").unwrap();
    symlink("../..//./nowhere", job.context.path().join("dangling")).unwrap();
    symlink("/etc/passwd", job.context.path().join("absolute")).unwrap();
    symlink(format!("{long}/{long}"), job.context.path().join("far")).unwrap();
    let setuid = job.context.path().join("setuid");
    std::fs::write(&setuid, "x").unwrap();
    std::fs::set_permissions(&setuid, std::fs::Permissions::from_mode(0o4755)).unwrap();
    let (executor, _) = engine().await;
    let copy = tempfile::TempDir::new().unwrap();
    assert!(
        Command::new("cp")
            .arg("-aT")
            .args([job.context.path(), copy.path()])
            .status()
            .unwrap()
            .success()
    );
    let Dockerfile::Contents(contents) = &job.build.dockerfile else {
        panic!("made from contents")
    };
    std::fs::write(copy.path().join("Dockerfile"), contents).unwrap();
    std::fs::write(copy.path().join("nonce"), nonce()).unwrap();
    let (outcome, log) = job.run(&executor).await;
    assert_eq!(outcome, succeeded(), "{log}");
    let (expected, _) = docker_command(copy.path(), &[]);
    // The first line counts the archive's bytes, which differ: names that are not ASCII have two encodings.
    let steps = |log: &str| without_ids(log.split_once('\n').unwrap().1);
    assert_eq!(steps(&log), steps(&expected));
}

#[tokio::test]
async fn a_big_file_arrives_whole() {
    needs_docker!("a_big_file_arrives_whole");
    let (executor, _) = engine().await;
    let job = Job::fresh("COPY big /big\nRUN stat -c 'size %s' /big");
    std::fs::File::create(job.context.path().join("big"))
        .unwrap()
        .set_len(300 << 20)
        .unwrap();
    let (outcome, log) = job.run(&executor).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert!(
        log.contains("Sending build context to Docker daemon  314.6MB"),
        "{log}"
    );
    assert!(log.contains("\nsize 314572800\n"), "{log}");
}

#[tokio::test]
async fn what_this_worker_does_not_offer_is_refused_with_a_way_out() {
    needs_docker!("what_this_worker_does_not_offer_is_refused_with_a_way_out");
    let (executor, _) = engine().await;
    let refused = async |change: fn(&mut Job)| {
        let mut job = Job::fresh("");
        change(&mut job);
        let (outcome, log) = job.run(&executor).await;
        assert_eq!(log, "");
        match outcome {
            Outcome::Failed(Failure {
                cause: Cause::Request,
                message,
            }) => message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        refused(|job| job.build.push = Some(ocluster_api::Push {
            target: "a:b".parse().unwrap(),
            login: None
        }))
        .await,
        "To allow pushing to this repository, start the worker with --allow-push \"a\""
    );
    assert_eq!(
        refused(|job| {
            job.build.buildkit = true;
            job.build.squash = true;
        })
        .await,
        "BuildKit cannot squash layers: submit the job without --squash, or without --buildkit"
    );
    let secret = |job: &mut Job| {
        let value = ocluster_api::SecretBytes::new(b"x".to_vec());
        job.secrets.push(ocluster_api::Secret {
            id: "x".into(),
            value,
        });
    };
    assert_eq!(
        refused(secret).await,
        "this job has secrets, which only BuildKit can give to build steps: submit it with --buildkit"
    );
    if !executor.health().await.unwrap().experimental {
        assert!(
            refused(|job| job.build.squash = true)
                .await
                .contains("cannot squash layers: submit the job without squash")
        );
    }
}

/// What a build's one step prints between brackets, on a worker with these limits.
async fn step_says(limits: BuildLimits, step: &str) -> (Outcome, String) {
    let (executor, _) = engine().await;
    let executor = DockerExecutor::new(DockerConfig {
        limits,
        ..executor.config().clone()
    });
    Job::fresh(&format!("RUN {step}")).run(&executor).await
}

#[tokio::test]
async fn a_step_that_takes_too_much_memory_is_killed() {
    needs_docker!("a_step_that_takes_too_much_memory_is_killed");
    // The buffer is as large as the block.
    let step = "dd if=/dev/zero of=/dev/null bs=64M count=1 && echo it fits";
    let limits = |memory: &str| BuildLimits {
        memory: Some(memory.parse().unwrap()),
        ..BuildLimits::default()
    };
    let (outcome, log) = step_says(limits("256M"), step).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert!(log.contains("it fits\n"), "{log}");
    let (outcome, log) = step_says(limits("16M"), step).await;
    let killed = Failure::build("docker-build failed with exit-code 137");
    assert_eq!(outcome, killed.into(), "{log}");
}

#[tokio::test]
async fn a_step_gets_the_processor_time_that_it_may_have() {
    needs_docker!("a_step_gets_the_processor_time_that_it_may_have");
    // Where it is depends on the kernel's version of control groups.
    let step = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us || cat /sys/fs/cgroup/cpu.max";
    let limits = BuildLimits {
        cpus: Some("0.75".parse().unwrap()),
        ..BuildLimits::default()
    };
    let (outcome, log) = step_says(limits, step).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert!(
        log.contains("\n75000\n") || log.contains("\n75000 100000\n"),
        "{log}"
    );
}

#[tokio::test]
async fn steps_are_in_the_network_that_the_worker_names() {
    needs_docker!("steps_are_in_the_network_that_the_worker_names");
    let step = "echo interfaces: $(ls /sys/class/net) .";
    let (outcome, log) = step_says(BuildLimits::default(), step).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert!(log.contains("\ninterfaces: eth0 lo .\n"), "{log}");
    let network = |name: &str| BuildLimits {
        network: Some(name.parse().unwrap()),
        ..BuildLimits::default()
    };
    let (outcome, log) = step_says(network("none"), step).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert!(log.contains("\ninterfaces: lo .\n"), "{log}");
    let (outcome, log) = step_says(network("nowhere-at-all"), step).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{log}");
    assert!(log.contains("network nowhere-at-all not found"), "{log}");
}
