//! Builds with BuildKit on the machine's real engine: what they do, and what their log says.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod docker_support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use docker_support::private::PrivateEngine;
use docker_support::{BASE, Job, engine, nonce, with_buildkit};
use ocluster_api::Dockerfile;
use ocluster_worker::executor::docker::BuildLimits;
use ocluster_worker::executor::{Cause, DockerConfig, DockerExecutor, Failure, Outcome};

fn succeeded() -> Outcome {
    Outcome::Succeeded {
        output: String::new(),
    }
}

/// The failure of a build that the engine ended.
fn failed() -> Outcome {
    Failure::build("docker-build failed with exit-code 1").into()
}

/// The lines of the step that the log calls `name`, from its name on, without its number, and times made the same.
fn lines_of(log: &str, name: &str) -> Vec<String> {
    let named = log.lines().find_map(|line| {
        line.split_once(' ')
            .filter(|(_, rest)| rest.starts_with(name))
    });
    let (number, _) = named.unwrap_or_else(|| panic!("no step {name}:\n{log}"));
    let lines = log
        .lines()
        .filter_map(|line| line.strip_prefix(number)?.strip_prefix(' '));
    let without_times = |line: &str| {
        let words = line.split(' ').map(|word| {
            let time = word.strip_suffix('s').unwrap_or(word);
            if time.contains('.') && time.parse::<f64>().is_ok() {
                word.replace(time, "T")
            } else if word.starts_with("sha256:") {
                "<id>".to_owned()
            } else {
                word.to_owned()
            }
        });
        words.collect::<Vec<_>>().join(" ")
    };
    lines.map(without_times).collect()
}

/// What the step that the log calls `name` printed.
fn printed_by(log: &str, name: &str) -> Vec<String> {
    let lines = lines_of(log, name).into_iter();
    lines
        .filter_map(|line| line.strip_prefix("T ").map(str::to_owned))
        .collect()
}

/// The id of the image that a build has written.
fn image_in(log: &str) -> &str {
    let (_, rest) = log.split_once("writing image ").unwrap();
    rest.split(' ').next().unwrap()
}

#[tokio::test]
async fn the_log_reads_as_docker_build_prints_it_plainly() {
    needs_docker!("the_log_reads_as_docker_build_prints_it_plainly");
    let (executor, docker) = engine().await;
    let steps = "RUN echo out; printf 'no line end'\nRUN echo err >&2";
    let (outcome, log) = with_buildkit(Job::fresh(steps)).run(&executor).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert!(log.starts_with("#1 [internal] load "), "{log}");
    for name in [
        "[internal] load build definition from Dockerfile",
        &format!("[internal] load metadata for docker.io/{BASE}"),
        "[internal] load build context",
        "[2/4] COPY nonce /nonce",
    ] {
        assert!(
            lines_of(&log, name).contains(&"DONE Ts".to_owned()),
            "{name}:\n{log}"
        );
    }
    let step = "[3/4] RUN echo out; printf 'no line end'";
    assert_eq!(
        lines_of(&log, step),
        [step, "T out", "T no line end", "DONE Ts"]
    );
    let step = "[4/4] RUN echo err >&2";
    assert_eq!(lines_of(&log, step), [step, "T err", "DONE Ts"]);
    assert_eq!(
        lines_of(&log, "exporting to image"),
        [
            "exporting to image",
            "exporting layers Ts done",
            "writing image <id> Ts done",
            "DONE Ts"
        ]
    );
    let order = [
        "RUN echo out",
        " out\n",
        "RUN echo err",
        " err\n",
        "exporting to image",
    ];
    let places: Vec<_> = order.iter().map(|text| log.find(text)).collect();
    assert!(
        places.is_sorted() && places.iter().all(Option::is_some),
        "{log}"
    );
    let image = image_in(&log);
    assert!(docker.inspect_image(image).await.is_ok(), "{image}");
}

#[tokio::test]
async fn what_was_built_before_is_not_built_again() {
    needs_docker!("what_was_built_before_is_not_built_again");
    let (executor, _) = engine().await;
    let nonce = nonce();
    let run = async || {
        let job = Job::new(format!("FROM {BASE}\nCOPY nonce /nonce\nRUN echo once\n"));
        with_buildkit(job.with_file("nonce", &nonce))
            .run(&executor)
            .await
    };
    let (outcome, log) = run().await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert_eq!(printed_by(&log, "[3/3] RUN echo once"), ["once"]);
    let (outcome, log) = run().await;
    assert_eq!(outcome, succeeded(), "{log}");
    let step = "[3/3] RUN echo once";
    assert_eq!(lines_of(&log, step), [step, "CACHED"]);
}

