//! OBuilder jobs through the whole cluster, on a worker that has no Docker engine: runc, overlayfs, and a base image from a file.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Client, Cluster, ClusterOptions, Daemonless, Dockerfile, GitDaemon, Repository, SOON, Story,
    Submission, WorkerOptions, wait_for,
};

const LIMIT: Duration = Duration::from_secs(60);

/// A cluster whose only worker has no engine, a client, and what is left of builds.
fn daemonless(
    flags: &[&str],
    tell: impl Fn(&Story, &mut Cluster<'_>, &Client<'_>, &Daemonless) -> Result<()>,
) -> Result<()> {
    Story::tell(&["obuilder"], |story| {
        let builds = Daemonless::new(story)?;
        let mut cluster = Cluster::start(story)?;
        let options = flags
            .iter()
            .fold(WorkerOptions::named("w1").capacity(4), |options, flag| {
                options.flag(flag)
            });
        let mut worker = cluster.add_worker_with(builds.worker(options))?;
        let alice = cluster.add_client("alice")?;
        tell(story, &mut cluster, &alice, &builds)?;
        worker.process().terminate(LIMIT)?;
        builds.is_clean()
    })
}

/// What a log says, without the colours and times of remarks.
fn plain(log: &str) -> String {
    let mut plain = String::new();
    for line in log.lines() {
        let line = match line.strip_prefix("\u{1b}[01;2m\u{1b}[01;35m") {
            // A time of 19 characters and a space come first.
            Some(note) => note.get(20..).unwrap_or(note),
            None => line,
        };
        plain.push_str(&line.replace("\u{1b}[01;34m", "").replace("\u{1b}[0m", ""));
        plain.push('\n');
    }
    plain
}

/// How many steps worker `w1` found, and how many not.
fn uses(cluster: &Cluster<'_>) -> Result<(f64, f64)> {
    let page = cluster.get("/pool/linux/worker/w1/metrics")?.body;
    let page = ocluster_tests::Exposition::parse(&page)?;
    page.value("ocluster_worker_cache_hits", &[])
        .zip(page.value("ocluster_worker_cache_misses", &[]))
        .context("the worker does not count hits and misses")
}

