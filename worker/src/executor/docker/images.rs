//! The names and the label by which a worker tells its images from those of others.
//!
//! Every image that a worker builds carries a label, by which a prune finds them. An image that is still needed after its build, to be
//! pushed, has a name of ours until its job ends, so that nobody's prune takes it away. The name says whose it is: what a killed
//! worker left is removed by the same worker later. Only names are removed here, never images: they stay as build cache, as OCluster
//! leaves them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bollard::errors::Error;
use bollard::query_parameters::{
    CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptions, TagImageOptionsBuilder,
};
use bollard::{Docker, body_full};
use bytes::Bytes;
use futures::TryStreamExt as _;
use ocluster_api::ImageTarget;
use sha2::{Digest as _, Sha256};
use tokio::sync::OwnedMutexGuard;
use tokio::time::timeout;
use tracing::{info, warn};

use super::{build_args, engine};
use crate::JobLog;

/// The label of every image that a worker builds, and its value.
pub const BUILT_BY: (&str, &str) = ("ocluster.built-by", "ocluster-worker");

/// The label as the filter of a prune: `key=value`.
pub(super) fn built_by_filter() -> String {
    let (key, value) = BUILT_BY;
    format!("{key}={value}")
}

/// The label as a parameter of a build, with a leading `&`.
pub(super) fn label_parameter() -> String {
    let (key, value) = BUILT_BY;
    let labels = serde_json::json!({ key: value }).to_string();
    format!("&labels={}", build_args::encode(&labels))
}

/// The repository of the names that images of running jobs have. It exists on engines only and is never pushed.
const REPOSITORY: &str = "ocluster-build";

/// The longest part of a worker's name that goes into tags, in characters.
const MAX_NAME: usize = 60;

/// How long the names of a job that ends may take to be removed.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// An archive without files, which is the content of the image that takes a name over.
const EMPTY_TAR: [u8; 1024] = [0; 1024];

/// A worker's mark in the names of its images: no other worker on the same engine has it, and the same worker has it again after a
/// restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerMark(String);

impl WorkerMark {
    /// The mark of the worker of that name with that state directory.
    #[must_use]
    pub fn new(name: &str, state_dir: &Path) -> Self {
        // A name may be used in several pools; a state directory is one worker's alone.
        let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let mut hash = Sha256::new();
        hash.update(name);
        hash.update([0]);
        hash.update(state_dir.as_os_str().as_encoded_bytes());
        let hash = u32::from_be_bytes(hash.finalize().first_chunk().copied().unwrap_or_default());
        let readable: String = name
            .chars()
            .map(|letter| {
                if letter.is_ascii_alphanumeric() {
                    letter
                } else {
                    '-'
                }
            })
            .take(MAX_NAME)
            .collect();
        Self(format!("{readable}-{hash:08x}"))
    }
}

/// The names that this process has given.
#[derive(Debug)]
pub(super) struct ImageNames {
    /// What all tags of this worker begin with.
    prefix: String,
    /// What those begin with of which this process may say that they belong to nobody: all, if the worker has a mark of its own.
    ours: String,
    /// Tells the processes of one worker apart.
    process: u64,
    state: Mutex<State>,
    /// Whether there may be tags of this worker that belong to no running job.
    leftovers: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    /// The tags of running jobs.
    live: BTreeSet<String>,
    /// Whose turn it is to use a push target's name on the engine.
    turns: BTreeMap<String, Weak<tokio::sync::Mutex<()>>>,
}

impl ImageNames {
    pub(super) fn new(worker: Option<&WorkerMark>) -> Arc<Self> {
        let name = worker.map_or("", |mark| mark.0.as_str());
        let prefix = format!("worker-{name}.");
        let process: u64 = rand::random();
        Arc::new(Self {
            ours: match worker {
                Some(_) => prefix.clone(),
                None => format!("{prefix}{process:016x}-"),
            },
            prefix,
            process,
            state: Mutex::default(),
            leftovers: AtomicBool::new(worker.is_some()),
        })
    }

    /// Names for the images of one job.
    pub(super) fn of_job(self: &Arc<Self>) -> JobTags {
        JobTags {
            names: Arc::clone(self),
            docker: None,
            kept: None,
            lent: None,
        }
    }