#[tokio::test]
async fn a_failed_step_is_named_with_its_exit_code() {
    needs_docker!("a_failed_step_is_named_with_its_exit_code");
    let (executor, _) = engine().await;
    let job = Job::fresh("RUN echo oh dear; exit 7\nRUN echo never");
    let (outcome, log) = with_buildkit(job).run(&executor).await;
    assert_eq!(outcome, failed(), "{log}");
    assert_eq!(printed_by(&log, "[3/4] RUN"), ["oh dear"]);
    let error = log.lines().find(|line| line.contains(" ERROR: ")).unwrap();
    assert!(
        error.contains("[/bin/sh -c echo oh dear; exit 7]") && error.ends_with("exit code: 7"),
        "{log}"
    );
    let last = log.lines().last().unwrap();
    assert!(
        !last.starts_with('#') && last.ends_with("exit code: 7"),
        "{log}"
    );
    assert!(!log.contains("never\n"), "{log}");
}

#[tokio::test]
async fn mistakes_in_a_dockerfile_are_explained() {
    needs_docker!("mistakes_in_a_dockerfile_are_explained");
    let (executor, _) = engine().await;
    let explained = async |dockerfile: &str| {
        let (outcome, log) = with_buildkit(Job::new(dockerfile)).run(&executor).await;
        assert_eq!(outcome, failed(), "{log}");
        log.lines().last().unwrap().to_owned()
    };
    let error = explained(&format!("FROM {BASE}\n\nFORM x\n")).await;
    assert!(
        error.contains("dockerfile parse error line 3: unknown instruction: FORM"),
        "{error}"
    );
    // A registry on the discard port: refused at once, without any network.
    let error = explained("FROM 127.0.0.1:9/nobody/has:this\n").await;
    assert!(
        error.contains("127.0.0.1:9/v2/nobody/has/manifests/this")
            && error.contains("connection refused"),
        "{error}"
    );
    let error = explained(&format!("# syntax=127.0.0.1:9/no/syntax:1\nFROM {BASE}\n")).await;
    assert!(
        error.contains("127.0.0.1:9/v2/no/syntax/manifests/1")
            && error.contains("connection refused"),
        "{error}"
    );
    let error = explained(&format!("FROM {BASE}\nCOPY missing /x\n")).await;
    assert!(error.contains("\"/missing\" not found"), "{error}");
}

#[tokio::test]
async fn build_arguments_arrive_even_without_a_value() {
    needs_docker!("build_arguments_arrive_even_without_a_value");
    let (executor, _) = engine().await;
    let arguments = ["A=x y&z=%", "PATH_LIKE", "HOME", "UNUSED=1"];
    let steps = "ARG A\nARG HOME\nARG PATH_LIKE=default\nRUN echo \"[$A] [$HOME] [$PATH_LIKE]\"";
    let (outcome, log) = with_buildkit(Job::fresh(steps).with_args(arguments))
        .run(&executor)
        .await;
    assert_eq!(outcome, succeeded(), "{log}");
    let home = std::env::var("HOME").unwrap_or_default();
    assert_eq!(
        printed_by(&log, "[3/3] RUN echo"),
        [format!("[x y&z=%] [{home}] [default]")]
    );
}

#[tokio::test]
async fn a_dockerfile_from_a_path_is_used_and_a_bad_path_is_refused() {
    needs_docker!("a_dockerfile_from_a_path_is_used_and_a_bad_path_is_refused");
    let (executor, _) = engine().await;
    let job = |path: &str| {
        let dockerfile = format!(
            "FROM {BASE}\nCOPY . /ctx\nRUN echo {}; find /ctx | sort\n",
            nonce()
        );
        let mut job = Job::new("")
            .with_file("Dockerfile", "FROM the-wrong-one\n")
            .with_file("sub/Web.Dockerfile", dockerfile)
            .with_file("sub/Web.Dockerfile.dockerignore", "sub\nDockerfile\n")
            .with_file(".dockerignore", "kept\n")
            .with_file("kept", "");
        job.build.dockerfile = Dockerfile::Path(path.to_owned());
        with_buildkit(job)
    };
    let (outcome, log) = job("sub/Web.Dockerfile").run(&executor).await;
    assert_eq!(outcome, succeeded(), "{log}");
    // The rules beside the Dockerfile hold, not the context's.
    assert_eq!(
        printed_by(&log, "[3/3] RUN echo")[1..],
        ["/ctx", "/ctx/.dockerignore", "/ctx/kept"]
    );
    let (outcome, log) = job("sub/missing").run(&executor).await;
    assert_eq!(
        outcome,
        Failure::request("\"missing\" does not exist (in sub/missing)").into()
    );
    assert_eq!(log, "");
}

