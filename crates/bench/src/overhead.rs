//! How much longer a Docker build takes through the cluster than through the engine's own API.
//!
//! Both sides of a pair build the same thing on the same engine with warm caches. Three builds are measured: one whose steps are all
//! cached, one with a step that runs, and one with a context of many files, which the cluster takes from git. What git takes is told
//! apart: a direct build has its files already.

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail, ensure};
use bollard::Docker;
use bollard::body_full;
use bollard::query_parameters::{
    BuildImageOptionsBuilder, BuilderVersion, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
};
use clap::Args;
use futures::StreamExt as _;
use ocluster_api::{Action, DockerBuild, Dockerfile, GitSource, JobSpec};
use ocluster_cli::{CapArgs, parse_duration};
use ocluster_client::Client;
use ocluster_vat::{DialOptions, Stats, Vat};
use serde::Serialize;

use crate::pairs::{Compared, Pairs};
use crate::served::Served;

/// Everything built here carries this label, so that it can be removed.
const LABEL: &str = "ocluster.bench";
/// The line with which a worker's git phase ends.
const CHECKED_OUT: &str = "HEAD is now at ";

/// The pause after each build, for what worker and engine do after its end: whichever comes next must not pay for it.
const BREATH: Duration = Duration::from_millis(1000);

/// What to measure.
#[derive(Clone, Debug, Args)]
pub struct OverheadArgs {
    #[command(flatten)]
    cap: CapArgs,

    /// The pool to submit to. Its worker must use the engine at DOCKER_HOST, and must not ask a registry for images it has.
    #[arg(long, value_name = "ID")]
    pool: String,

    /// An image with a shell, present in the engine, to build from.
    #[arg(long, value_name = "NAME")]
    image: String,

    /// Number of files in the context of the third build.
    #[arg(long, value_name = "N", default_value_t = 2000)]
    files: u32,

    /// Number of pairs of each build.
    #[arg(long, value_name = "N", default_value_t = 15)]
    pairs: u32,

    /// Fail if a build takes longer through the cluster by more than this part of its direct time, in percent, and by more than
    /// --grace.
    #[arg(long, value_name = "PERCENT")]
    threshold: Option<f64>,

    /// What a build may take longer whatever --threshold says.
    #[arg(long, value_name = "TIME", value_parser = parse_duration, default_value = "100ms")]
    grace: Duration,
}

/// What was measured: ours is through the cluster, theirs is direct.
#[derive(Clone, Debug, Serialize)]
pub struct Overhead {
    /// The builds.
    pub builds: Vec<Build>,
    /// What a build may take longer whatever the threshold says, in milliseconds.
    pub grace_ms: f64,
}

/// One build, in pairs.
#[derive(Clone, Debug, Serialize)]
pub struct Build {
    /// Which one.
    pub name: &'static str,
    /// The times, without git's.
    #[serde(flatten)]
    pub times: Compared,
    /// The median of what the worker's git phase took, from the submission, in milliseconds; none if there was no git.
    pub git_ms: Option<f64>,
}

impl Build {
    /// Whether the difference is within `percent` of the direct time, or within `grace_ms`.
    #[must_use]
    pub fn is_within(&self, percent: f64, grace_ms: f64) -> bool {
        self.times.difference_ms <= grace_ms.max(self.times.theirs_ms * percent / 100.0)
    }
}

impl OverheadArgs {
    /// The most that is good enough, in percent.
    #[must_use]
    pub fn threshold(&self) -> Option<f64> {
        self.threshold
    }

    /// Builds in turn, and removes what was built.
    ///
    /// # Errors
    /// If the cluster, the engine or git cannot be used, or a build fails.
    pub async fn measure(&self) -> anyhow::Result<Overhead> {
        let cap = self.cap.load()?;
        let vat = Vat::client_only(Stats::new());
        let connection = vat
            .connect(&cap.address, &DialOptions::default(), &mut |_| {})
            .await?;
        let docker = Docker::connect_with_defaults()
            .context("cannot use the Docker engine at DOCKER_HOST")?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
        let site = Site {
            client: Client::over(connection, &cap),
            pool: self.pool.clone(),
            docker,
            label: format!("{}-{since}", std::process::id()),
        };
        let measured = self.builds(&site).await;
        site.remove_images().await?;
        Ok(Overhead {
            builds: measured?,
            grace_ms: self.grace.as_secs_f64() * 1000.0,
        })
    }

