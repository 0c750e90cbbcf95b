//! Mirrors that were damaged on disk: noticed, said, and made anew.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::servers::Daemon;
use super::sources::{Source, listing, oracle};
use super::workshop::{Outcome, Workshop};

struct Scene {
    workshop: Workshop,
    source: Source,
    commit: String,
    server: Daemon,
}

impl Scene {
    /// A repository with a cached commit.
    async fn new() -> Scene {
        let workshop = Workshop::new();
        let source = Source::new(&workshop.served(), "repo");
        source.write("dir/a", &"some text that compresses\n".repeat(100));
        let commit = source.commit_file("b", "other");
        let server = Daemon::serve(&workshop.served());
        workshop
            .prepare(&server.url("repo"), &[&commit])
            .await
            .commit();
        Scene {
            workshop,
            source,
            commit,
            server,
        }
    }

    async fn again(&self, commit: &str) -> Outcome {
        self.workshop
            .prepare(&self.server.url("repo"), &[commit])
            .await
    }

    #[track_caller]
    fn assert_rebuilt(&self, outcome: &Outcome, commit: &str) {
        assert_eq!(outcome.commit(), commit);
        assert_eq!(listing(&outcome.context), oracle(&self.source, commit));
        let line = format!(
            "Removing corrupted repository {:?}\n",
            self.workshop.mirror().display().to_string()
        );
        assert_eq!(outcome.log.matches(&line).count(), 1, "{}", outcome.log);
    }
}

fn pack(mirror: &Path, extension: &str) -> PathBuf {
    let packs = fs::read_dir(mirror.join("objects/pack")).unwrap();
    let found = packs
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .unwrap();
    fs::set_permissions(&found, fs::Permissions::from_mode(0o644)).unwrap();
    found
}

#[tokio::test]
async fn a_mirror_that_cannot_be_opened_is_made_anew() {
    let scene = Scene::new().await;
    fs::remove_file(scene.workshop.mirror().join("HEAD")).unwrap();
    let outcome = scene.again(&scene.commit).await;
    scene.assert_rebuilt(&outcome, &scene.commit);
}

#[tokio::test]
async fn a_mirror_whose_configuration_is_rubbish_is_made_anew() {
    let scene = Scene::new().await;
    fs::write(scene.workshop.mirror().join("config"), "[[[").unwrap();
    let outcome = scene.again(&scene.commit).await;
    scene.assert_rebuilt(&outcome, &scene.commit);
}

#[tokio::test]
async fn a_mirror_that_lost_its_objects_is_made_anew() {
    let scene = Scene::new().await;
    fs::remove_dir_all(scene.workshop.mirror().join("objects")).unwrap();
    let outcome = scene.again(&scene.commit).await;
    scene.assert_rebuilt(&outcome, &scene.commit);
}

#[tokio::test]
async fn a_mirror_that_lost_a_pack_is_made_anew() {
    let scene = Scene::new().await;
    let new = scene.source.commit_file("c", "new");
    fs::remove_file(pack(&scene.workshop.mirror(), "pack")).unwrap();
    fs::remove_file(pack(&scene.workshop.mirror(), "idx")).unwrap();
    let outcome = scene.again(&new).await;
    scene.assert_rebuilt(&outcome, &new);
}

#[tokio::test]
async fn a_pack_cut_short_is_noticed_while_checking_out() {
    let scene = Scene::new().await;
    let pack = pack(&scene.workshop.mirror(), "pack");
    let whole = fs::read(&pack).unwrap();
    fs::write(&pack, &whole[..whole.len() / 2]).unwrap();
    let outcome = scene.again(&scene.commit).await;
    scene.assert_rebuilt(&outcome, &scene.commit);
}

#[tokio::test]
async fn a_flipped_byte_anywhere_in_a_pack_never_gets_into_a_context() {
    let scene = Scene::new().await;
    let length = fs::read(pack(&scene.workshop.mirror(), "pack"))
        .unwrap()
        .len();
    let mut rebuilt = 0;
    for at in (12..length - 20).step_by(23) {
        let pack = pack(&scene.workshop.mirror(), "pack");
        let mut bytes = fs::read(&pack).unwrap();
        bytes[at] ^= 0x10;
        fs::write(&pack, bytes).unwrap();
        let outcome = scene.again(&scene.commit).await;
        assert_eq!(outcome.commit(), scene.commit, "byte {at}");
        assert_eq!(
            listing(&outcome.context),
            oracle(&scene.source, &scene.commit),
            "byte {at}"
        );
        rebuilt += outcome.log.matches("Removing corrupted repository").count();
    }
    assert!(rebuilt > 3, "{rebuilt}");
}

#[tokio::test]
async fn a_damaged_mirror_is_noticed_when_the_git_directory_is_wanted_too() {
    let scene = Scene::new().await;
    let pack = pack(&scene.workshop.mirror(), "pack");
    let whole = fs::read(&pack).unwrap();
    fs::write(&pack, &whole[..whole.len() / 2]).unwrap();
    let url = scene.server.url("repo");
    let outcome = scene
        .workshop
        .prepare_with_git(&url, &[&scene.commit])
        .await;
    scene.assert_rebuilt(&outcome, &scene.commit);
    assert_eq!(
        super::sources::git(&outcome.context, &["fsck", "--strict"]),
        ""
    );
}

#[tokio::test]
async fn a_lock_left_by_a_killed_process_means_a_new_mirror() {
    for lock in [
        "index.lock",
        "packed-refs.lock",
        "refs/remotes/origin/main.lock",
    ] {
        let scene = Scene::new().await;
        let new = scene.source.commit_file("c", "new");
        fs::write(scene.workshop.mirror().join(lock), "").unwrap();
        let outcome = scene.again(&new).await;
        scene.assert_rebuilt(&outcome, &new);
        assert!(outcome.log.contains(lock), "{}", outcome.log);
    }
}

#[tokio::test]
async fn a_pack_left_half_received_is_removed_and_the_mirror_kept() {
    let scene = Scene::new().await;
    let new = scene.source.commit_file("c", "new");
    let debris = scene
        .workshop
        .mirror()
        .join("objects/pack/pack_git2_abcdef");
    fs::write(&debris, "half").unwrap();
    let outcome = scene.again(&new).await;
    assert_eq!(outcome.text("c"), "new");
    assert!(!outcome.log.contains("corrupted"), "{}", outcome.log);
    assert!(!debris.exists());
}

#[tokio::test]
async fn a_mirror_whose_making_was_interrupted_is_no_obstacle() {
    let workshop = Workshop::new();
    let source = Source::new(&workshop.served(), "repo");
    let commit = source.commit_file("a", "1");
    let server = Daemon::serve(&workshop.served());
    workshop
        .prepare(&server.url("repo"), &[&commit])
        .await
        .commit();
    let mut unfinished = workshop.mirror().into_os_string();
    unfinished.push(".new");
    fs::rename(workshop.mirror(), &unfinished).unwrap();
    let outcome = workshop.prepare(&server.url("repo"), &[&commit]).await;
    assert_eq!(outcome.text("a"), "1");
    assert!(!Path::new(&unfinished).exists());
}
