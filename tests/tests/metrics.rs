//! What Prometheus and load balancers see.

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{Cluster, Dockerfile, Exposition, SOON, Story, Submission, WorkerOptions};

/// Name and type of every metric of the scheduler that dashboards of OCluster use.
const SCHEDULER: [(&str, &str); 11] = [
    ("ocluster_pool_jobs_submitted_total", "counter"),
    ("ocluster_pool_jobs_cancelled_total", "counter"),
    ("ocluster_pool_jobs_accepted_total", "counter"),
    ("ocluster_pool_workers_connected", "gauge"),
    ("ocluster_pool_workers_capacity", "gauge"),
    ("ocluster_pool_queue_length", "gauge"),
    ("ocluster_pool_workers_ready", "gauge"),
    ("ocluster_pool_workers_paused", "gauge"),
    ("ocluster_scheduler_client_submitted_jobs", "gauge"),
    ("process_start_time_seconds", "gauge"),
    ("process_cpu_seconds_total", "counter"),
];

#[test]
fn the_scheduler_s_metrics_are_in_the_standard_form_and_count() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a cluster that has done one job, cancelled one, and has one running and one waiting,
        let mut cluster = Cluster::start(story)?;
        let _w1 = cluster.add_worker("w1")?;
        let _w2 = cluster.add_worker_with(WorkerOptions::named("w2").capacity(4))?;
        cluster.admin(&["pause", "linux", "w2"])?.success()?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        alice
            .submit(&Submission::of(
                &Dockerfile::from(&base).step("RUN echo one"),
            ))?
            .success()?;
        let gated = Dockerfile::from(&base).gate();
        let mut running = alice.start_to_the_gate(&Submission::of(&gated))?;
        let mut cancelled =
            alice.start(&Submission::of(&Dockerfile::from(&base)).hint("cancelled"))?;
        cluster.wait_for_show("linux", "a job to wait", SOON, |show| {
            show.contains("alice:cancelled@")
        })?;
        cancelled.kill()?;
        cluster.wait_for_show("linux", "an empty queue", SOON, |show| {
            !show.contains("alice:cancelled@")
        })?;
        let mut waiting = alice.start(
            &Submission::of(&Dockerfile::from(&base))
                .hint("waiting")
                .flag("--urgent"),
        )?;
        cluster.wait_for_show("linux", "a job to wait", SOON, |show| {
            show.contains("alice:waiting@")
        })?;

        // when Prometheus asks,
        let answer = cluster.get("/metrics")?;
        ensure!(answer.status == 200);
        let kind = answer.header("content-type").unwrap_or_default();
        ensure!(
            kind.starts_with("text/plain; version=0.0.4"),
            "Content-Type: {kind}"
        );
        let page = Exposition::parse(&answer.body)?;

        // then every name it knows is there, with its type and a help text,
        for (name, kind) in SCHEDULER {
            ensure!(
                page.type_of(name) == Some(kind),
                "{name} is {:?}, not {kind}:\n{}",
                page.type_of(name),
                answer.body
            );
            ensure!(
                page.help_of(name).is_some_and(|help| !help.is_empty()),
                "{name} has no help"
            );
        }
        // and the numbers are right.
        let pool = ("pool", "linux");
        let queue_length = "ocluster_pool_queue_length";
        let client_jobs = "ocluster_scheduler_client_submitted_jobs";
        for (name, labels, expected) in [
            ("ocluster_pool_jobs_submitted_total", vec![pool], 4.0),
            ("ocluster_pool_jobs_accepted_total", vec![pool], 2.0),
            ("ocluster_pool_jobs_cancelled_total", vec![pool], 1.0),
            ("ocluster_pool_workers_connected", vec![pool], 2.0),
            ("ocluster_pool_workers_capacity", vec![pool], 5.0),
            ("ocluster_pool_workers_paused", vec![pool], 1.0),
            (
                client_jobs,
                vec![pool, ("client", "alice"), ("priority", "high")],
                1.0,
            ),
            (
                client_jobs,
                vec![pool, ("client", "alice"), ("priority", "low")],
                0.0,
            ),
        ] {
            let value = page.value(name, &labels);
            ensure!(
                value == Some(expected),
                "{name}{labels:?} is {value:?}, not {expected}:\n{}",
                answer.body
            );
        }
        let queued = |priority: &str| -> f64 {
            let of = |(key, value): (&str, &str), sample: &ocluster_tests::Sample| {
                sample.labels.get(key).is_some_and(|its| its == value)
            };
            let samples = page
                .samples()
                .iter()
                .filter(|sample| sample.name == queue_length);
            samples
                .filter(|sample| of(("priority", priority), sample))
                .map(|sample| sample.value)
                .sum()
        };
        ensure!(
            (queued("high"), queued("low")) == (1.0, 0.0),
            "the queue's length is wrong:\n{}",
            answer.body
        );

        // And when all is done, every queue is empty again.
        story.engine()?.open_gate(&gated)?;
        ensure!(running.wait_exit(SOON)?.success() && waiting.wait_exit(SOON)?.success());
        cluster.wait_for_metric(
            client_jobs,
            &[("client", "alice"), ("priority", "high")],
            0.0,
        )?;
        let lengths = cluster.metrics()?;
        ensure!(
            lengths
                .samples()
                .iter()
                .filter(|sample| sample.name == queue_length)
                .all(|sample| sample.value == 0.0)
        );
        Ok(())
    })
}

#[test]
fn pages_that_do_not_exist_are_refused_with_a_reason() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        for path in ["/nothing", "/", "/metrics/more"] {
            let answer = cluster.get(path)?;
            ensure!(
                answer.status == 400 && answer.body.contains("Error: Bad request"),
                "GET {path}: {answer:?}"
            );
        }
        // Empty segments do not matter.
        ensure!(cluster.get("//metrics/")?.status == 200);
        Ok(())
    })
}

#[test]
fn health_is_what_a_load_balancer_asks_for() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a scheduler that serves, it says so;
        let mut cluster = Cluster::start(story)?;
        let answer = cluster.get("/health")?;
        ensure!(answer.status == 200, "{answer:?}");
        // when it has stopped, nobody answers.
        cluster.stop_scheduler()?;
        let refused = cluster
            .get("/health")
            .err()
            .context("somebody still answers")?;
        ensure!(refused.to_string().contains("nothing at"), "{refused:#}");
        Ok(())
    })
}