    async fn builds(&self, site: &Site) -> anyhow::Result<Vec<Build>> {
        let begin = format!("FROM {}\nLABEL {LABEL}={}\n", self.image, site.label);
        let cached = Subject::of_text(
            format!("{begin}ENV A=1\nRUN echo one > /one\nRUN echo two > /two\n"),
            false,
        )?;
        let running = Subject::of_text(
            format!("{begin}ARG RUN_NUMBER\nRUN echo $RUN_NUMBER > /number\n"),
            true,
        )?;
        let served = Served::start(self.files, &format!("{begin}COPY . /src\n"))?;
        let files = served.beside("files");
        served.clone_with_git(&files, None)?;
        std::fs::remove_dir_all(files.join(".git"))?;
        let context = Subject {
            dockerfile: Dockerfile::Path("Dockerfile".to_owned()),
            source: Some(GitSource {
                repository: served.url(),
                commits: vec![served.commit().to_owned()],
            }),
            archive: Archive::Directory(files),
            runs: false,
        };
        Ok(vec![
            self.pairs_of(site, "all steps cached", &cached).await?,
            self.pairs_of(site, "a step that runs", &running).await?,
            self.pairs_of(site, "a context from git", &context).await?,
        ])
    }

    async fn pairs_of(
        &self,
        site: &Site,
        name: &'static str,
        subject: &Subject,
    ) -> anyhow::Result<Build> {
        let mut number = 0;
        let mut next = || {
            number += 1;
            subject.runs.then(|| format!("RUN_NUMBER={number}"))
        };
        // Fills the caches.
        site.through_the_cluster(subject, next()).await?;
        site.direct(subject, next()).await?;
        let (mut pairs, mut git) = (Pairs::default(), Pairs::default());
        for pair in 0..self.pairs {
            let (ours, theirs) = if pair % 2 == 0 {
                let ours = site.through_the_cluster(subject, next()).await?;
                tokio::time::sleep(BREATH).await;
                (ours, site.direct(subject, next()).await?)
            } else {
                let theirs = site.direct(subject, next()).await?;
                tokio::time::sleep(BREATH).await;
                (site.through_the_cluster(subject, next()).await?, theirs)
            };
            tokio::time::sleep(BREATH).await;
            pairs.add(ours.all.saturating_sub(ours.git), theirs);
            git.add(ours.git, theirs);
        }
        Ok(Build {
            name,
            times: pairs.compare()?,
            git_ms: match subject.source {
                Some(_) => Some(git.compare()?.ours_ms),
                None => None,
            },
        })
    }
}

/// What is built.
struct Subject {
    dockerfile: Dockerfile,
    source: Option<GitSource>,
    archive: Archive,
    /// Whether each build has an argument of its own, so that a step runs.
    runs: bool,
}

impl Subject {
    /// A build without any files but its Dockerfile.
    fn of_text(dockerfile: String, runs: bool) -> anyhow::Result<Self> {
        Ok(Self {
            archive: archive_of_text(&dockerfile)?,
            dockerfile: Dockerfile::Contents(dockerfile),
            source: None,
            runs,
        })
    }
}

/// What a direct build sends.
enum Archive {
    Ready(Vec<u8>),
    Directory(std::path::PathBuf),
}

fn archive_of_text(dockerfile: &str) -> anyhow::Result<Archive> {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(dockerfile.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, "Dockerfile", dockerfile.as_bytes())?;
    Ok(Archive::Ready(archive.into_inner()?))
}

fn archive_of_directory(directory: &Path) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all("", directory)?;
    Ok(archive.into_inner()?)
}

/// How long a job took.
struct Took {
    all: Duration,
    git: Duration,
}

/// Where builds are made.
struct Site {
    client: Client,
    pool: String,
    docker: Docker,
    label: String,
}