#[test]
fn a_build_is_logged_as_by_ocluster_and_found_the_second_time() -> Result<()> {
    daemonless(&[], |_, cluster, alice, builds| {
        let spec = builds.spec(r#"(run (shell "echo hello obuilder; uname -s"))"#);
        let built = alice.submit(&Submission::of_spec(&spec))?.success()?;
        let log = &built.stdout;
        // Headings, remarks and output have the bytes that tools know.
        ensure!(
            log.contains("\nBuilding on w1\n\n\u{1b}[01;34m(from "),
            "{log}"
        );
        let heading =
            "\n\u{1b}[01;34m/: (run (shell \"echo hello obuilder; uname -s\"))\u{1b}[0m\n";
        let (_, after) = log.split_once(heading).with_context(|| log.clone())?;
        let note = after
            .strip_prefix("hello obuilder\nLinux\n\u{1b}[01;2m\u{1b}[01;35m")
            .with_context(|| log.clone())?;
        let (time, rest) = note
            .split_once(" ---> saved as \"")
            .with_context(|| log.clone())?;
        ensure!(
            time.len() == 19 && time.as_bytes()[16] == b'.',
            "the time is {time:?}"
        );
        let (id, rest) = rest
            .split_once("\"\u{1b}[0m\n")
            .with_context(|| log.clone())?;
        ensure!(id.len() == 64, "the id is {id:?}");
        // The result is the last step's id.
        ensure!(rest.starts_with("Job succeeded\n"), "{rest:?}");
        ensure!(built.last_line().contains(id), "{built}");

        // The second time all is found, with the same output and the same result,
        let before = uses(cluster)?;
        let cached = alice.submit(&Submission::of_spec(&spec))?.success()?;
        let text = plain(&cached.stdout);
        ensure!(
            text.contains(&format!(
                "hello obuilder\nLinux\n---> using \"{id}\" from cache\n"
            )) && !text.contains("saved as"),
            "{text}"
        );
        ensure!(cached.last_line() == built.last_line(), "{cached}");
        // and both are counted.
        let after = uses(cluster)?;
        ensure!(
            after == (before.0 + 2.0, before.1),
            "hits and misses were {before:?} and are {after:?}"
        );
        let page = cluster.get("/pool/linux/worker/w1/metrics")?.body;
        ensure!(page.contains("\nocluster_worker_unhealthy 0\n"), "{page}");
        ensure!(
            page.contains("\nocluster_worker_obuilder_space_free "),
            "{page}"
        );
        Ok(())
    })
}

#[test]
fn a_failing_step_is_the_jobs_failure_and_runs_again_the_next_time() -> Result<()> {
    daemonless(&[], |_, _, alice, builds| {
        let spec = builds.spec(r#"(run (shell "echo going down; exit 7"))"#);
        for _ in 0..2 {
            let failed = alice.submit(&Submission::of_spec(&spec))?.exits_with(1)?;
            let text = plain(&failed.stdout);
            ensure!(
                text.contains(
                    "\ngoing down\n\"/bin/sh\" \"-c\" \"echo going down; exit 7\" failed with exit status 7\n"
                ),
                "{text}"
            );
            ensure!(failed.last_line() == "Failed: Build failed.", "{failed}");
        }
        Ok(())
    })
}

#[test]
fn a_commits_files_are_copied_without_its_history() -> Result<()> {
    Story::tell(&["obuilder"], |story| {
        let builds = Daemonless::new(story)?;
        let repository = Repository::new(&story.scratch.join("repos/hello"))?;
        let commit = repository.commit("Say hello", &[("greeting", "hello from the commit\n")])?;
        let server =
            GitDaemon::start(&story.scratch.join("repos"), &story.scratch.log_file("git"))?;
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(builds.worker(WorkerOptions::named("w1")))?;
        let alice = cluster.add_client("alice")?;
        let spec = builds.spec(
            r#"(user (uid 1000) (gid 1000)) (copy (src .) (dst /src/)) (run (shell "ls -A /src; cat /src/greeting; stat -c %u:%g /src/greeting"))"#,
        );
        let job = Submission::of_spec(&spec).from(&server.url("hello"), &[&commit]);
        let built = alice.submit(&job)?.success()?;
        let text = plain(&built.stdout);
        ensure!(
            text.contains("\ngreeting\nhello from the commit\n1000:1000\n--->"),
            "{text}"
        );
        Ok(())
    })
}

#[test]
fn secrets_reach_their_steps_and_nothing_else() -> Result<()> {
    daemonless(&[], |story, _, alice, builds| {
        let value = "the cat is called whiskers";
        let file = story.scratch.write("pet", value)?;
        let spec = builds.spec(
            r#"(run (secrets (pet (target /run/secrets/pet))) (shell "wc -c < /run/secrets/pet; cp /run/secrets/pet /dev/null"))"#,
        );
        let job = Submission::of_spec(&spec);
        let missing = alice.submit(&job)?.exits_with(1)?;
        ensure!(
            missing
                .stdout
                .contains("Couldn't find value for requested secret 'pet'"),
            "{missing}"
        );
        let job = job.flag(&format!("--secret=pet:{}", file.display()));
        let built = alice.submit(&job)?.success()?;
        ensure!(
            plain(&built.stdout).contains(&format!("\n{}\n--->", value.len())),
            "{built}"
        );
        // No file of the store has it.
        let mut directories = vec![builds.store().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    directories.push(entry.path());
                } else if kind.is_file() {
                    let content = fs::read(entry.path())?;
                    let found = content
                        .windows(value.len())
                        .any(|part| part == value.as_bytes());
                    ensure!(!found, "it is in {}", entry.path().display());
                }
            }
        }
        Ok(())
    })
}

#[test]
fn a_cancelled_job_leaves_nothing_running() -> Result<()> {
    daemonless(&[], |_, _, alice, builds| {
        let spec = builds.spec(
            r#"(run (cache (c (target /c))) (shell "sleep 1000 & setsid sleep 1000 & echo step is up; wait"))"#,
        );
        let mut job = alice.start(&Submission::of_spec(&spec))?;
        job.wait_for_log("\nstep is up\n")?;
        job.interrupt()?;
        job.wait_exit(LIMIT)?;
        wait_for("nothing to be left of the step", LIMIT, || {
            Ok(builds.is_clean().is_ok().then_some(()))
        })
    })
}

#[test]
fn a_worker_that_is_told_to_stop_in_a_step_leaves_nothing() -> Result<()> {
    daemonless(&[], |_, _, alice, builds| {
        let spec = builds.spec(
            r#"(run (cache (c (target /c))) (shell "echo > /c/file; echo step is up; sleep 1000"))"#,
        );
        let mut job = alice.start(&Submission::of_spec(&spec))?;
        // The story ends here: the worker stops in order, and nothing may be left then.
        job.wait_for_log("\nstep is up\n")
    })
}

#[test]
fn a_step_that_takes_more_than_the_worker_gives_says_so() -> Result<()> {
    let flags = [
        "--obuilder-memory=64M",
        "--obuilder-step-time=2s",
        "--obuilder-step-output=1M",
    ];
    daemonless(&flags, |_, _, alice, builds| {
        for (command, words) in [
            ("tail /dev/zero", "memory"),
            ("sleep 1000", "a step may take 2s"),
            ("yes", "it printed too much"),
        ] {
            let spec = builds.spec(&format!("(run (shell \"{command}\"))"));
            let failed = alice.submit(&Submission::of_spec(&spec))?.exits_with(1)?;
            let log = plain(&failed.stdout);
            let last = log.lines().rev().nth(1).unwrap_or_default();
            ensure!(last.contains(words), "{command}: {last:?}");
        }
        Ok(())
    })
}

