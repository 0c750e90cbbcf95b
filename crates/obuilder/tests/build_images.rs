//! Base images: when they are fetched, when their names are looked up again, and what follows from a name that changed its meaning.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod build_support;

use std::time::Duration;

use build_support::Bench;
use jiff::Timestamp;
use ocluster_obuilder::StepId;
use ocluster_obuilder::build::{BuildError, BuilderOptions};
use ocluster_obuilder::image::PullPolicy;
use tokio_util::sync::CancellationToken;

const SPEC: &str = "((from base) (run (shell \"echo A\")))";

fn pull(pull: PullPolicy) -> BuilderOptions {
    BuilderOptions {
        pull,
        ..BuilderOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_never_looks_again() {
    let bench = Bench::with(pull(PullPolicy::Missing)).await;
    let (first, log) = bench.start(SPEC).done().await;
    assert!(log.contains("fetching base\nbase is sha256:one\n"), "{log}");
    bench.fetcher.publish("base", "two", &[]);
    bench.fetcher.go_away();
    let (again, log) = bench.start(SPEC).done().await;
    assert_eq!(again.id, first.id);
    // What the fetch told is told again.
    assert!(
        log.contains("(from base)\nfetching base\nbase is sha256:one\n;---> using"),
        "{log}"
    );
    assert_eq!((bench.fetcher.fetches(), bench.fetcher.looks()), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_base_has_the_id_of_its_name_and_tells_where_it_came_from() {
    let bench = Bench::new().await;
    let (result, _) = bench.start("((from base))").done().await;
    assert_eq!(result.id, StepId::of_base(b"base"));
    let meta = result.layer.meta();
    assert_eq!(meta.env, [("PATH".into(), "/bin".into())]);
    assert_eq!(meta.origin["name"], "base");
    assert_eq!(meta.origin["digest"], "sha256:one");
    assert!(meta.origin["resolved"].parse::<Timestamp>().is_ok());
    assert_eq!(
        bench.read(&result.layer, "base").await.unwrap(),
        "sha256:one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn always_finds_a_new_digest_and_builds_anew_on_it() {
    let bench = Bench::with(pull(PullPolicy::Always)).await;
    let (first, _) = bench.start(SPEC).done().await;
    assert_eq!(
        bench.fetcher.looks(),
        0,
        "what was just fetched is not looked up"
    );
    let (same, _) = bench.start(SPEC).done().await;
    assert_eq!(same.id, first.id);
    assert_eq!((bench.fetcher.fetches(), bench.fetcher.looks()), (1, 1));

    bench.fetcher.publish("base", "two", &[("PATH", "/new")]);
    let (second, log) = bench.start(SPEC).done().await;
    assert_ne!(second.id, first.id);
    assert!(log.contains(";base is now sha256:two\n"), "{log}");
    assert!(log.contains("saved as"), "{log}");
    assert_eq!(
        bench.read(&second.layer, "base").await.unwrap(),
        "sha256:two"
    );
    assert_eq!(second.layer.base_env(), [("PATH".into(), "/new".into())]);
    let (same, log) = bench.start(SPEC).done().await;
    assert_eq!(same.id, second.id);
    assert!(!log.contains("saved as"), "{log}");

    // The name turns back: so do the ids.
    bench.fetcher.publish("base", "one", &[("PATH", "/bin")]);
    let (back, log) = bench.start(SPEC).done().await;
    assert_eq!(back.id, first.id);
    assert!(!log.contains("saved as"), "{log}");
    assert_eq!(bench.fetcher.fetches(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_name_came_to_mean_is_remembered() {
    let bench = Bench::with(pull(PullPolicy::Always)).await;
    bench.start(SPEC).done().await;
    bench.fetcher.publish("base", "two", &[]);
    let second = bench.start(SPEC).done().await.0.id;
    // After a restart, also by a builder that never looks.
    let bench = bench.restart(pull(PullPolicy::Missing)).await;
    bench.fetcher.go_away();
    let (again, log) = bench.start(SPEC).done().await;
    assert_eq!(again.id, second);
    assert!(!log.contains("saved as"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_away_costs_a_remark_while_something_is_in_the_store() {
    let bench = Bench::with(pull(PullPolicy::Always)).await;
    let (error, _) = {
        bench.fetcher.go_away();
        bench.start(SPEC).failed().await
    };
    assert_eq!(
        error,
        BuildError::Source("registry: connection refused".to_owned())
    );
    bench.fetcher.come_back();
    let first = bench.start(SPEC).done().await.0.id;
    bench.fetcher.go_away();
    let (again, log) = bench.start(SPEC).done().await;
    assert_eq!(again.id, first);
    assert!(
        log.contains(";cannot look up what base is now, using what is in the store: registry: connection refused\n"),
        "{log}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_age_is_waited_for_before_the_next_look() {
    let bench = Bench::with(pull(PullPolicy::After(Duration::from_secs(3600)))).await;
    let first = bench.start(SPEC).done().await.0.id;
    bench.fetcher.publish("base", "two", &[]);
    assert_eq!(bench.start(SPEC).done().await.0.id, first);
    assert_eq!(bench.fetcher.looks(), 0);
    // The same with no age at all.
    let bench = bench.restart(pull(PullPolicy::After(Duration::ZERO))).await;
    assert_ne!(bench.start(SPEC).done().await.0.id, first);
    assert_eq!(bench.fetcher.looks(), 1);
    // And the look counts from then on.
    let bench = bench
        .restart(pull(PullPolicy::After(Duration::from_secs(3600))))
        .await;
    bench.start(SPEC).done().await;
    assert_eq!(bench.fetcher.looks(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_of_a_name_was_pruned_its_own_id_is_used_again() {
    let bench = Bench::with(pull(PullPolicy::Always)).await;
    let first = bench.start(SPEC).done().await.0.id;
    bench.fetcher.publish("base", "two", &[("PATH", "/bin")]);
    let second = bench.start(SPEC).done().await.0.id;
    assert_ne!(first, second);
    let never = CancellationToken::new();
    let later = Timestamp::now() + Duration::from_secs(60);
    bench.builder.prune(later, 100, &never).await.unwrap();
    // Nothing is built on the name's own id any more, so it can stand for the new image: ids agree with everybody's again.
    let (third, log) = bench.start(SPEC).done().await;
    assert_eq!(third.id, first);
    assert!(log.contains("base is sha256:two"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_that_moved_between_look_and_fetch_never_gets_the_id_of_another() {
    let bench = Bench::with(pull(PullPolicy::Always)).await;
    let base = async |bench: &Bench| {
        let (result, _) = bench.start("((from base))").done().await;
        let content = bench.read(&result.layer, "base").await.unwrap();
        assert_eq!(result.layer.meta().origin["digest"], content);
        (result.id, content)
    };
    let (first, _) = base(&bench).await;
    bench.fetcher.publish("base", "two", &[]);
    bench.fetcher.publish_after_a_look("base", "three");
    let (third, content) = base(&bench).await;
    assert_eq!(content, "sha256:three");
    // It is remembered for what it is, and found again.
    assert_eq!(base(&bench).await, (third, content.clone()));
    assert_eq!(bench.fetcher.fetches(), 2);
    bench.fetcher.publish("base", "two", &[]);
    let (second, content) = base(&bench).await;
    assert_eq!(content, "sha256:two");
    // What came meanwhile may be there, too.
    bench.fetcher.publish("base", "four", &[]);
    bench.fetcher.publish_after_a_look("base", "one");
    assert_eq!(base(&bench).await, (first, "sha256:one".to_owned()));
    assert!(first != second && second != third && third != first);
    // After a restart, too.
    let bench = bench.restart(pull(PullPolicy::Missing)).await;
    assert_eq!(base(&bench).await.0, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_is_due_when_what_the_last_one_found_was_pruned() {
    let bench = Bench::with(pull(PullPolicy::After(Duration::ZERO))).await;
    let (first, _) = bench.start(SPEC).done().await;
    bench.fetcher.publish("base", "two", &[]);
    drop(bench.start(SPEC).done().await);
    // The first image stays, since something in use is built on it.
    let never = CancellationToken::new();
    let later = Timestamp::now() + Duration::from_secs(60);
    bench.builder.prune(later, 100, &never).await.unwrap();
    assert!(bench.has(StepId::of_base(b"base")).await);
    drop(first);
    let bench = bench
        .restart(pull(PullPolicy::After(Duration::from_secs(3600))))
        .await;
    let (again, _) = bench.start(SPEC).done().await;
    assert_eq!(
        bench.read(&again.layer, "base").await.unwrap(),
        "sha256:two"
    );
    assert_eq!(bench.fetcher.looks(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_nobody_has_is_the_users_to_mend() {
    let bench = Bench::new().await;
    let (error, log) = bench.start("((from nobody))").failed().await;
    assert_eq!(error, BuildError::Failed("no image nobody".to_owned()));
    assert_eq!(log, "(from nobody)\n");
}
