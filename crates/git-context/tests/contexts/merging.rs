//! Several commits in one context.

use super::servers::Daemon;
use super::sources::{Source, git, listing, oracle};
use super::workshop::Workshop;

/// A repository with a branch `topic` off the first commit of `main`.
fn forked(
    workshop: &Workshop,
    on_main: (&str, &str),
    on_topic: (&str, &str),
) -> (Source, String, String) {
    let source = Source::new(&workshop.served(), "repo");
    source.write("shared", "1\n2\n3\n");
    source.commit_file("base", "base\n");
    source.git(&["checkout", "-q", "-b", "topic"]);
    let topic = source.commit_file(on_topic.0, on_topic.1);
    source.git(&["checkout", "-q", "main"]);
    let main = source.commit_file(on_main.0, on_main.1);
    (source, main, topic)
}

#[tokio::test]
async fn two_commits_are_merged_as_git_merges_them() {
    let workshop = Workshop::new();
    let (source, main, topic) = forked(
        &workshop,
        ("shared", "0\n1\n2\n3\n"),
        ("shared", "1\n2\n3\n4\n"),
    );
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop
        .prepare(&server.url("repo"), &[&main, &topic])
        .await;
    assert_ne!(outcome.commit(), main);
    source.git(&["merge", "-q", "--no-edit", &topic]);
    assert_eq!(listing(&outcome.context), oracle(&source, &source.head()));
    assert_eq!(outcome.text("shared"), "0\n1\n2\n3\n4\n");
    assert!(
        outcome
            .log
            .contains(&format!("Merging {topic} into {main}\n")),
        "{}",
        outcome.log
    );
    // Merging is for this context alone: the mirror gets no objects of it.
    let loose = git(&workshop.mirror(), &["count-objects"]);
    assert!(loose.starts_with("0 objects"), "{loose}");
}

#[tokio::test]
async fn the_merge_is_in_the_git_directory_with_its_two_parents() {
    let workshop = Workshop::new();
    let (_source, main, topic) = forked(&workshop, ("m", "m"), ("t", "t"));
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop
        .prepare_with_git(&server.url("repo"), &[&main, &topic])
        .await;
    let merge = outcome.commit();
    let shown = git(
        &outcome.context,
        &["log", "-1", "--format=%H|%P|%an|%ce|%s"],
    );
    let expected =
        format!("{merge}|{main} {topic}|ocluster|ocluster@ocurrent.org|Merge commit '{topic}'");
    assert_eq!(shown, expected);
    assert_eq!(git(&outcome.context, &["status", "--porcelain"]), "");
}

#[tokio::test]
async fn a_descendant_is_a_fast_forward_and_an_ancestor_changes_nothing() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let old = source.commit_file("a", "1");
    let new = source.commit_file("a", "2");
    let server = Daemon::serve(&workshop.served());
    let forward = workshop.prepare(&server.url("repo"), &[&old, &new]).await;
    assert_eq!(forward.commit(), new);
    assert_eq!(forward.text("a"), "2");
    assert!(forward.log.contains("fast-forward"), "{}", forward.log);
    let back = workshop.prepare(&server.url("repo"), &[&new, &old]).await;
    assert_eq!(back.commit(), new);
    assert_eq!(back.text("a"), "2");
}

#[tokio::test]
async fn three_commits_are_merged_in_order() {
    let workshop = Workshop::new();
    let (source, main, topic) = forked(&workshop, ("m", "m"), ("t", "t"));
    source.git(&["checkout", "-q", "-b", "third", "main~1"]);
    let third = source.commit_file("x", "x");
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop
        .prepare(&server.url("repo"), &[&main, &topic, &third])
        .await;
    outcome.commit();
    assert_eq!(
        (outcome.text("m"), outcome.text("t"), outcome.text("x")),
        ("m".into(), "t".into(), "x".into())
    );
}

#[tokio::test]
async fn a_conflict_names_the_commits_and_the_files() {
    let workshop = Workshop::new();
    let (_source, main, topic) = forked(&workshop, ("shared", "main\n"), ("shared", "topic\n"));
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop
        .prepare(&server.url("repo"), &[&main, &topic])
        .await;
    assert_eq!(
        outcome.failure(),
        format!("Cannot merge {topic} into {main}: conflict in shared")
    );
    assert!(!outcome.log.contains("corrupted"), "{}", outcome.log);
}

#[tokio::test]
async fn commits_without_common_history_are_not_merged() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let main = source.commit_file("a", "1");
    source.git(&["checkout", "-q", "--orphan", "other"]);
    let other = source.commit_file("b", "2");
    let server = Daemon::serve(&workshop.served());
    let outcome = workshop
        .prepare(&server.url("repo"), &[&main, &other])
        .await;
    assert_eq!(
        outcome.failure(),
        format!("Cannot merge {other} into {main}: they have no common history")
    );
    assert!(!outcome.log.contains("corrupted"), "{}", outcome.log);
}