    /// Removes the tags of this worker that belong to no running job: those which it left when it was killed, or could not remove
    /// because the engine was away. An image that has one may still have the name that it was to be pushed as: that is removed as
    /// well, unless a running job uses it, and no other name is. Looks only if there may be any.
    ///
    /// # Errors
    /// If the engine is away.
    pub(super) async fn remove_leftovers(&self, docker: &Docker) -> Result<(), Error> {
        if !self.leftovers.swap(false, Ordering::Relaxed) {
            return Ok(());
        }
        let mut unfinished = Unfinished {
            leftovers: &self.leftovers,
            finished: false,
        };
        unfinished.finished = self.sweep(docker).await?;
        Ok(())
    }

    /// Whether nothing is left.
    async fn sweep(&self, docker: &Docker) -> Result<bool, Error> {
        let mut finished = true;
        let options = ListImagesOptionsBuilder::new()
            .filters(&HashMap::from([("reference", vec![REPOSITORY])]))
            .build();
        for image in docker.list_images(Some(options)).await? {
            let tags = image.repo_tags.iter().filter_map(|name| {
                let tag = name.strip_prefix(REPOSITORY)?.strip_prefix(':')?;
                tag.starts_with(&self.ours).then_some(tag)
            });
            for tag in tags {
                if self.state().live.contains(tag) {
                    continue;
                }
                info!(
                    "Removing the name \"{REPOSITORY}:{tag}\", which a job that is gone has left"
                );
                if self.remove_target(docker, &image.id, tag).await? {
                    untag(docker, tag).await?;
                } else {
                    finished = false;
                }
            }
        }
        Ok(finished)
    }

    /// Removes the name of the push target for which `tag` was given to `image`, if the image has it. The image must have another
    /// name. Nothing is done, and the answer is no, while a job uses the target's name.
    async fn remove_target(&self, docker: &Docker, image: &str, tag: &str) -> Result<bool, Error> {
        let names = docker.inspect_image(image).await?.repo_tags;
        for name in names.unwrap_or_default() {
            let target = name.parse::<ImageTarget>().ok();
            let Some(target) = target.filter(|target| tag.ends_with(&mark_of(target))) else {
                continue;
            };
            let Ok(_turn) = self.turn(&target).try_lock_owned() else {
                return Ok(false);
            };
            remove(docker, &name).await?;
        }
        Ok(true)
    }

    /// A tag for an image that is to be pushed as `target`.
    fn new_tag(&self, target: &ImageTarget) -> String {
        let mut state = self.state();
        let tag = format!(
            "{}{:016x}-{}{}",
            self.prefix,
            self.process,
            state.next,
            mark_of(target)
        );
        state.next = state.next.wrapping_add(1);
        state.live.insert(tag.clone());
        tag
    }

    /// The turn to use `target`'s name on the engine.
    fn turn(&self, target: &ImageTarget) -> Arc<tokio::sync::Mutex<()>> {
        let target = familiar(target);
        let turns = &mut self.state().turns;
        turns.retain(|_, turn| turn.strong_count() > 0);
        let turn = turns
            .get(&target)
            .and_then(Weak::upgrade)
            .unwrap_or_default();
        turns.insert(target, Arc::downgrade(&turn));
        turn
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes that there are leftovers still, unless a sweep came to its end; also if it is cancelled.
struct Unfinished<'a> {
    leftovers: &'a AtomicBool,
    finished: bool,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if !self.finished {
            self.leftovers.store(true, Ordering::Relaxed);
        }
    }
}

/// `target` as engines write it: they leave out the name of Docker's own registry.
fn familiar(target: &ImageTarget) -> String {
    let name = target.to_string();
    let short = ["docker.io/", "index.docker.io/"]
        .iter()
        .find_map(|registry| name.strip_prefix(registry));
    let short = short.map(|rest| rest.strip_prefix("library/").unwrap_or(rest));
    short.unwrap_or(&name).to_owned()
}

/// What the tag of an image that is to be pushed as `target` ends with: it tells that name from others that the image may have.
fn mark_of(target: &ImageTarget) -> String {
    let hash = Sha256::digest(familiar(target));
    let hash = u32::from_be_bytes(hash.first_chunk().copied().unwrap_or_default());
    format!("-{hash:08x}")
}

/// The names that one job has on the engine. They must be released at its end.
pub(super) struct JobTags {
    names: Arc<ImageNames>,
    docker: Option<Docker>,
    /// The tag that keeps the job's image.
    kept: Option<String>,
    lent: Option<Lent>,
}

/// A push target's name, in use by one job.
struct Lent {
    target: ImageTarget,
    image: String,
    /// The image that had the name before.
    before: Option<String>,
    _turn: OwnedMutexGuard<()>,
}

