//! Secrets and payloads that nobody expects: each arrives as it is or is refused with a sentence, and the next job is done as ever.

mod attacker;

use std::fs;

use anyhow::{Context as _, Result, ensure};
use attacker::{Intruder, attack};
use futures::StreamExt as _;
use ocluster_api::{Action, CustomJob, JobSpec, TEST_KIND, TestStep, test_job};
use ocluster_tests::{Client, Cluster, SOON, Story, Submission, WorkerOptions};

#[test]
fn secrets_with_odd_ids_and_contents_arrive_as_they_are() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        // Given secrets that are empty, binary, of several megabytes, and with ids of all sorts,
        let long_id = "x".repeat(1000);
        let secrets: Vec<(&str, Vec<u8>)> = vec![
            ("empty", Vec::new()),
            ("binary", (0..=255).cycle().take(100_000).collect()),
            ("large", b"0123456789abcdef".repeat(200_000)),
            ("line ends kept", b"\r\nvalue\n\n".to_vec()),
            ("../../etc/passwd", b"a".to_vec()),
            ("a=b,src=/etc/shadow", b"b".to_vec()),
            ("$(id); \"'", b"c".to_vec()),
            ("\u{fc}\u{1F980}", b"d".to_vec()),
            (&long_id, b"e".to_vec()),
        ];
        let mut submission = Submission::of_text("FROM scratch\n");
        for (number, (id, value)) in secrets.iter().enumerate() {
            let file = story.scratch.join(format!("secret-{number}"));
            fs::write(&file, value)?;
            submission = submission.flag(&format!("--secret={id}:{}", file.display()));
        }
        // when they are submitted together,
        let mut job = alice.start(&submission)?;
        let spec = attack(async || {
            let worker = Intruder::with(&cluster.secret("pool-linux.cap")).await?;
            worker.join("w1").await?.next_spec().await
        })?;
        // then the worker gets exactly those.
        ensure!(spec.secrets.len() == secrets.len());
        for (got, (id, value)) in spec.secrets.iter().zip(&secrets) {
            ensure!(got.id == *id, "{} instead of {id}", got.id);
            ensure!(
                got.value.expose() == value.as_slice(),
                "{id} has changed on its way"
            );
        }
        job.wait_exit(SOON)?;
        Ok(())
    })
}

#[test]
fn a_secret_that_cannot_be_sent_is_refused_by_the_client() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        let build = Submission::of_text("FROM scratch\n");
        // A file that is not there, or is a directory, is named;
        let missing = story.scratch.join("missing");
        let refused = alice.submit(
            &build
                .clone()
                .flag(&format!("--secret=id:{}", missing.display())),
        )?;
        refused.fails_saying(&["missing"])?;
        let directory = story.scratch.directory("a-directory")?;
        let refused = alice.submit(
            &build
                .clone()
                .flag(&format!("--secret=id:{}", directory.display())),
        )?;
        refused.fails_saying(&["a-directory"])?;
        // one that is larger than any message may be, or several that are so together, are told to be;
        let huge = story.scratch.join("huge");
        fs::File::create(&huge)?.set_len(80 << 20)?;
        let flag = format!("--secret=id:{}", huge.display());
        let refused = alice.submit(&build.clone().flag(&flag))?;
        refused.fails_saying(&["huge", "all that a job can carry"])?;
        fs::File::create(&huge)?.set_len(40 << 20)?;
        let refused = alice.submit(&build.clone().flag(&flag).flag(&flag))?;
        refused.fails_saying(&["the job is too large with", "all that a job can carry"])?;
        // and none of that reaches the scheduler, which takes the next job as ever.
        ensure!(cluster.scheduler()?.is_running()?);
        let mut job = alice.start(&build.hint("next"))?;
        cluster.wait_for_show("linux", "the next job", SOON, |show| {
            show.contains("alice:next@")
        })?;
        job.interrupt()?;
        job.wait_exit(SOON)?;
        Ok(())
    })
}

#[test]
fn payloads_that_are_not_what_their_kind_expects_fail_with_a_sentence() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a worker that does test jobs and no other custom ones,
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker_with(WorkerOptions::named("w1").test_jobs())?;
        let alice = cluster.add_client("alice")?;
        let no_text = "the payload of a test job must be a text";
        let no_steps = "the steps of a test job cannot be read";
        let of_text = |kind: &str, text: &str| CustomJob::new(kind, |mut root| root.set_as(text));
        let jobs = vec![
            // payloads that are nothing, a structure, or a list,
            (CustomJob::new(TEST_KIND, |_| Ok(()))?, no_steps),
            (CustomJob::new(TEST_KIND, a_structure)?, no_text),
            (CustomJob::new(TEST_KIND, a_list)?, no_text),
            // texts that are no steps,
            (of_text(TEST_KIND, "")?, no_steps),
            (of_text(TEST_KIND, "{\"print\": \"x\"}")?, no_steps),
            (of_text(TEST_KIND, &"[".repeat(100_000))?, no_steps),
            (of_text(TEST_KIND, "[{\"sleep_ms\": -1}]")?, "invalid value"),
            (
                CustomJob::new(TEST_KIND, |mut root| {
                    root.set_as(capnp::text::Reader(b"\xff"))
                })?,
                "must be UTF-8",
            ),
            // and kinds that this worker does not know.
            (of_text("", "x")?, "Unsupported custom job"),
            (of_text("nix", "x")?, "Unsupported custom job"),
            (
                of_text(&"k".repeat(1 << 20), "x")?,
                "Unsupported custom job",
            ),
        ];
        for (job, sentence) in jobs {
            // When such a job is run,
            let (result, log) = run(&alice, job)?;
            // then its log says what is wrong, and it has failed like other builds.
            ensure!(
                log.contains(sentence),
                "not {sentence:?}: {result:?}\n{log}"
            );
            ensure!(
                !log.contains("exception") && !log.contains("nternal error"),
                "{log}"
            );
            ensure!(
                result.is_err_and(|error| error.contains("Build failed")),
                "{log}"
            );
        }
        // And what is well formed is done by the same worker.
        let (result, log) = run(
            &alice,
            test_job(&[TestStep::Print("well done".to_owned())])?,
        )?;
        ensure!(result == Ok(()) && log.contains("well done"), "{log}");
        ensure!(worker.process().is_running()?);
        Ok(())
    })
}

fn a_structure(root: capnp::any_pointer::Builder<'_>) -> capnp::Result<()> {
    let mut other: ocluster_api::cluster_capnp::secret::Builder<'_> = root.init_as();
    other.set_id("a structure");
    Ok(())
}

fn a_list(root: capnp::any_pointer::Builder<'_>) -> capnp::Result<()> {
    root.initn_as::<capnp::text_list::Builder<'_>>(3);
    Ok(())
}

/// Runs a custom job, and gives its verdict and its log.
fn run(client: &Client<'_>, job: CustomJob) -> Result<(Result<(), String>, String)> {
    attack(async || {
        let client = Intruder::with(client.cap()).await?;
        let spec = JobSpec {
            action: Action::Custom(job),
            cache_hint: String::new(),
            source: None,
            secrets: Vec::new(),
        };
        let job = client.submit_spec("linux", &spec)?;
        let result = tokio::time::timeout(SOON, job.result())
            .await
            .context("no result")?;
        let mut log = Vec::new();
        let mut pieces = std::pin::pin!(job.log(0));
        while let Some(piece) = pieces.next().await {
            log.extend_from_slice(&piece?);
        }
        let result = result.map(drop).map_err(|error| error.to_string());
        Ok((result, String::from_utf8_lossy(&log).into_owned()))
    })
}
