//! Builds step by step: what is told, what is shared between builds, and what a cancelled build leaves to others. OBuilder's own
//! scenarios, and a few of ours.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod build_support;

use build_support::{Bench, Recorder, Setup, numbered, open, secrets, within};
use jiff::Timestamp;
use ocluster_obuilder::build::{BuildError, BuilderOptions};
use ocluster_obuilder::image::PullPolicy;
use ocluster_obuilder::sandbox::{Ended, Limits, Network, SandboxError};
use ocluster_obuilder::{StepId, store::StoreError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const A: &str = "((from base) (run (shell A)))";
const AB: &str = "((from base) (run (shell A)) (run (shell B)))";
const AC: &str = "((from base) (run (shell A)) (run (shell C)))";

fn text(error: &BuildError) -> String {
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn simple() {
    let mut bench = Bench::new().await;
    let spec = "((from base) (comment hello) (workdir src) (env X y) (run (shell \"append it\")))";
    let build = bench.start(spec);
    let call = bench.expect("append it").await;
    let base = call
        .step
        .rootfs
        .with(|root| std::fs::read_to_string(root.join("base")).unwrap())
        .await
        .unwrap();
    assert_eq!(base, "sha256:one");
    assert_eq!(call.step.argv, ["/bin/sh", "-c", "append it"]);
    assert_eq!(call.step.cwd, "/src");
    let env: Vec<String> = call
        .step
        .env
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(env, ["X=y", "PATH=/bin"]);
    assert_eq!(call.step.user, (0, 0));
    assert_eq!(call.step.network, Network::None);
    call.write("output", "runner").await;
    call.print("it runs\n").await;
    call.exit(0);
    let (result, log) = build.done().await;
    assert_eq!(bench.read(&result.layer, "output").await.unwrap(), "runner");
    assert_eq!(
        numbered(&log),
        "(from base)\n\
         fetching base\nbase is sha256:one\n\
         ;---> saved as \"1\"\n\
         /: (comment hello)\n\
         /: (workdir src)\n\
         /src: (env X y)\n\
         /src: (run (shell \"append it\"))\n\
         it runs\n\
         ;---> saved as \"2\"\n"
    );

    let (again, cached) = bench.start(spec).done().await;
    assert_eq!(again.id, result.id);
    assert_eq!(
        cached,
        log.replace("---> saved as", "---> using")
            .replace("\"\n/", "\" from cache\n/")
            .trim_end_matches('\n')
            .to_owned()
            + " from cache\n"
    );
    bench.expect_nothing();
    let stats = bench.builder.stats();
    assert_eq!((stats.cache_hits, stats.cache_misses), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_those_of_obuilder() {
    let bench = Bench::new().await;
    bench.fetcher.publish("busybox", "bb", &[]);
    let spec = "((from busybox) (shell /bin/sh -c) (run (shell \"echo healthcheck\")))";
    let (result, log) = bench.start(spec).done().await;
    assert_eq!(
        result.id.to_string(),
        "522fb2a0e81ba278bc1ae7314bd754201505e6493f4f2f40a166c416624a4005"
    );
    assert!(log.contains("9d75f0d7c398df565d7ac04c6819b62d6d8f9560f5eb4672596ecd8f7e96ae91"));
}

#[tokio::test(flavor = "multi_thread")]
async fn prune_takes_what_is_old_and_unused() {
    let bench = Bench::new().await;
    let never = CancellationToken::new();
    let before = Timestamp::now();
    let spec = "((from base) (run (shell \"echo A\")))";
    let (result, _) = bench.start(spec).done().await;
    let id = result.id;
    drop(result);
    // Not what was used since.
    let pruned = bench.builder.prune(before, 10, &never).await.unwrap();
    assert_eq!(pruned.layers, 0);
    let (_, log) = bench.start(spec).done().await;
    assert!(!log.contains("saved"), "{log}");
    // The step, the base, and the image's layer.
    let later = Timestamp::now() + Duration::from_secs(5);
    let pruned = bench.builder.prune(later, 10, &never).await.unwrap();
    assert_eq!(pruned.layers, 3);
    assert!(!bench.has(id).await);
    let (_, log) = bench.start(spec).done().await;
    assert!(!log.contains("using"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_builds_share_a_step_and_its_log() {
    let mut bench = Bench::new().await;
    let b1 = bench.start(AB);
    let a = bench.expect("A").await;
    a.print("A began\n").await;
    b1.log.wait_for("A began").await;
    let b2 = bench.start(AC);
    // What was printed before is told from the start.
    b2.log.wait_for("A began").await;
    a.print("A goes on\n").await;
    a.write("a", "A").await;
    b1.log.wait_for("A goes on").await;
    b2.log.wait_for("A goes on").await;
    a.exit(0);
    for _ in 0..2 {
        let next = bench.call().await;
        assert!(["B", "C"].contains(&next.command().as_str()));
        let name = next.command();
        next.write("next", &name).await;
        next.exit(0);
    }
    let ((b1, log1), (b2, log2)) = (b1.done().await, b2.done().await);
    for (result, letter) in [(&b1, "B"), (&b2, "C")] {
        assert_eq!(bench.read(&result.layer, "a").await.unwrap(), "A");
        assert_eq!(bench.read(&result.layer, "next").await.unwrap(), letter);
    }
    let step = "/: (run (shell A))\nA began\nA goes on\n;---> saved as \"2\"\n";
    assert!(numbered(&log1).contains(step), "{log1}");
    assert!(numbered(&log2).contains(step), "{log2}");
    assert!(log1.contains("fetching base\nbase is sha256:one\n;---> saved as"));
    assert!(log2.contains("fetching base\nbase is sha256:one\n;---> using"));
    assert_eq!(bench.sandbox.commands.lock().unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_failure() {
    let mut bench = Bench::new().await;
    let b1 = bench.start(AB);
    let a = bench.expect("A").await;
    let b2 = bench.start(AC);
    b2.log.wait_for("(run (shell A))").await;
    a.print("oh\n").await;
    b1.log.wait_for("oh").await;
    b2.log.wait_for("oh").await;
    a.exit(3);
    for build in [b1, b2] {
        let (error, log) = build.failed().await;
        assert_eq!(
            error,
            BuildError::Failed("\"/bin/sh\" \"-c\" \"A\" failed with exit status 3".to_owned())
        );
        assert!(log.ends_with("/: (run (shell A))\noh\n"), "{log}");
    }
    bench.expect_nothing();
    // It is not kept, and neither is what it printed.
    let again = bench.start(A);
    bench.expect("A").await.exit(0);
    let (_, log) = again.done().await;
    assert!(!log.contains("oh"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_failure_2_while_the_second_comes_to_the_log() {
    let mut bench = Bench::new().await;
    for _ in 0..20 {
        let b1 = bench.start(AB);
        let a = bench.expect("A").await;
        let b2 = bench.start(AC);
        // At any moment of the second's start.
        b2.log.wait_for("(from base)").await;
        a.exit(1);
        let (error, _) = b1.failed().await;
        assert_eq!(
            text(&error),
            "\"/bin/sh\" \"-c\" \"A\" failed with exit status 1"
        );
        // Either it shared the failure, or it came after it and runs the step anew.
        let ended = tokio::spawn(b2.end());
        while !ended.is_finished() {
            tokio::select! {
                call = bench.call() => call.exit(1),
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        assert!(ended.await.unwrap().0.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel() {
    let mut bench = Bench::new().await;
    let build = bench.start(A);
    let a = bench.expect("A").await;
    a.print("A began\n").await;
    build.log.wait_for("A began").await;
    build.cancel.cancel();
    // The build ends at once, though its step does not.
    let (error, _) = build.failed().await;
    assert_eq!(error, BuildError::Cancelled);
    a.cancelled().await;
    a.answer(Ok(Ended::Cancelled));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_2_the_other_sharer_goes_on() {
    let mut bench = Bench::new().await;
    let b1 = bench.start(A);
    let a = bench.expect("A").await;
    a.print("A began\n").await;
    let b2 = bench.start(A);
    b1.log.wait_for("A began").await;
    b2.log.wait_for("A began").await;
    b1.cancel.cancel();
    assert_eq!(b1.failed().await.0, BuildError::Cancelled);
    assert!(!a.cancel.is_cancelled());
    a.exit(0);
    let (_, log) = b2.done().await;
    assert!(log.contains("A began\n;---> saved as"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_3_when_all_sharers_do_the_sandbox_is_told() {
    let mut bench = Bench::new().await;
    let b1 = bench.start(A);
    let a = bench.expect("A").await;
    a.print("A began\n").await;
    let b2 = bench.start(A);
    b2.log.wait_for("A began").await;
    b1.cancel.cancel();
    assert_eq!(b1.failed().await.0, BuildError::Cancelled);
    assert!(!a.cancel.is_cancelled());
    b2.cancel.cancel();
    assert_eq!(b2.failed().await.0, BuildError::Cancelled);
    a.cancelled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_4_of_a_failed_build_does_not_touch_its_replacement() {
    let mut bench = Bench::new().await;
    let gate = CancellationToken::new();
    let slow = Setup {
        log: Recorder::gated(&gate),
        ..Setup::default()
    };
    // The first build's step has failed, but it is still busy with telling so.
    let b1 = bench.start_with(A, slow);
    let a = bench.expect("A").await;
    a.print("first\n").await;
    a.exit(1);
    let b2 = loop {
        // A newcomer may still share the failure.
        let b2 = bench.start(A);
        tokio::select! {
            call = bench.call() => break (b2, call),
            () = async { while !b2.task.is_finished() { tokio::task::yield_now().await } } => {}
        }
    };
    let (b2, replacement) = b2;
    b1.cancel.cancel();
    assert_eq!(b1.failed().await.0, BuildError::Cancelled);
    let b3 = bench.start(A);
    replacement.print("second\n").await;
    b3.log.wait_for("second").await;
    assert!(!replacement.cancel.is_cancelled());
    replacement.exit(0);
    for build in [b2, b3] {
        let (_, log) = build.done().await;
        assert!(log.contains("second\n;---> saved as"), "{log}");
    }
    bench.expect_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_5_a_newcomer_waits_until_the_cancelled_step_is_over() {
    let mut bench = Bench::new().await;
    let b1 = bench.start(A);
    let a = bench.expect("A").await;
    a.print("first\n").await;
    b1.log.wait_for("first").await;
    b1.cancel.cancel();
    assert_eq!(b1.failed().await.0, BuildError::Cancelled);
    a.cancelled().await;
    let b2 = bench.start(A);
    b2.log
        .wait_for(";Waiting for previous build to finish cancelling\n")
        .await;
    bench.expect_nothing();
    a.answer(Ok(Ended::Cancelled));
    let again = bench.expect("A").await;
    again.print("second\n").await;
    again.exit(0);
    let (_, log) = b2.done().await;
    assert!(log.contains("cancelling\nsecond\n;---> saved as"), "{log}");
    assert!(!log.contains("first"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_cancelling_step_can_be_cancelled() {
    let mut bench = Bench::new().await;
    let b1 = bench.start(A);
    let a = bench.expect("A").await;
    b1.cancel.cancel();
    b1.failed().await;
    a.cancelled().await;
    let b2 = bench.start(A);
    b2.log.wait_for("finish cancelling").await;
    b2.cancel.cancel();
    assert_eq!(b2.failed().await.0, BuildError::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_ends_well_though_it_was_cancelled_is_kept() {
    let mut bench = Bench::new().await;
    let build = bench.start(A);
    let a = bench.expect("A").await;
    build.cancel.cancel();
    build.failed().await;
    a.cancelled().await;
    a.exit(0);
    let (_, log) = bench.start(A).done().await;
    assert!(!log.contains("(run (shell A))\n;---> saved"), "{log}");
    bench.expect_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_dropped_is_cancelled() {
    let mut bench = Bench::new().await;
    let build = bench.start(A);
    let a = bench.expect("A").await;
    build.task.abort();
    a.cancelled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_takes_what_is_built_on_it_along() {
    let bench = Bench::new().await;
    let a = "((from base) (run (shell \"echo A\")))";
    let ab = "((from base) (run (shell \"echo A\")) (run (shell \"echo B\")))";
    let a = bench.start(a).done().await.0.id;
    let (result, first) = bench.start(ab).done().await;
    let b = result.id;
    drop(result);
    let mut removed = Vec::new();
    bench.store.delete(a, |id| removed.push(id)).await.unwrap();
    assert_eq!(removed, [b, a]);
    assert!(!bench.has(a).await && !bench.has(b).await);
    let (again, log) = bench.start(ab).done().await;
    assert_eq!(again.id, b);
    assert_eq!(
        log.matches("saved as").count(),
        2,
        "the base stays, A and B are made again: {log}"
    );
    assert_eq!(first.matches("saved as").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_simple() {
    let mut bench = Bench::new().await;
    let spec = "((from base) (run (secrets (test (target /run/secrets/test)) (test2 (target /run/secrets/test2))) (shell A)))";
    let setup = || Setup {
        secrets: secrets(&[("test", "top secret value"), ("test2", "top secret value2")]),
        ..Setup::default()
    };
    let build = bench.start_with(spec, setup());
    let call = bench.expect("A").await;
    let mut seen: Vec<_> = call
        .step
        .secrets
        .iter()
        .map(|secret| (secret.target.to_string(), secret.value.to_vec()))
        .collect();
    seen.sort();
    let expect = |target: &str, value: &str| (target.to_owned(), value.as_bytes().to_vec());
    assert_eq!(
        seen,
        [
            expect("/run/secrets/test", "top secret value"),
            expect("/run/secrets/test2", "top secret value2")
        ]
    );
    call.exit(0);
    let (result, log) = build.done().await;
    let heading = "/: (run (secrets (test (target /run/secrets/test)) (test2 (target /run/secrets/test2)))\n        (shell A))\n";
    assert!(log.contains(heading), "{log}");
    assert!(!log.contains("top secret"), "{log}");
    // The values count, ...
    let mut other = setup();
    other.secrets = secrets(&[("test", "another"), ("test2", "top secret value2")]);
    let build = bench.start_with(spec, other);
    bench.expect("A").await.exit(0);
    assert_ne!(build.done().await.0.id, result.id);
    // ... and the same ones are found again.
    let (again, _) = bench.start_with(spec, setup()).done().await;
    assert_eq!(again.id, result.id);
    // Nothing of them is in the store.
    let store = bench.root.path().join("store");
    let found = std::process::Command::new("grep")
        .args(["-r", "-l", "top secret"])
        .arg(&store)
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_none_provided() {
    let mut bench = Bench::new().await;
    let spec = "((from base) (run (secrets (test (target /run/secrets/test))) (shell A)))";
    let (error, log) = bench.start(spec).failed().await;
    assert_eq!(
        error,
        BuildError::Failed("Couldn't find value for requested secret 'test'".to_owned())
    );
    assert!(log.trim_end().ends_with("(shell A))"), "{log}");
    bench.expect_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn networks_are_none_and_host() {
    let mut bench = Bench::new().await;
    let build = bench.start("((from base) (run (network host) (shell A)))");
    let call = bench.expect("A").await;
    assert_eq!(call.step.network, Network::Host);
    call.exit(0);
    build.done().await;
    let (error, _) = bench
        .start("((from base) (run (network x) (shell A)))")
        .failed()
        .await;
    assert_eq!(text(&error), "Unsupported network configuration [\"x\"]");
    bench.expect_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_of_a_step_are_told_as_what_they_are() {
    let mut bench = Bench::with(BuilderOptions {
        limits: Limits {
            memory: Some(1 << 30),
            time: Some(Duration::from_secs(7)),
            output: Some(1 << 20),
            ..Limits::default()
        },
        ..BuilderOptions::default()
    })
    .await;
    for (ended, said) in [
        (Ended::Exited(3), "failed with exit status 3"),
        (Ended::Signalled(9), "failed with signal SIGKILL"),
        (
            Ended::OutOfMemory,
            "failed: out of memory (a step may use 1 GiB)",
        ),
        (
            Ended::TimedOut,
            "failed: it took too long (a step may take 7s)",
        ),
        (
            Ended::TooMuchOutput,
            "failed: it printed too much (a step may print 1 MiB)",
        ),
    ] {
        let build = bench.start(A);
        let call = bench.expect("A").await;
        assert_eq!(call.step.limits.memory, Some(1 << 30));
        call.answer(Ok(ended));
        let (error, _) = build.failed().await;
        assert_eq!(
            error,
            BuildError::Failed(format!("\"/bin/sh\" \"-c\" \"A\" {said}"))
        );
    }
    // What the machine cannot do is told apart from what the user asked for.
    for (fault, said) in [
        (
            SandboxError::Request("no such thing".to_owned()),
            BuildError::Failed("no such thing".to_owned()),
        ),
        (
            SandboxError::Machine {
                message: "no runc".to_owned(),
                full_disk: false,
            },
            BuildError::Machine("no runc".to_owned()),
        ),
    ] {
        let build = bench.start(A);
        bench.expect("A").await.answer(Err(fault));
        assert_eq!(build.failed().await.0, said);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_sandbox_ends_all_who_wait() {
    let mut bench = Bench::new().await;
    let b1 = bench.start(A);
    let a = bench.expect("A").await;
    a.print("A began\n").await;
    let b2 = bench.start(A);
    b2.log.wait_for("A began").await;
    a.panic();
    for build in [b1, b2] {
        let (error, log) = build.failed().await;
        assert!(matches!(error, BuildError::Machine(_)), "{error}");
        assert!(log.ends_with("A began\n"), "{log}");
    }
    // The builder still builds.
    let build = bench.start(A);
    bench.expect("A").await.exit(0);
    build.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_are_given_to_the_step_and_keep_what_even_a_failed_one_left() {
    let mut bench = Bench::new().await;
    let spec = |command: &str| {
        format!(
            "((from base) (user (uid 1000) (gid 1001)) (run (cache (a (target /cache/a)) (b (target /cache-b))) (shell {command})))"
        )
    };
    let build = bench.start(&spec("A"));
    let call = bench.expect("A").await;
    assert_eq!(call.step.user, (1000, 1001));
    let targets: Vec<_> = call
        .step
        .caches
        .iter()
        .map(|cache| cache.target.clone())
        .collect();
    assert_eq!(targets, ["/cache/a", "/cache-b"]);
    for cache in &call.step.caches {
        let owner = cache.tree.with(|root| {
            std::fs::write(root.join("kept"), "kept").unwrap();
            let meta = std::fs::metadata(root).unwrap();
            (
                std::os::unix::fs::MetadataExt::uid(&meta),
                std::os::unix::fs::MetadataExt::gid(&meta),
            )
        });
        assert_eq!(owner.await.unwrap(), (1000, 1001));
    }
    call.exit(1);
    build.failed().await;
    let build = bench.start(&spec("B"));
    let call = bench.expect("B").await;
    for cache in &call.step.caches {
        let kept = cache
            .tree
            .with(|root| std::fs::read_to_string(root.join("kept")).unwrap());
        assert_eq!(kept.await.unwrap(), "kept");
    }
    call.exit(0);
    build.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_by_name_are_looked_up_in_the_image() {
    let mut bench = Bench::new().await;
    let spec = "((from base) (run (shell \"write passwd x\")) (run (shell make)) (user (name opam)) (run (shell A)))";
    let build = bench.start(spec);
    let make = bench.expect("make").await;
    let put = make.step.rootfs.with(|root| {
        std::fs::create_dir(root.join("etc")).unwrap();
        std::fs::write(
            root.join("etc/passwd"),
            "opam:x:1234:5678::/home/opam:/bin/sh\n",
        )
        .unwrap();
    });
    put.await.unwrap();
    make.exit(0);
    let call = bench.expect("A").await;
    assert_eq!(call.step.user, (1234, 5678));
    call.exit(0);
    build.done().await;
    let (error, _) = bench
        .start("((from base) (user (uid -1) (gid 0)) (run (shell B)))")
        .failed()
        .await;
    assert!(matches!(error, BuildError::Failed(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_builds_environment_comes_before_the_images_without_removing_anything() {
    let mut bench = Bench::new().await;
    let setup = Setup {
        env: vec![("PATH".into(), "/mine".into()), ("A".into(), "1".into())],
        ..Setup::default()
    };
    let build = bench.start_with("((from base) (run (shell A)))", setup);
    let call = bench.expect("A").await;
    let env: Vec<String> = call
        .step
        .env
        .iter()
        .map(|(k, v)| format!("{k}={v}"))
        .collect();
    assert_eq!(env, ["PATH=/mine", "A=1", "PATH=/bin"]);
    call.exit(0);
    build.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_lines_reach_fast_and_slow_readers_and_those_who_come_late() {
    let mut bench = Bench::new().await;
    let gate = CancellationToken::new();
    let fast = bench.start(A);
    let slow = bench.start_with(
        A,
        Setup {
            log: Recorder::gated(&gate),
            ..Setup::default()
        },
    );
    let call = bench.expect("A").await;
    let mut expected = String::new();
    for line in 0..10_000 {
        let line = format!("this is line {line}\n");
        expected.push_str(&line);
        // A reader who takes nothing at all must not be in the way.
        within(call.log.write(line)).await.unwrap();
    }
    call.exit(0);
    let (_, log) = fast.done().await;
    assert!(log.contains(&expected));
    assert!(!slow.log.text().contains("this is line"));
    gate.cancel();
    let (_, log) = slow.done().await;
    assert!(log.contains(&expected));
    let (_, log) = bench.start(A).done().await;
    assert!(log.contains(&expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_text_is_logged_as_it_is() {
    let mut bench = Bench::new().await;
    let bytes: Vec<u8> = (0..=255).collect();
    let build = bench.start(A);
    let log = build.log.clone();
    let call = bench.expect("A").await;
    call.print(bytes.clone()).await;
    call.exit(0);
    build.done().await;
    assert!(log.bytes().windows(256).any(|window| window == bytes));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_build_touched_stays_until_it_is_over() {
    let mut bench = Bench::new().await;
    let never = CancellationToken::new();
    let spec = "((build s ((from base) (run (shell \"write f stage\")))) \
                (from base) (run (shell A)) (copy (from (build s)) (src f) (dst /f)))";
    let build = bench.start(spec);
    let a = bench.expect("A").await;
    // All of the stage is done.
    build.log.wait_for("finished").await;
    let later = Timestamp::now() + Duration::from_secs(60);
    let pruned = bench.builder.prune(later, 100, &never).await.unwrap();
    assert_eq!(pruned.layers, 0);
    let base = StepId::of_base(b"base");
    let refused: Result<(), StoreError> = bench.store.delete(base, |_| ()).await;
    assert!(refused.is_err());
    a.exit(0);
    let (result, log) = build.done().await;
    assert_eq!(bench.read(&result.layer, "f").await.unwrap(), "stage");
    assert!(!log.contains("using \"2"), "{log}");
    // Now only the result's own chain is held.
    let pruned = bench.builder.prune(later, 100, &never).await.unwrap();
    assert_eq!(pruned.layers, 1, "the stage's step");
    drop(result);
    let pruned = bench.builder.prune(later, 100, &never).await.unwrap();
    assert_eq!(pruned.layers, 4, "copy, A, base, and the image's layer");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_met_with_pruning_and_one_more_attempt() {
    let mut bench = Bench::new().await;
    bench
        .start("((from base) (run (shell \"echo old\")))")
        .done()
        .await;
    let full = || {
        Err(SandboxError::Machine {
            message: "cannot mount: no space left on device".to_owned(),
            full_disk: true,
        })
    };
    let build = bench.start(A);
    let first = bench.expect("A").await;
    first.print("first\n").await;
    first.answer(full());
    let second = bench.expect("A").await;
    second.print("second\n").await;
    second.exit(0);
    let (_, log) = build.done().await;
    assert!(
        log.contains("first\n;the disk is full: removed 1 old results, trying the step again\nsecond\n;---> saved as"),
        "{log}"
    );
    // Whoever finds it later sees what made it.
    let (_, log) = bench.start(A).done().await;
    assert!(
        log.contains("(run (shell A))\nsecond\n;---> using"),
        "{log}"
    );
    // Not a third time.
    let build = bench.start(AB);
    bench.expect("B").await.answer(full());
    bench.expect("B").await.answer(full());
    let (error, _) = build.failed().await;
    let BuildError::Machine(error) = error else {
        panic!("{error}");
    };
    assert!(
        error.starts_with("the disk of the store is full"),
        "{error}"
    );
    bench.expect_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_only_talks_of_a_full_disk_is_not_tried_again() {
    let mut bench = Bench::new().await;
    let build = bench.start(A);
    let call = bench.expect("A").await;
    call.print("cp: No space left on device\n").await;
    call.exit(1);
    let (error, log) = build.failed().await;
    assert!(
        text(&error).ends_with("failed with exit status 1"),
        "{error}"
    );
    assert!(!log.contains("the disk is full"), "{log}");
    bench.expect_nothing();
}

/// On a filesystem of 32 MiB, which only the threads of this test see, and which is gone with them.
#[test]
fn a_step_that_fills_the_disk_gets_the_room_of_old_results() {
    let story = async {
        let mut bench = Bench::at(small_disk(), BuilderOptions::default()).await;
        let megabytes = "x".repeat(18 << 20);
        let old = bench.start(A);
        let call = bench.expect("A").await;
        call.write("old", &megabytes).await;
        call.exit(0);
        old.done().await;
        let build = bench.start("((from base) (run (shell B)))");
        let first = bench.expect("B").await;
        let text = megabytes.clone();
        let put = move |root: &std::path::Path| {
            let written = std::fs::write(root.join("new"), text);
            // As compilers do; otherwise there would be no room for its last words either.
            std::fs::remove_file(root.join("new")).unwrap();
            written
        };
        let error = first.step.rootfs.with(put).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull);
        first
            .print("sh: write error: No space left on device\n")
            .await;
        first.exit(2);
        let second = bench.expect("B").await;
        second.write("new", &megabytes).await;
        second.exit(0);
        let (result, log) = build.done().await;
        assert!(
            log.contains("No space left on device\n;the disk is full: removed 1 old results, trying the step again\n;---> saved"),
            "{log}"
        );
        let kept = bench.read(&result.layer, "new").await.unwrap();
        assert_eq!(kept.len(), megabytes.len());
    };
    let test = std::thread::spawn(move || {
        ocluster_obuilder::unshare_mounts().expect("these tests need root");
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(story);
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

fn small_disk() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    rustix::mount::mount(
        "tmpfs",
        dir.path(),
        "tmpfs",
        rustix::mount::MountFlags::empty(),
        c"size=32m,mode=0755",
    )
    .unwrap();
    dir
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_really_runs_each_time_and_leaves_nothing() {
    let mut bench = Bench::new().await;
    let never = CancellationToken::new();
    let minute = Duration::from_secs(60);
    for times in 1..=2 {
        bench
            .builder
            .healthcheck("base".into(), minute, &never)
            .await
            .unwrap();
        assert_eq!(bench.sandbox.commands.lock().unwrap().len(), times);
    }
    // Also if something left a result.
    let spec = "((from base) (shell /bin/sh -c) (run (shell \"echo healthcheck\")))";
    let id = bench.start(spec).done().await.0.id;
    bench
        .builder
        .healthcheck("base".into(), minute, &never)
        .await
        .unwrap();
    assert_eq!(bench.sandbox.commands.lock().unwrap().len(), 4);
    assert!(!bench.has(id).await);
    assert_eq!(bench.fetcher.fetches(), 1);

    let error = bench
        .builder
        .healthcheck("nothing".into(), minute, &never)
        .await
        .unwrap_err();
    assert!(
        text(&error).starts_with("no image nothing\n(from nothing)"),
        "{error}"
    );
    bench.expect_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_needs_no_registry_after_everything_was_pruned() {
    let bench = Bench::new().await;
    let never = CancellationToken::new();
    let minute = Duration::from_secs(60);
    let check = async |image: &str| {
        bench
            .builder
            .healthcheck(image.into(), minute, &never)
            .await
    };
    let prune = async || {
        let later = Timestamp::now() + Duration::from_secs(60);
        bench.builder.prune(later, 100, &never).await.unwrap();
    };
    check("base").await.unwrap();
    prune().await;
    bench.fetcher.go_away();
    check("base").await.unwrap();
    assert_eq!(bench.fetcher.fetches(), 1);
    // Only the image of the last check is kept.
    bench.fetcher.come_back();
    bench.fetcher.publish("other", "other", &[]);
    check("other").await.unwrap();
    prune().await;
    assert!(!bench.has(StepId::of_base(b"base")).await);
    assert!(bench.has(StepId::of_base(b"other")).await);
    // And nothing of it keeps the store open.
    let Bench {
        builder,
        store,
        root,
        ..
    } = bench;
    drop(store);
    builder.close().await.unwrap();
    open(root.path()).await.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthcheck_that_hangs_times_out() {
    // Its shell is not the sandbox's own, so the fake does not know the command.
    let mut bench = Bench::new().await;
    bench.sandbox.stop_helping();
    let never = CancellationToken::new();
    let builder = bench.builder.clone();
    let check = tokio::spawn(async move {
        let limit = Duration::from_millis(300);
        builder.healthcheck("base".into(), limit, &never).await
    });
    let call = bench.expect("echo healthcheck").await;
    call.cancelled().await;
    let error = within(check).await.unwrap().unwrap_err();
    let BuildError::Machine(error) = error else {
        panic!("{error}")
    };
    assert!(
        error.starts_with("Timeout running healthcheck\n"),
        "{error}"
    );
    assert!(error.contains("echo healthcheck"), "{error}");
}

/// Pull policies other than the default are in `build_images`.
#[tokio::test(flavor = "multi_thread")]
async fn fifty_cached_steps_take_next_to_no_time() {
    let bench = Bench::with(BuilderOptions {
        pull: PullPolicy::Missing,
        ..BuilderOptions::default()
    })
    .await;
    let steps: String = (0..50)
        .map(|step| format!("(run (shell \"echo {step}\"))"))
        .collect();
    let spec = format!("((from base) {steps})");
    bench.start(&spec).done().await;
    let mut times = Vec::new();
    for _ in 0..9 {
        let start = std::time::Instant::now();
        let (_, log) = bench.start(&spec).done().await;
        times.push(start.elapsed());
        assert_eq!(log.matches("from cache").count(), 51);
    }
    times.sort();
    println!("50 cached steps: median {:?}, of {times:?}", times[4]);
    // The best of several: others may be busy on this machine.
    assert!(times[0] < Duration::from_millis(50), "{times:?}");
}