impl JobTags {
    /// The name for the engine to give the job's image, which is to be pushed as `target`, at the end of the build, so that there is no
    /// moment in which the image is nobody's. The same each time.
    pub(super) fn reserve(&mut self, docker: &Docker, target: &ImageTarget) -> String {
        self.docker = Some(docker.clone());
        let names = &self.names;
        let tag = self.kept.get_or_insert_with(|| names.new_tag(target));
        format!("{REPOSITORY}:{tag}")
    }

    /// Keeps `image`, which is to be pushed as `target`, until the job's end, whoever prunes. Doing it again does no harm.
    pub(super) async fn keep(
        &mut self,
        docker: &Docker,
        image: &str,
        target: &ImageTarget,
    ) -> Result<(), Error> {
        self.docker = Some(docker.clone());
        if let Err(error) = self.names.remove_leftovers(docker).await {
            let error = engine::reason(&error);
            warn!(error, "cannot remove names of images that were left over");
        }
        let names = &self.names;
        let tag = self.kept.get_or_insert_with(|| names.new_tag(target));
        let options = TagImageOptionsBuilder::new()
            .repo(REPOSITORY)
            .tag(tag)
            .build();
        docker.tag_image(image, Some(options)).await
    }

    /// Gives `image`, which must be kept, the name of `target`. Waits while another job of this worker uses the name, and says so in
    /// `log`.
    pub(super) async fn lend(
        &mut self,
        docker: &Docker,
        image: &str,
        target: &ImageTarget,
        log: &JobLog,
    ) -> Result<(), Error> {
        self.take_back(docker).await?;
        let turn = self.names.turn(target);
        let turn = match Arc::clone(&turn).try_lock_owned() {
            Ok(turn) => turn,
            Err(_) => {
                log.line(format!(
                    "Waiting for another job of this worker, which pushes to \"{target}\""
                ))
                .await;
                turn.lock_owned().await
            }
        };
        let before = match docker.inspect_image(&target.to_string()).await {
            Ok(before) => before.id,
            Err(error) if is_unknown(&error) => None,
            Err(error) => return Err(error),
        };
        // Noted before it is done: whatever happens in between can be put right.
        self.lent = Some(Lent {
            target: target.clone(),
            image: image.to_owned(),
            before,
            _turn: turn,
        });
        tag(docker, image, target).await
    }

    /// Puts the target's name back to where it was before [`Self::lend`], if it was lent.
    pub(super) async fn take_back(&mut self, docker: &Docker) -> Result<(), Error> {
        let Some(lent) = &self.lent else {
            return Ok(());
        };
        match &lent.before {
            Some(before) if *before == lent.image => {}
            Some(before) => match tag(docker, before, &lent.target).await {
                // It was pruned meanwhile, as it had no name: then nothing has the name.
                Err(error) if is_unknown(&error) => {
                    remove(docker, &lent.target.to_string()).await?;
                }
                result => result?,
            },
            // The image has another name, the one that keeps it: so it stays.
            None => remove(docker, &lent.target.to_string()).await?,
        }
        self.lent = None;
        Ok(())
    }

    /// Takes back everything. What the engine does not do in time is left to a later job or the worker's next start.
    pub(super) async fn release(mut self) {
        let Some(docker) = self.docker.clone() else {
            return;
        };
        let release = async {
            self.take_back(&docker).await?;
            if let Some(tag) = &self.kept {
                untag(&docker, tag).await?;
                self.names.state().live.remove(tag);
                self.kept = None;
            }
            Ok(())
        };
        let result: Result<(), Error> = match timeout(RELEASE_LIMIT, release).await {
            Ok(result) => result,
            Err(_) => Err(Error::RequestTimeoutError),
        };
        if let Err(error) = result {
            warn!(
                error = engine::reason(&error),
                "cannot remove the names of a job's image yet"
            );
        }
    }
}

impl Drop for JobTags {
    /// What was not released is a leftover.
    fn drop(&mut self) {
        if let Some(tag) = &self.kept {
            self.names.state().live.remove(tag);
            self.names.leftovers.store(true, Ordering::Relaxed);
        }
    }
}

async fn tag(docker: &Docker, image: &str, target: &ImageTarget) -> Result<(), Error> {
    let options = TagImageOptionsBuilder::new()
        .repo(target.repository())
        .tag(target.tag())
        .build();
    docker.tag_image(image, Some(options)).await
}