/// The lines that a step prints with the classic builder and with BuildKit, for the same context.
async fn with_both_builders(step: &str, make: impl Fn() -> Job) -> [Vec<String>; 2] {
    let (executor, _) = engine().await;
    let marked = |lines: Vec<String>| {
        let inside = lines.into_iter().skip_while(|line| line != "<<<").skip(1);
        inside.take_while(|line| line != ">>>").collect::<Vec<_>>()
    };
    let (outcome, log) = make().run(&executor).await;
    assert_eq!(outcome, succeeded(), "{log}");
    let classic = marked(log.lines().map(str::to_owned).collect());
    let (outcome, log) = with_buildkit(make()).run(&executor).await;
    assert_eq!(outcome, succeeded(), "{log}");
    [classic, marked(printed_by(&log, step))]
}

#[tokio::test]
async fn what_dockerignore_keeps_out_is_the_same_with_both_builders() {
    needs_docker!("what_dockerignore_keeps_out_is_the_same_with_both_builders");
    for rules in [
        "a\n!a/b/x.log\n!a/b/c\n",
        "*\n!a\n!b/*.txt\n",
        "**/*.log\n!a/b/x.log\nDockerfile\n",
    ] {
        let [classic, buildkit] = with_both_builders("[4/4] RUN echo", || {
            let mut job = Job::fresh("COPY . /ctx/\nRUN echo '<<<'; find /ctx | sort; echo '>>>'")
                .with_file(".dockerignore", format!("{rules}!nonce\n"));
            for file in [
                "x.log",
                "a/x.log",
                "a/x.txt",
                "a/b/x.log",
                "a/b/x.txt",
                "a/b/c/x.txt",
                "b/x.log",
                "b/y.txt",
            ] {
                job = job.with_file(file, file);
            }
            job
        })
        .await;
        assert!(classic.contains(&"/ctx/nonce".to_owned()), "{classic:?}");
        assert_eq!(buildkit, classic, "{rules}");
    }
}

