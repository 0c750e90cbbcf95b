//! What Prometheus and load balancers see.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Cluster, Daemonless, Dockerfile, Exposition, SOON, Story, Strange, Submission, WorkerOptions,
    free_port, http_get, run, wait_for,
};

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

/// Name and type of every metric of a worker that dashboards of OCluster use.
const WORKER: [(&str, &str); 12] = [
    ("ocluster_worker_jobs_accepted_total", "counter"),
    ("ocluster_worker_job_time_seconds", "summary"),
    ("ocluster_worker_docker_push_time_seconds", "summary"),
    ("ocluster_worker_docker_prune_time_seconds", "summary"),
    ("ocluster_worker_running_jobs", "gauge"),
    ("ocluster_worker_healthcheck_time_seconds", "gauge"),
    ("ocluster_worker_unhealthy", "gauge"),
    ("ocluster_worker_cache_hits", "gauge"),
    ("ocluster_worker_cache_misses", "gauge"),
    ("ocluster_worker_obuilder_space_free", "gauge"),
    ("process_cpu_seconds_total", "counter"),
    ("prometheus_logs_messages_total", "counter"),
];

const FAILED: &str = "Error: Worker metrics collection failed";

/// How long the scheduler may wait for a worker's page, with room for a loaded machine.
const PAGE_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_worker_s_metrics_are_in_the_standard_form_and_count() -> Result<()> {
    Story::tell(&["docker", "obuilder"], |story| {
        // Given a worker with an OBuilder store that has done one job well, failed one, cancelled one, and has one running,
        let mut cluster = Cluster::start(story)?;
        let builds = Daemonless::new(story)?;
        let _worker = cluster.add_worker_with(builds.beside_docker(WorkerOptions::named("w")))?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        let good = Dockerfile::from(&base).step("RUN echo one");
        alice.submit(&Submission::of(&good))?.success()?;
        let bad = Dockerfile::from(&base).step("RUN exit 3");
        alice.submit(&Submission::of(&bad))?.exits_with(1)?;
        let gated = Dockerfile::from(&base).gate();
        let mut cancelled = alice.start_to_the_gate(&Submission::of(&gated))?;
        cancelled.kill()?;
        let page = || -> Result<Exposition> {
            let answer = cluster.get("/pool/linux/worker/w/metrics")?;
            ensure!(answer.status == 200, "{answer:?}");
            let kind = answer.header("content-type");
            ensure!(kind == Some("text/plain; version=0.0.4; charset=utf-8"));
            Exposition::parse(&answer.body)
        };
        let count = "ocluster_worker_job_time_seconds_count";
        wait_for("the job to be cancelled", SOON, || {
            let cancelled = page()?.value(count, &[("result", "cancelled")]);
            Ok((cancelled == Some(1.0)).then_some(()))
        })?;
        let gated = Dockerfile::from(&base).gate();
        let mut running = alice.start_to_the_gate(&Submission::of(&gated))?;

        // when Prometheus asks for its page, then every name is there, with its type and a help text,
        let now = page()?;
        for (name, kind) in WORKER {
            ensure!(
                now.type_of(name) == Some(kind),
                "{name}: {:?}",
                now.type_of(name)
            );
            ensure!(now.help_of(name).is_some_and(|help| !help.is_empty()));
        }
        // and the numbers are right,
        for (name, labels, expected) in [
            ("ocluster_worker_jobs_accepted_total", vec![], 4.0),
            ("ocluster_worker_running_jobs", vec![], 1.0),
            (count, vec![("result", "ok")], 1.0),
            (count, vec![("result", "fail")], 1.0),
            (count, vec![("result", "error")], 0.0),
            ("capnp_net_connections", vec![], 1.0),
        ] {
            let value = now.value(name, &labels);
            ensure!(value == Some(expected), "{name}{labels:?} is {value:?}");
        }
        let took = now.value("ocluster_worker_job_time_seconds_sum", &[("result", "ok")]);
        ensure!(took.is_some_and(|seconds| seconds > 0.0), "{took:?}");

        // also when the job has ended.
        story.engine()?.open_gate(&gated)?;
        ensure!(running.wait_exit(SOON)?.success());
        wait_for("no job to run", SOON, || {
            let running = page()?.value("ocluster_worker_running_jobs", &[]);
            Ok((running == Some(0.0)).then_some(()))
        })?;
        ensure!(page()?.value(count, &[("result", "ok")]) == Some(2.0));
        Ok(())
    })
}