#[test]
fn what_is_no_spec_is_refused_with_its_place() -> Result<()> {
    daemonless(&[], |_, _, alice, builds| {
        for (spec, words) in [
            ("", "incomplete"),
            ("((from x)", "incomplete"),
            ("((from x)\n (run (shell a) (shell b)))", "line 2"),
            ("((run (shell a)))", "Invalid spec"),
            ("((from rootfs:/etc/shadow))", "rootfs:/etc/shadow"),
            ("((from rootfs:../x))", "absolute"),
        ] {
            let failed = alice.submit(&Submission::of_spec(spec))?.exits_with(1)?;
            ensure!(failed.stdout.contains(words), "{spec:?}: {failed}");
            ensure!(!failed.stdout.contains("Uncaught"), "{failed}");
        }
        // The worker goes on.
        let spec = builds.spec(r#"(run (shell "echo fine"))"#);
        alice.submit(&Submission::of_spec(&spec))?.success()?;
        Ok(())
    })
}

#[test]
fn docker_and_obuilder_jobs_run_side_by_side_on_one_worker() -> Result<()> {
    Story::tell(&["docker", "obuilder"], |story| {
        let builds = Daemonless::new(story)?;
        let base = story.base_image()?;
        let mut cluster = Cluster::start(story)?;
        let options = builds.beside_docker(WorkerOptions::named("w1").capacity(2));
        let _worker = cluster.add_worker_with(options)?;
        let alice = cluster.add_client("alice")?;
        // A Docker build waits in the middle,
        let dockerfile = Dockerfile::from(&base).gate();
        let docker = alice.start_to_the_gate(&Submission::of(&dockerfile))?;
        // while an OBuilder build begins and ends.
        let spec = builds.spec(r#"(run (shell "echo side by side"))"#);
        let built = alice.submit(&Submission::of_spec(&spec))?.success()?;
        ensure!(built.stdout.contains("\nside by side\n"), "{built}");
        ensure!(!docker.log().contains("Job succeeded"), "it did not wait");
        Ok(())
    })
}

#[test]
fn a_worker_that_cannot_build_says_why_and_takes_no_jobs_until_it_can() -> Result<()> {
    Story::tell(&["obuilder"], |story| {
        // Given a worker whose runtime works,
        let builds = Daemonless::new(story)?;
        let runtime = story.scratch.join("runtime");
        let works = |works: bool| -> Result<()> {
            let script = if works {
                "#!/bin/sh\nexec runc \"$@\"\n"
            } else {
                "#!/bin/sh\necho the runtime is unwell >&2; exit 1\n"
            };
            let new = story.scratch.write("runtime.new", script)?;
            fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
            Ok(fs::rename(new, &runtime)?)
        };
        works(true)?;
        let mut cluster = Cluster::start(story)?;
        let options = builds
            .worker(WorkerOptions::named("w1"))
            .flag("--obuilder-healthcheck=0.5")
            .flag(&format!("--obuilder-runtime={}", runtime.display()));
        let _worker = cluster.add_worker_with(options)?;
        let alice = cluster.add_client("alice")?;
        // when that breaks, then the pool shows why the worker rests,
        works(false)?;
        wait_for("the worker to rest", SOON, || {
            let shown = cluster.show("linux")?;
            Ok(shown.contains("the runtime is unwell").then_some(()))
        })?;
        // and it works again by itself when the runtime does.
        works(true)?;
        let spec = builds.spec(r#"(run (shell "echo well again"))"#);
        alice.submit(&Submission::of_spec(&spec))?.success()?;
        Ok(())
    })
}

#[test]
fn two_workers_on_one_store_cannot_be() -> Result<()> {
    Story::tell(&["obuilder"], |story| {
        let builds = Daemonless::new(story)?;
        let mut cluster = Cluster::start_with(story, ClusterOptions::default())?;
        let mut first = cluster.add_worker_with(builds.worker(WorkerOptions::named("w1")))?;
        let mut second = cluster.start_worker(builds.worker(WorkerOptions::named("w2")))?;
        second.process().wait_exit(LIMIT)?;
        let log = second.process().log();
        // It says who has it, and says it once.
        let holder = format!("pid {}", first.process().pid());
        ensure!(log.matches(&holder).count() == 1, "{log}");
        ensure!(first.process().is_running()?);
        Ok(())
    })
}