#[tokio::test]
async fn names_modes_and_links_arrive_the_same_with_both_builders() {
    needs_docker!("names_modes_and_links_arrive_the_same_with_both_builders");
    let [classic, buildkit] = with_both_builders("[4/4] RUN echo", || {
        let job = Job::fresh(
            "COPY . /ctx/\nRUN echo '<<<'; cd /ctx && find . -exec stat -c '%a %u %g %s %F %N' {} + | sort | od -c; echo '>>>'",
        );
        let root = job.context.path();
        let long = "n".repeat(220);
        for name in ["new\nline", "-rf", " space ", "quo'te\"", "\u{e9}\u{1f600}", &long] {
            std::fs::write(root.join(name), name).unwrap();
            std::fs::set_permissions(root.join(name), std::fs::Permissions::from_mode(0o640)).unwrap();
            std::os::unix::fs::chown(root.join(name), Some(1234), Some(5678)).unwrap();
        }
        std::fs::create_dir_all(root.join(format!("{long}-1/{long}-2"))).unwrap();
        symlink("../..//./nowhere", root.join("dangling")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink(format!("{long}/{long}"), root.join("far")).unwrap();
        job.with_file("same-length-nonce", "0")
    })
    .await;
    assert!(classic.len() > 20, "{classic:?}");
    assert_eq!(buildkit, classic);
}

#[tokio::test]
async fn programs_keep_whose_rights_they_run_with() {
    needs_docker!("programs_keep_whose_rights_they_run_with");
    let (executor, _) = engine().await;
    let modes = [("empty", 0o600), ("setgid", 0o2755), ("setuid", 0o4755)];
    let job = Job::fresh("COPY . /ctx/\nRUN stat -c '%a %n' /ctx/[es]*");
    for (name, mode) in modes {
        let path = job.context.path().join(name);
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let (outcome, log) = with_buildkit(job).run(&executor).await;
    assert_eq!(outcome, succeeded(), "{log}");
    let expected = modes.map(|(name, mode)| format!("{mode:o} /ctx/{name}"));
    assert_eq!(printed_by(&log, "[4/4] RUN stat"), expected);
}

#[tokio::test]
async fn a_name_that_buildkit_cannot_take_is_explained() {
    needs_docker!("a_name_that_buildkit_cannot_take_is_explained");
    let (executor, _) = engine().await;
    let job = Job::fresh("COPY . /ctx/");
    let name = std::ffi::OsStr::from_bytes(b"bad\xff");
    std::fs::write(job.context.path().join(name), "").unwrap();
    let (outcome, log) = with_buildkit(job).run(&executor).await;
    let Outcome::Failed(Failure { cause, message }) = outcome else {
        panic!("{outcome:?}\n{log}")
    };
    assert_eq!(cause, Cause::Request);
    assert_eq!(
        message,
        "cannot send \"bad\\xFF\" of the build context to the Docker engine: \
         BuildKit takes only names in UTF-8; the classic builder takes any"
    );
}

/// Set for the process that sends the big context.
const BIG_CONTEXT: &str = "OCLUSTER_TEST_SENDS_A_BIG_CONTEXT";

#[tokio::test]
async fn a_big_context_is_streamed_and_not_held_in_memory() {
    needs_docker!("a_big_context_is_streamed_and_not_held_in_memory");
    if std::env::var_os(BIG_CONTEXT).is_none() {
        // Memory is a process's: this one is shared with other tests.
        let output = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "--nocapture",
                "a_big_context_is_streamed_and_not_held_in_memory",
            ])
            .env(BIG_CONTEXT, "1")
            .output()
            .unwrap();
        let stdout = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success() && stdout.contains("sent it all"),
            "{stdout}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        return;
    }
    // What it is sent stays in an engine's cache: this one goes with the test.
    let engine = PrivateEngine::start().await;
    let job = Job::fresh("COPY big /big");
    let big = std::fs::File::create(job.context.path().join("big")).unwrap();
    big.set_len(200 << 20).unwrap();
    let before = peak_memory();
    let (outcome, log) = with_buildkit(job).run(&engine.executor()).await;
    assert_eq!(outcome, succeeded(), "{log}");
    let image = image_in(&log);
    let size = engine.docker().inspect_image(image).await.unwrap().size;
    assert!(size > Some(200 << 20), "{size:?}");
    let grown = peak_memory() - before;
    assert!(grown < 32 << 20, "memory grew by {grown} bytes");
    #[expect(clippy::print_stdout, reason = "the parent reads it")]
    {
        println!("sent it all");
    }
}

/// The most memory that this process has ever had, in bytes.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    line.trim()
        .strip_suffix(" kB")
        .unwrap()
        .parse::<u64>()
        .unwrap()
        * 1024
}

async fn with_limits(limits: BuildLimits, step: &str) -> (Outcome, String) {
    let (executor, _) = engine().await;
    let executor = DockerExecutor::new(DockerConfig {
        limits,
        ..executor.config().clone()
    });
    with_buildkit(Job::fresh(&format!("RUN {step}")))
        .run(&executor)
        .await
}

#[tokio::test]
async fn limits_that_buildkit_cannot_enforce_are_said_not_to_hold() {
    needs_docker!("limits_that_buildkit_cannot_enforce_are_said_not_to_hold");
    let limits = BuildLimits {
        cpus: Some("1".parse().unwrap()),
        memory: Some("64M".parse().unwrap()),
        network: None,
    };
    let (outcome, log) = with_limits(limits, "true").await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert!(
        log.starts_with(
            "Note: this worker's --build-cpus and --build-memory are not enforced, as Docker's BuildKit cannot; the classic builder can\n#1 "
        ),
        "{log}"
    );
}

#[tokio::test]
async fn steps_are_in_the_network_that_the_worker_names() {
    needs_docker!("steps_are_in_the_network_that_the_worker_names");
    let step = "echo interfaces: $(ls /sys/class/net)";
    let (outcome, log) = with_limits(BuildLimits::default(), step).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert_eq!(printed_by(&log, "[3/3] RUN echo"), ["interfaces: eth0 lo"]);
    let network = |name: &str| BuildLimits {
        network: Some(name.parse().unwrap()),
        ..BuildLimits::default()
    };
    let (outcome, log) = with_limits(network("none"), step).await;
    assert_eq!(outcome, succeeded(), "{log}");
    assert_eq!(printed_by(&log, "[3/3] RUN echo"), ["interfaces: lo"]);
    let (outcome, log) = with_limits(network("ci-network"), step).await;
    let sentence = "this worker runs build steps in the network \"ci-network\", which BuildKit cannot: submit the job without --buildkit";
    assert_eq!(outcome, Failure::request(sentence).into());
    assert_eq!(log, "");
}
