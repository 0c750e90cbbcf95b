//! Builds of several stages: what runs at the same time, in which order it is told, and which failure counts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod build_support;

use build_support::{Bench, Recorder, Setup, numbered, within};
use ocluster_obuilder::build::{BuildError, BuilderOptions};
use ocluster_obuilder::sandbox::Ended;
use tokio_util::sync::CancellationToken;

fn stages(parallel_stages: usize) -> BuilderOptions {
    BuilderOptions {
        parallel_stages,
        ..BuilderOptions::default()
    }
}

const THREE: &str = "((build one ((from base) (run (shell A)))) \
                      (build two ((from base) (run (shell B)))) \
                      (from base) (run (shell C)))";

#[tokio::test(flavor = "multi_thread")]
async fn stages_work_together_but_are_told_of_one_after_the_other() {
    let mut bench = Bench::with(stages(3)).await;
    let build = bench.start(THREE);
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(bench.call().await);
    }
    calls.sort_by_key(|call| call.command());
    // In the wrong order: the last first.
    for call in calls.into_iter().rev() {
        call.print(format!("{} runs\n", call.command())).await;
        call.exit(0);
    }
    let (_, log) = build.done().await;
    assert_eq!(
        numbered(&log),
        "(build \"one\" \u{2026})\n\
         (from base)\n\
         fetching base\nbase is sha256:one\n\
         ;---> saved as \"1\"\n\
         /: (run (shell A))\n\
         A runs\n\
         ;---> saved as \"2\"\n\
         ;--> finished \"one\"\n\
         (build \"two\" \u{2026})\n\
         (from base)\n\
         fetching base\nbase is sha256:one\n\
         ;---> saved as \"1\"\n\
         /: (run (shell B))\n\
         B runs\n\
         ;---> saved as \"3\"\n\
         ;--> finished \"two\"\n\
         (from base)\n\
         fetching base\nbase is sha256:one\n\
         ;---> saved as \"1\"\n\
         /: (run (shell C))\n\
         C runs\n\
         ;---> saved as \"4\"\n"
    );
    assert_eq!(bench.fetcher.fetches(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_so_many_stages_work_at_once() {
    let mut bench = Bench::with(stages(2)).await;
    let build = bench.start(THREE);
    let mut calls = vec![bench.call().await, bench.call().await];
    calls.sort_by_key(|call| call.command());
    let commands: Vec<_> = calls.iter().map(|call| call.command()).collect();
    assert_eq!(commands, ["A", "B"]);
    // Nothing can happen before one of them ends.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    bench.expect_nothing();
    calls.pop().unwrap().exit(0);
    bench.expect("C").await.exit(0);
    calls.pop().unwrap().exit(0);
    build.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_at_a_time_is_the_serial_order() {
    let mut bench = Bench::with(stages(1)).await;
    let build = bench.start(THREE);
    for command in ["A", "B", "C"] {
        let call = bench.expect(command).await;
        bench.expect_nothing();
        call.exit(0);
    }
    build.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stage_that_waits_for_another_lets_a_third_work() {
    let mut bench = Bench::with(stages(2)).await;
    let build = bench.start(
        "((build one ((from base) (run (shell A)))) \
          (build two ((from base) (copy (from (build one)) (src f) (dst /)) (run (shell B)))) \
          (from base) (run (shell C)) (copy (from (build two)) (src f) (dst /g)) (run (shell D)))",
    );
    let mut calls = vec![bench.call().await, bench.call().await];
    calls.sort_by_key(|call| call.command());
    // Two waits for one, so the last stage began.
    let [a, c] = <[_; 2]>::try_from(calls).unwrap_or_else(|_| panic!("two calls"));
    assert_eq!((a.command(), c.command()), ("A".to_owned(), "C".to_owned()));
    c.exit(0);
    a.write("f", "from A").await;
    a.exit(0);
    let b = bench.expect("B").await;
    b.write("f", "changed by B").await;
    b.exit(0);
    bench.expect("D").await.exit(0);
    let (result, _) = build.done().await;
    assert_eq!(
        bench.read(&result.layer, "g").await.unwrap(),
        "changed by B"
    );
    assert!(bench.read(&result.layer, "f").await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_stage_leaks_but_its_files() {
    let mut bench = Bench::with(stages(1)).await;
    let build = bench.start(
        "((build one ((from base) (env E one) (user (uid 5) (gid 6)) (workdir /w) (shell /bin/other) \
                      (run (shell A)))) \
          (from base) (run (shell B)))",
    );
    let a = bench.expect("A").await;
    assert_eq!(a.step.user, (5, 6));
    assert_eq!(a.step.cwd, "/w");
    assert_eq!(a.step.argv, ["/bin/other", "A"]);
    assert_eq!(a.step.env[0], ("E".into(), "one".into()));
    a.exit(0);
    let b = bench.expect("B").await;
    assert_eq!(b.step.user, (0, 0));
    assert_eq!(b.step.cwd, "/");
    assert_eq!(b.step.argv, ["/bin/sh", "-c", "B"]);
    assert_eq!(b.step.env, [("PATH".into(), "/bin".into())]);
    b.exit(0);
    build.done().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_stage_stops_the_others_and_is_what_is_reported() {
    let mut bench = Bench::with(stages(3)).await;
    let build = bench.start(THREE);
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(bench.call().await);
    }
    calls.sort_by_key(|call| call.command());
    let [a, b, c] = <[_; 3]>::try_from(calls).unwrap_or_else(|_| panic!("three calls"));
    a.print("A began\n").await;
    build.log.wait_for("A began").await;
    c.print("C began\n").await;
    b.print("B fails\n").await;
    b.exit(7);
    a.cancelled().await;
    c.cancelled().await;
    let (error, log) = build.failed().await;
    assert_eq!(
        error,
        BuildError::Failed("\"/bin/sh\" \"-c\" \"B\" failed with exit status 7".to_owned())
    );
    // What there was of the first, then all of the second, nothing of what comes after it.
    assert!(
        log.contains("A began\n;stopped, since another stage of the build failed\n(build \"two\" \u{2026})\n(from base)\n"),
        "{log}"
    );
    assert!(log.ends_with("(run (shell B))\nB fails\n"), "{log}");
    assert!(!log.contains("finished"), "{log}");
    assert!(!log.contains("C began"), "{log}");
    a.answer(Ok(Ended::Cancelled));
}

/// On one thread, so that the build comes to see both failures at once.
#[tokio::test]
async fn of_two_failures_the_first_in_the_specs_order_counts() {
    let mut bench = Bench::with(stages(3)).await;
    let build = bench.start(THREE);
    let mut calls = Vec::new();
    for _ in 0..3 {
        calls.push(bench.call().await);
    }
    calls.sort_by_key(|call| call.command());
    let [a, b, c] = <[_; 3]>::try_from(calls).unwrap_or_else(|_| panic!("three calls"));
    b.answer(Ok(Ended::OutOfMemory));
    a.answer(Ok(Ended::OutOfMemory));
    let (error, log) = build.failed().await;
    assert!(error.to_string().contains("\"A\""), "{error}\n{log}");
    assert!(!log.contains("two"), "{log}");
    c.cancelled().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stages_within_stages_are_seen_from_within_only() {
    let bench = Bench::with(stages(2)).await;
    let spec = "((build outer (\
                   (build inner ((from base) (run (shell \"write f inner\")))) \
                   (from base) (copy (from (build inner)) (src f) (dst /g)))) \
                 (build inner ((from base) (run (shell \"write f second\")))) \
                 (from base) \
                 (copy (from (build outer)) (src g) (dst /from-outer)) \
                 (copy (from (build inner)) (src f) (dst /from-inner)))";
    let (result, log) = bench.start(spec).done().await;
    assert_eq!(
        bench.read(&result.layer, "from-outer").await.unwrap(),
        "inner"
    );
    assert_eq!(
        bench.read(&result.layer, "from-inner").await.unwrap(),
        "second"
    );
    let order: Vec<&str> = log
        .lines()
        .filter(|line| line.starts_with("(build") || line.starts_with(";--> "))
        .collect();
    assert_eq!(
        order,
        [
            "(build \"outer\" \u{2026})",
            "(build \"inner\" \u{2026})",
            ";--> finished \"inner\"",
            ";--> finished \"outer\"",
            "(build \"inner\" \u{2026})",
            ";--> finished \"inner\"",
        ]
    );
    let (again, log) = bench.start(spec).done().await;
    assert_eq!(again.id, result.id);
    assert!(!log.contains("saved as"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_take_the_context_and_are_found_by_content() {
    let bench = Bench::new().await;
    let source = bench.source.path();
    std::fs::create_dir(source.join("dir")).unwrap();
    std::fs::write(source.join("dir/file"), "content").unwrap();
    let spec = "((from base) (workdir /src) (copy (src dir) (dst ./)))";
    let (result, log) = bench.start(spec).done().await;
    assert_eq!(
        bench.read(&result.layer, "src/dir/file").await.unwrap(),
        "content"
    );
    assert!(
        log.contains("/src: (copy (src dir) (dst ./))\n;---> saved as"),
        "{log}"
    );
    let (again, _) = bench.start(spec).done().await;
    assert!(again.cached && again.id == result.id);
    std::fs::write(source.join("dir/file"), "other").unwrap();
    let (other, _) = bench.start(spec).done().await;
    assert_ne!(other.id, result.id);
    assert_eq!(
        bench.read(&other.layer, "src/dir/file").await.unwrap(),
        "other"
    );
    // What cannot be copied is the user's to mend, after the heading.
    let (error, log) = bench
        .start("((from base) (copy (src none) (dst /x)))")
        .failed()
        .await;
    assert_eq!(
        error,
        BuildError::Failed("Source path \"none\" not found".to_owned())
    );
    assert!(log.ends_with("/: (copy (src none) (dst /x))\n"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_takes_nothing_holds_no_stage_up_and_can_be_given_up() {
    let mut bench = Bench::with(stages(2)).await;
    let never = CancellationToken::new();
    let setup = Setup {
        log: Recorder::gated(&never),
        ..Setup::default()
    };
    let build = bench.start_with(THREE, setup);
    for _ in 0..3 {
        let call = bench.call().await;
        call.print("x\n".repeat(100_000)).await;
        call.exit(0);
    }
    build.cancel.cancel();
    let (error, _) = build.failed().await;
    assert_eq!(error, BuildError::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_stages_need_few_files_open() {
    let bench = Bench::with(stages(2)).await;
    let gate = CancellationToken::new();
    let stages: String = (0..60)
        .map(|n| {
            format!(
                "(build s{n} ((from base) (run (shell \"echo {n}\")) (run (shell \"echo again\"))))"
            )
        })
        .collect();
    let setup = Setup {
        log: Recorder::gated(&gate),
        ..Setup::default()
    };
    let before = open_files();
    let build = bench.start_with(&format!("({stages} (from base))"), setup);
    // All are done, and nothing of their output was told so far.
    within(async {
        while bench.sandbox.commands.lock().unwrap().len() < 120 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let during = open_files();
    assert!(
        during < before + 40,
        "{before} files before, {during} during"
    );
    gate.cancel();
    let (_, log) = build.done().await;
    for n in 0..60 {
        assert!(
            log.contains(&format!("(shell \"echo {n}\"))\n{n}\n;")),
            "{n}"
        );
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