#[test]
fn exporters_that_are_away_slow_or_send_rubbish_hurt_nobody() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a worker whose node exporter is away, and whose other exporters are as they should not be, but for one,
        let mut cluster = Cluster::start(story)?;
        let strange = [
            ("well", Strange::Well, ""),
            ("large", Strange::Large, ""),
            (
                "silent",
                Strange::Silent,
                "did not give its whole page within",
            ),
            ("drip", Strange::Drip, "did not give its whole page within"),
            ("away", Strange::NotFound, "away: 404 Not Found"),
            (
                "untyped",
                Strange::Untyped,
                "Missing Content-Type in HTTP response from untyped",
            ),
            (
                "garbage",
                Strange::Garbage,
                "did not answer as an HTTP server does",
            ),
            (
                "huge",
                Strange::Huge,
                "more than the 33554432 bytes that are allowed",
            ),
            ("binary", Strange::Binary, "is not UTF-8 text"),
        ];
        let mut options = WorkerOptions::named("w").flag(&format!(
            "--node-exporter=http://127.0.0.1:{}/",
            free_port()?
        ));
        for (name, exporter, _) in strange {
            let url = exporter.start()?;
            options = options.flag(&format!("--additional-metrics={name}:{url}"));
        }
        let _worker = cluster.add_worker_with(options)?;
        let port = cluster.http_port();
        let get = |page: &str| http_get(port, &format!("/pool/linux/worker/w/{page}"));

        thread::scope(|scope| -> Result<()> {
            // when all are asked at once,
            let asked: Vec<_> = strange
                .iter()
                .map(|(name, ..)| (*name, scope.spawn(|| get(name))))
                .collect();
            let host = get("host-metrics")?;
            ensure!(
                (host.status, host.body.as_str()) == (500, FAILED),
                "{host:?}"
            );
            // the worker's own page and the scheduler's are there meanwhile,
            ensure!(get("metrics")?.status == 200);
            ensure!(cluster.get("/metrics")?.status == 200);
            for (name, answer) in asked {
                let answer = answer.join().ok().context("a panic")??;
                let answer = (answer.status, answer.body.as_str());
                match name {
                    "well" => ensure!(answer == (200, "up 1\n"), "{answer:?}"),
                    // As large as a page may be, nearly.
                    "large" => ensure!((answer.0, answer.1.len()) == (200, 30_000_000)),
                    name => ensure!(answer == (500, FAILED), "{name}: {answer:?}"),
                }
            }
            Ok(())
        })?;

        // then the scheduler's log tells what was wrong with each,
        let log = cluster.scheduler()?.log();
        let host = "Failed to connect to prometheus-node-exporter";
        for reason in strange.map(|(.., reason)| reason).iter().chain([&host]) {
            ensure!(log.contains(reason), "not logged: {reason}\n{log}");
        }
        // nothing was kept of what they sent,
        let page = Exposition::parse(&get("metrics")?.body)?;
        let memory = page.value("process_resident_memory_bytes", &[]);
        ensure!(
            memory.is_some_and(|bytes| bytes < 400e6),
            "the worker has {memory:?} bytes"
        );
        // and a name that is not configured is none.
        let unknown = get("ups")?;
        ensure!((unknown.status, unknown.body.as_str()) == (404, "Not found"));
        Ok(())
    })
}

#[test]
fn a_worker_that_stands_still_gives_a_500_in_time_while_everything_else_goes_on() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut frozen = cluster.add_worker("frozen")?;
        let _well = cluster.add_worker("well")?;
        let port = cluster.http_port();
        let page_of = |name: &str| http_get(port, &format!("/pool/linux/worker/{name}/metrics"));
        ensure!(page_of("frozen")?.status == 200);
        frozen.process().freeze()?;
        let asked = Instant::now();
        let answer = thread::scope(|scope| -> Result<_> {
            let waiting = scope.spawn(|| page_of("frozen"));
            let mut others = 0;
            while !waiting.is_finished() {
                ensure!(cluster.get("/metrics")?.status == 200);
                ensure!(page_of("well")?.status == 200);
                others += 1;
                thread::sleep(Duration::from_millis(100));
            }
            ensure!(others > 1, "nobody else was served meanwhile");
            waiting.join().ok().context("a panic")?
        })?;
        let took = asked.elapsed();
        let said = (answer.status, answer.body.as_str());
        ensure!(said == (500, FAILED), "{answer:?}");
        ensure!(took < PAGE_LIMIT, "it took {took:?}");
        let log = cluster.scheduler()?.log();
        ensure!(
            log.contains("Collecting metrics from worker \"frozen\" failed"),
            "{log}"
        );
        // When it goes on, its page is back, if only after it has registered again.
        frozen.process().thaw()?;
        wait_for("the page to be back", SOON, || {
            Ok((page_of("frozen")?.status == 200).then_some(()))
        })
    })
}

#[test]
fn mistakes_about_exporters_are_told_at_once() -> Result<()> {
    Story::tell(&[], |story| {
        let worker = |flag: &str| {
            let mut command = story.programs.command("ocluster-worker");
            command
                .args(["capnp://insecure@127.0.0.1:1/c2VjcmV0", "--name=w"])
                .arg(format!("--state-dir={}", story.scratch.join("w").display()))
                .arg(flag);
            run(&mut command)
        };
        let twice = "--additional-metrics=x:http://127.0.0.1/a,x:http://127.0.0.1/b";
        worker(twice)?
            .exits_with(125)?
            .fails_saying(&["Duplicate additional metrics name: x"])?;
        for (flag, reason) in [
            ("--additional-metrics=gpu", "NAME:URL"),
            ("--additional-metrics=gpu:https://127.0.0.1/", "http://"),
            ("--node-exporter=here", "not a URL"),
        ] {
            worker(flag)?.exits_with(124)?.fails_saying(&[reason])?;
        }
        Ok(())
    })
}