/// Removes one of our tags, and not the image, even if that has no other name.
///
/// Engines remove an image together with its last name. So the name goes to an empty image first, and then with it.
async fn untag(docker: &Docker, tag: &str) -> Result<(), Error> {
    let options = CreateImageOptionsBuilder::new()
        .from_src("-")
        .repo(REPOSITORY)
        .tag(tag)
        .build();
    let empty = body_full(Bytes::from_static(&EMPTY_TAR));
    let created = docker.create_image(Some(options), Some(empty), None);
    created.try_for_each(async |_| Ok(())).await?;
    remove(docker, &format!("{REPOSITORY}:{tag}")).await
}

async fn remove(docker: &Docker, name: &str) -> Result<(), Error> {
    match docker
        .remove_image(name, None::<RemoveImageOptions>, None)
        .await
    {
        Err(error) if !is_unknown(&error) => Err(error),
        _ => Ok(()),
    }
}

fn is_unknown(error: &Error) -> bool {
    matches!(
        error,
        Error::DockerResponseServerError {
            status_code: 404,
            ..
        }
    )
}

#[cfg(test)]
mod tests {
    use bollard::API_DEFAULT_VERSION;

    use super::super::fake_engine::FakeEngine;
    use super::*;

    #[tokio::test]
    async fn a_name_whose_image_was_pruned_meanwhile_is_removed() {
        let engine = FakeEngine::start(|request| match request {
            "GET /images/host/app:v1/json" => (200, r#"{"Id":"sha256:before"}"#.to_owned()),
            "POST /images/sha256:before/tag?repo=host%2Fapp&tag=v1" => {
                (404, r#"{"message":"No such image"}"#.to_owned())
            }
            request if request.starts_with("POST /images/sha256:new/tag") => (201, String::new()),
            request if request.starts_with("DELETE /images/host/app:v1") => (200, "[]".to_owned()),
            request => panic!("{request}"),
        });
        let mut tags = ImageNames::new(None).of_job();
        let target = "host/app:v1".parse().unwrap();
        let docker = engine.connect();
        let (log, _chunks) = JobLog::new(1);
        tags.lend(&docker, "sha256:new", &target, &log)
            .await
            .unwrap();
        tags.take_back(&docker).await.unwrap();
        assert!(tags.lent.is_none());
        assert!(engine.was_asked("DELETE /images/host/app:v1"));
    }

    #[tokio::test]
    async fn who_waits_for_a_name_is_told() {
        let engine = FakeEngine::start(|_| (201, "{}".to_owned()));
        let names = ImageNames::new(None);
        let target: ImageTarget = "host/app:v1".parse().unwrap();
        let turn = names.turn(&target).lock_owned().await;
        let (log, mut chunks) = JobLog::new(16);
        let (mut tags, docker) = (names.of_job(), engine.connect());
        let lending = async { tags.lend(&docker, "sha256:new", &target, &log).await };
        let told = async {
            let line = chunks.recv().await.unwrap();
            drop(turn);
            String::from_utf8_lossy(&line).into_owned()
        };
        let both = async { tokio::join!(lending, told) };
        let (lent, told) = timeout(Duration::from_secs(60), both).await.unwrap();
        lent.unwrap();
        assert_eq!(
            told,
            "Waiting for another job of this worker, which pushes to \"host/app:v1\"\n"
        );
    }

    /// An engine on which an image has one leftover of `names` for `target`, and three other names.
    fn engine_with_leftover(names: &ImageNames, target: &ImageTarget) -> FakeEngine {
        let left = names.new_tag(target);
        names.state().live.clear();
        names.leftovers.store(true, Ordering::Relaxed);
        let list = format!(
            r#"[{{"Id":"sha256:it","ParentId":"","RepoTags":["{REPOSITORY}:{left}"],"RepoDigests":[],"Created":0,"Size":0,"SharedSize":0,"Labels":{{}},"Containers":0}}]"#
        );
        let image = format!(
            r#"{{"RepoTags":["{REPOSITORY}:{left}","host/app:v1","host/app:theirs","other/app:v1"]}}"#
        );
        FakeEngine::start(move |request| match request {
            request if request.starts_with("GET /images/json") => (200, list.clone()),
            "GET /images/sha256:it/json" => (200, image.clone()),
            request if request.starts_with("DELETE ") => (200, "[]".to_owned()),
            _ => (200, String::new()),
        })
    }

    #[tokio::test]
    async fn a_sweep_removes_the_name_that_a_job_pushed_to_and_no_other() {
        let names = ImageNames::new(None);
        let target = "host/app:v1".parse().unwrap();
        let engine = engine_with_leftover(&names, &target);
        names.remove_leftovers(&engine.connect()).await.unwrap();
        assert!(engine.was_asked("DELETE /images/host/app:v1"));
        assert!(engine.was_asked("DELETE /images/ocluster-build:"));
        assert!(!engine.was_asked("DELETE /images/host/app:theirs"));
        assert!(!engine.was_asked("DELETE /images/other/app:v1"));
        assert!(!names.leftovers.load(Ordering::Relaxed));
    }

    #[tokio::test]
    async fn a_sweep_leaves_a_name_that_a_running_job_uses_for_later() {
        let names = ImageNames::new(None);
        let target = "host/app:v1".parse().unwrap();
        let engine = engine_with_leftover(&names, &target);
        let turn = names.turn(&target).lock_owned().await;
        names.remove_leftovers(&engine.connect()).await.unwrap();
        assert!(!engine.was_asked("DELETE "));
        drop(turn);
        names.remove_leftovers(&engine.connect()).await.unwrap();
        assert!(engine.was_asked("DELETE /images/host/app:v1"));
    }

    #[tokio::test]
    async fn a_sweep_that_is_cancelled_is_made_again() {
        let names = ImageNames::new(None);
        let engine = engine_with_leftover(&names, &"host/app:v1".parse().unwrap());
        let docker = engine.connect();
        let sweep = names.remove_leftovers(&docker);
        assert!(futures::FutureExt::now_or_never(sweep).is_none());
        assert!(names.leftovers.load(Ordering::Relaxed));
    }

    #[test]
    fn a_target_in_docker_s_own_registry_is_known_by_its_short_name() {
        let familiar = |name: &str| familiar(&name.parse().unwrap());
        assert_eq!(familiar("docker.io/team/app:v1"), "team/app:v1");
        assert_eq!(familiar("docker.io/library/app:v1"), "app:v1");
        assert_eq!(
            familiar("host:5000/library/app:v1"),
            "host:5000/library/app:v1"
        );
    }

    #[test]
    fn a_worker_s_mark_is_its_own_and_lasts() {
        let mark = |name: &str, dir: &str| WorkerMark::new(name, Path::new(dir)).0;
        assert_eq!(mark("builder-1", "/state"), mark("builder-1", "/state"));
        assert_ne!(mark("builder-1", "/state"), mark("builder-1", "/other"));
        assert_ne!(mark("a.b", "/state"), mark("a-b", "/state"));
        assert!(mark("a.b/c é", "/state").starts_with("a-b-c---"));
        let names = ImageNames::new(Some(&WorkerMark::new(&"x".repeat(500), Path::new("/s"))));
        let pushed = "host/app:v1".parse().unwrap();
        names.state().next = u64::MAX;
        let target = format!("{REPOSITORY}:{}", names.new_tag(&pushed));
        assert!(target.parse::<ImageTarget>().is_ok(), "{target}");
    }

    #[test]
    fn names_are_used_once_and_turns_are_forgotten() {
        let names = ImageNames::new(None);
        let turn_of = |target: &str| names.turn(&target.parse().unwrap());
        let target = "app:v1".parse().unwrap();
        assert_ne!(names.new_tag(&target), names.new_tag(&target));
        let turn = turn_of("app:v1");
        assert!(Arc::ptr_eq(&turn, &turn_of("app:v1")));
        assert!(!Arc::ptr_eq(&turn, &turn_of("app:v2")));
        drop(turn);
        turn_of("other:v1");
        assert_eq!(names.state().turns.len(), 1);
    }

    #[tokio::test]
    async fn a_reserved_name_is_the_job_s_until_it_ends() {
        let names = ImageNames::new(None);
        let docker = Docker::connect_with_http("127.0.0.1:9", 1, API_DEFAULT_VERSION).unwrap();
        let target = "app:v1".parse().unwrap();
        let mut tags = names.of_job();
        let name = tags.reserve(&docker, &target);
        assert_eq!(name, tags.reserve(&docker, &target));
        let tag = name.strip_prefix("ocluster-build:").unwrap();
        assert!(names.state().live.contains(tag));
        drop(tags);
        assert!(names.state().live.is_empty());
        assert!(names.leftovers.load(Ordering::Relaxed));
    }
}
