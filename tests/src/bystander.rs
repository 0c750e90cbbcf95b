//! Somebody whose job runs while others misbehave, and who must not notice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::client::{Client, Submission};
use crate::cluster::Cluster;
use crate::dockerfile::Dockerfile;
use crate::engine::Engine;
use crate::process::Process;
use crate::story::Story;
use crate::worker::{Worker, WorkerOptions};

/// How long the rest of the build may take once its gate is open.
const LIMIT: Duration = Duration::from_secs(60);

/// A running job of another client, on a worker and in a pool of its own.
pub struct Bystander<'a> {
    engine: Engine,
    dockerfile: Dockerfile,
    job: Process,
    client: Client<'a>,
    story: &'a Story,
    _worker: Worker<'a>,
}

impl<'a> Bystander<'a> {
    /// The pool which the cluster must have for bystanders.
    pub const POOL: &'static str = "bystanders";

    /// Starts a worker and a job, and returns when that job is in the middle of its build.
    ///
    /// # Errors
    ///
    /// When the job does not get there.
    pub fn start(story: &'a Story, cluster: &mut Cluster<'a>) -> Result<Self> {
        let worker = cluster.add_worker_with(
            WorkerOptions::named("bystander")
                .pool(Self::POOL)
                .capacity(2),
        )?;
        let client = cluster.add_client("bystander")?;
        let dockerfile = Dockerfile::from(&story.base_image()?).gate();
        let job = client.start_to_the_gate(&Submission::of(&dockerfile).pool(Self::POOL))?;
        Ok(Self {
            engine: story.engine()?,
            dockerfile,
            job,
            client,
            story,
            _worker: worker,
        })
    }

    /// Checks that the job has been left alone, lets it end, and does another one.
    ///
    /// # Errors
    ///
    /// When either does not end well.
    pub fn has_noticed_nothing(mut self) -> Result<()> {
        ensure!(
            self.job.is_running()?,
            "the bystander's job was disturbed:\n{}",
            self.job.log()
        );
        self.engine.open_gate(&self.dockerfile)?;
        let status = self.job.wait_exit(LIMIT)?;
        ensure!(
            status.success(),
            "the bystander's job failed:\n{}",
            self.job.log()
        );
        let next = Dockerfile::from(&self.story.base_image()?).step("RUN echo next");
        self.client
            .submit(&Submission::of(&next).pool(Self::POOL))?
            .success()
            .context("the bystander's next job")?;
        Ok(())
    }
}