impl Site {
    async fn through_the_cluster(
        &self,
        subject: &Subject,
        argument: Option<String>,
    ) -> anyhow::Result<Took> {
        let spec = JobSpec {
            action: Action::Docker(DockerBuild {
                dockerfile: subject.dockerfile.clone(),
                push: None,
                build_args: argument.into_iter().collect(),
                squash: false,
                buildkit: false,
                include_git: false,
            }),
            cache_hint: "bench-overhead".to_owned(),
            source: subject.source.clone(),
            secrets: Vec::new(),
        };
        let started = Instant::now();
        let job = self.client.submit(&self.pool, &spec, false)?;
        let (mut git, mut text) = (Duration::ZERO, Vec::new());
        let read_log = async {
            let mut log = std::pin::pin!(job.log(0));
            while let Some(chunk) = log.next().await {
                text.extend_from_slice(&chunk?);
                let is_checked_out = || String::from_utf8_lossy(&text).contains(CHECKED_OUT);
                if git.is_zero() && subject.source.is_some() && is_checked_out() {
                    git = started.elapsed();
                }
            }
            anyhow::Ok(())
        };
        let (log, result) = tokio::join!(read_log, job.result());
        let all = started.elapsed();
        log.context("cannot read a job's log")?;
        result.with_context(|| format!("a build failed:\n{}", String::from_utf8_lossy(&text)))?;
        ensure!(
            subject.source.is_none() || !git.is_zero(),
            "no line {CHECKED_OUT:?} in a job's log"
        );
        Ok(Took { all, git })
    }

    async fn direct(
        &self,
        subject: &Subject,
        argument: Option<String>,
    ) -> anyhow::Result<Duration> {
        let started = Instant::now();
        let archive = match &subject.archive {
            Archive::Ready(bytes) => bytes.clone(),
            Archive::Directory(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || archive_of_directory(&path)).await??
            }
        };
        let options = BuildImageOptionsBuilder::new()
            .dockerfile("Dockerfile")
            .rm(true)
            .forcerm(true)
            .version(BuilderVersion::BuilderV1);
        let options = match argument
            .as_deref()
            .and_then(|argument| argument.split_once('='))
        {
            Some((name, value)) => options.buildargs(&[(name, value)].into()),
            None => options,
        };
        let mut answer = std::pin::pin!(self.docker.build_image(
            options.build(),
            None,
            Some(body_full(archive.into()))
        ));
        let mut image = None;
        while let Some(message) = answer.next().await {
            match message {
                Ok(message) => image = message.aux.and_then(|aux| aux.id).or(image),
                // The client library wants more after a line end that arrives apart from its message.
                Err(_) if image.is_some() => break,
                Err(error) => return Err(error).context("a direct build failed"),
            }
        }
        if image.is_none() {
            bail!("a direct build ended without an image");
        }
        Ok(started.elapsed())
    }

    /// Removes everything that was built here, on both sides.
    async fn remove_images(&self) -> anyhow::Result<()> {
        let filters = [("label", vec![format!("{LABEL}={}", self.label)])].into();
        let options = ListImagesOptionsBuilder::new()
            .all(true)
            .filters(&filters)
            .build();
        let remove = RemoveImageOptionsBuilder::new().force(true).build();
        let mut left = usize::MAX;
        loop {
            // An image goes only after its children, and the list does not say who is whose: asked again until nothing changes.
            let images = self.docker.list_images(Some(options.clone())).await?;
            if images.is_empty() || images.len() >= left {
                return Ok(());
            }
            left = images.len();
            for image in images {
                // One that still has children is refused, and goes in the next round.
                let _ = self
                    .docker
                    .remove_image(&image.id, Some(remove.clone()), None)
                    .await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(ours: u64, theirs: u64) -> Build {
        let mut pairs = Pairs::default();
        pairs.add(Duration::from_millis(ours), Duration::from_millis(theirs));
        Build {
            name: "a build",
            times: pairs.compare().unwrap(),
            git_ms: None,
        }
    }

    #[test]
    fn a_short_build_may_use_up_the_grace_and_a_long_one_the_percentage() {
        assert!(build(140, 50).is_within(5.0, 100.0));
        assert!(!build(160, 50).is_within(5.0, 100.0));
        assert!(build(10_400, 10_000).is_within(5.0, 100.0));
        assert!(!build(10_600, 10_000).is_within(5.0, 100.0));
    }
}
