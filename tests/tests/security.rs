//! What each `.cap` file opens and what it does not, and where secrets are not to be found: the claims of `docs/security.md`, tried with
//! the real programs by somebody who does not keep to the rules.

mod attacker;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context as _, Result, ensure};
use attacker::{Intruder, attack, eventually, only_answers_to, refusal};
use ocluster_tests::{
    Client, Cluster, ClusterOptions, Dockerfile, Process, SOON, Story, Submission, WorkerOptions,
    run, unique, wait_for,
};

#[test]
fn a_worker_can_neither_submit_nor_administer_nor_reach_other_workers() -> Result<()> {
    Story::tell(&[], |story| {
        // Given an honest worker, and somebody who has got hold of the pool's cap,
        let mut cluster = Cluster::start(story)?;
        let mut honest = cluster.add_worker("honest")?;
        attack(async || {
            let intruder = Intruder::with(&cluster.secret("pool-linux.cap")).await?;
            // then that cap is for joining the pool,
            only_answers_to(&intruder.own(), &["Registration"]).await?;
            let spy = intruder.join("spy").await?;
            // and a place in it for waiting for jobs, and for nothing else;
            only_answers_to(&spy.place(), &["Queue"]).await?;
            // nor can the honest one's place be taken while it is there.
            let taken = intruder
                .join("honest")
                .await
                .err()
                .context("took its place")?;
            ensure!(
                taken.to_string().contains("Worker already registered!"),
                "{taken}"
            );
            // The holder of the admin's cap can, so the questions were the right ones.
            let admin = Intruder::with(&cluster.secret("admin.cap")).await?;
            ensure!(only_answers_to(&admin.own(), &[]).await.is_err());
            Ok(())
        })?;
        ensure!(honest.process().is_running()? && cluster.show("linux")?.contains("honest ("));
        Ok(())
    })
}

#[test]
fn a_worker_learns_only_the_jobs_it_is_given() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        attack(async || {
            // Given two workers that wait,
            let cap = cluster.secret("pool-linux.cap");
            let (one, other) = (Intruder::with(&cap).await?, Intruder::with(&cap).await?);
            let (one, other) = (one.join("one").await?, other.join("other").await?);
            let client = Intruder::with(alice.cap()).await?;
            // when one has been given a job,
            let given = one.ask();
            let first = client.submit("linux", "FROM first\n")?;
            first.result().await?;
            // then the other, which asks next, knows nothing of it and gets the next one;
            let next = client.submit("linux", "FROM second\n")?;
            let learnt = other.next().await?;
            next.result().await?;
            ensure!(
                learnt.contains("FROM second") && !learnt.contains("FROM first"),
                "{learnt}"
            );
            // and what a job's worker knows is the job, not whose it is.
            let given = given.borrow().clone().unwrap_or_default();
            ensure!(given.contains("FROM first"), "{given}");
            ensure!(
                !given.contains("alice") && !learnt.contains("alice"),
                "{given}"
            );
            Ok(())
        })
    })
}

#[test]
fn the_cap_of_one_pool_does_not_lead_into_another() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start_with(story, ClusterOptions::pools(&["open", "closed"]))?;
        let alice = cluster.add_client("alice")?;
        attack(async || {
            // Given a worker of one pool, which waits,
            let intruder = Intruder::with(&cluster.secret("pool-open.cap")).await?;
            let spy = intruder.join("spy").await?;
            let given = spy.ask();
            // when jobs come to both pools,
            let client = Intruder::with(alice.cap()).await?;
            let closed = client.submit("closed", "FROM closed\n")?;
            closed.accepted().await?;
            let open = client.submit("open", "FROM open\n")?;
            open.result().await?;
            // then it has got the one of its own pool, and asks for more in vain,
            let given = given.borrow().clone().unwrap_or_default();
            ensure!(given.contains("FROM open"), "{given}");
            let more = spy.ask();
            let last = client.submit("closed", "FROM closed too\n")?;
            last.accepted().await?;
            let closed_pool = cluster.show("closed")?;
            ensure!(more.borrow().is_none(), "{:?}", more.borrow());
            // and the other pool has never heard of it.
            ensure!(!closed_pool.contains("spy"), "{closed_pool}");
            ensure!(cluster.show("open")?.contains("spy ("));
            Ok(())
        })
    })
}

#[test]
fn a_client_can_neither_see_nor_touch_the_jobs_of_another() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start_with(story, ClusterOptions::pools(&["linux", "other"]))?;
        let (alice, mallory) = (cluster.add_client("alice")?, cluster.add_client("mallory")?);
        // Given a job of alice's that waits,
        let hers = Submission::of_text("FROM hers\n").hint("hers");
        let mut job = alice.start(&hers)?;
        cluster.wait_for_show("linux", "her job", SOON, |show| {
            show.contains("alice:hers@")
        })?;
        attack(async || {
            // when another client tries its cap for anything but submitting,
            let intruder = Intruder::with(mallory.cap()).await?;
            only_answers_to(&intruder.own(), &["Submission", "Persistent"]).await?;
            // and what it gets for a job of its own for anything but that job,
            let (ticket, job) = intruder.submit_raw("other").await?;
            only_answers_to(&ticket, &["Ticket"]).await?;
            let worker = Intruder::with(&cluster.secret("pool-other.cap")).await?;
            worker.join("spy").await?.next().await?;
            only_answers_to(&job, &["Job"]).await?;
            // and asks for things by names and secrets that it guesses,
            let mut guesses: Vec<Vec<u8>> = ["", "admin", "alice", "pool-linux", "linux", "0", "1"]
                .map(|name| name.as_bytes().to_vec())
                .to_vec();
            guesses.extend([vec![0; 20], vec![0; 32], vec![0xff; 32]]);
            for bit in 0..intruder.id().len() * 8 {
                let mut near = intruder.id();
                if let Some(byte) = near.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
                guesses.push(near);
            }
            // then nothing opens,
            for guess in guesses {
                let refused = refusal(&intruder.guess(&guess)).await?;
                ensure!(
                    refused.contains("Unknown persistent service ID"),
                    "{guess:?}: {refused}"
                );
            }
            // though its own secret does.
            ensure!(
                refusal(&intruder.guess(&intruder.id()))
                    .await?
                    .contains("implemented")
            );
            Ok(())
        })?;
        // Her job is where it was.
        ensure!(job.is_running()? && cluster.show("linux")?.contains("alice:hers@"));
        Ok(())
    })
}

#[test]
fn a_revoked_client_is_out_over_old_connections_and_new_ones() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        attack(async || {
            // Given a client with an open connection and a job that waits,
            let open = Intruder::with(alice.cap()).await?;
            let waiting = open.submit("linux", "FROM before\n")?;
            waiting.accepted().await?;
            // when it is removed,
            cluster.admin(&["remove-client", "alice"])?.success()?;
            // then its job is cancelled, nothing more is taken from it,
            for job in [waiting, open.submit("linux", "FROM after\n")?] {
                let refused = job.result().await.err().context("it was let in")?;
                ensure!(
                    refused.to_string().contains("Access has been revoked"),
                    "{refused}"
                );
            }
            // and its cap leads nowhere, also when a client of that name comes back.
            cluster.admin(&["add-client", "alice"])?.success()?;
            for connection in [open, Intruder::with(alice.cap()).await?] {
                let refused = refusal(&connection.own()).await?;
                ensure!(
                    refused.contains("Unknown persistent service ID"),
                    "{refused}"
                );
            }
            Ok(())
        })?;
        // No worker that comes later gets anything of it.
        attack(async || {
            let spy = Intruder::with(&cluster.secret("pool-linux.cap"))
                .await?
                .join("late")
                .await?;
            let given = spy.ask();
            eventually("the request for work", || {
                Ok(cluster
                    .show("linux")?
                    .contains("(ready) [late]")
                    .then_some(()))
            })
            .await?;
            ensure!(given.borrow().is_none());
            Ok(())
        })
    })
}

#[test]
fn a_scheduler_never_touches_docker() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a scheduler whose Docker engine, if it looked for one, would be a socket that counts who comes,
        let mut cluster = Cluster::start(story)?;
        cluster.stop_scheduler()?;
        let visits = Arc::new(AtomicUsize::new(0));
        let socket = story.scratch.join("docker.sock");
        let (listener, seen) = (UnixListener::bind(&socket)?, Arc::clone(&visits));
        std::thread::spawn(move || {
            for _ in listener.incoming() {
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
        let engine = format!("unix://{}", socket.display());
        let mut scheduler = cluster.scheduler_command();
        scheduler.env("DOCKER_HOST", &engine);
        let mut scheduler = Process::start(
            "the scheduler",
            &mut scheduler,
            &story.scratch.log_file("scheduler"),
        )?;
        scheduler.wait_for_log("Waiting for (encrypted) connections on tcp:")?;
        let _worker = cluster.start_worker(WorkerOptions::named("w1"))?;
        let alice = cluster.add_client("alice")?;
        // when builds pass through it, good ones and bad ones,
        let base = story.base_image()?;
        alice
            .submit(&Submission::of(
                &Dockerfile::from(&base).step("RUN echo built"),
            ))?
            .success()?;
        alice
            .submit(&Submission::of(&Dockerfile::from(&base).step("RUN exit 1")))?
            .exits_with(1)?;
        cluster.show("linux")?;
        // then nobody has come,
        ensure!(
            visits.load(Ordering::Relaxed) == 0,
            "the scheduler went to Docker"
        );
        // as a worker would have,
        let _other = cluster.start_worker(WorkerOptions::named("w2").docker_host(&engine))?;
        wait_for("the other worker", SOON, || {
            Ok(cluster.show("linux")?.contains("w2 (").then_some(()))
        })?;
        cluster.admin(&["pause", "linux", "w1"])?.success()?;
        let mut job = alice.start(&Submission::of(&Dockerfile::from(&base)))?;
        wait_for("the visit of a worker", SOON, || {
            Ok((visits.load(Ordering::Relaxed) > 0).then_some(()))
        })?;
        job.interrupt()?;
        job.wait_exit(SOON)?;
        // and the scheduler's program does not even know where Docker's socket is.
        for (name, knows) in [("ocluster-worker", true), ("ocluster-scheduler", false)] {
            let program = fs::read(story.programs.directory().join(name))?;
            ensure!(holds(&program, "/var/run/docker.sock") == knows, "{name}");
        }
        Ok(())
    })
}

#[test]
fn secrets_and_passwords_are_where_they_belong_and_nowhere_else() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a scheduler that logs all it can,
        let mut cluster = Cluster::start(story)?;
        cluster.stop_scheduler()?;
        let mut scheduler = Process::start(
            "the scheduler",
            &mut talkative(&cluster.scheduler_command()),
            &story.scratch.log_file("scheduler"),
        )?;
        scheduler.wait_for_log("Waiting for (encrypted) connections on tcp:")?;
        let alice = cluster.add_client("alice")?;
        // and a job with a secret and a password,
        let values = [unique("hidden-secret"), unique("hidden-password")];
        let [secret, password] = ["secret", "password"].map(|name| story.scratch.join(name));
        fs::write(&secret, &values[0])?;
        fs::write(&password, &values[1])?;
        let submission = Submission::of(&Dockerfile::from(&story.base_image()?).step("RUN true"))
            .hint("hidden")
            .flag("--buildkit")
            .flag(&format!("--secret=key:{}", secret.display()))
            .flag("--push-to=localhost:1/nobody/there:latest")
            .flag("--push-user=alice")
            .flag(&format!("--push-password={}", password.display()));
        let nowhere = |when: &str| {
            let except = [secret.as_path(), password.as_path()];
            let shown = cluster.show("linux")?;
            let metrics = cluster.get("/metrics")?.body;
            for value in &values {
                ensure!(!shown.contains(value), "{when}, in `show`:\n{shown}");
                ensure!(!metrics.contains(value), "{when}, in the metrics");
                let files = files_with(story.scratch.path(), value, &except)?;
                ensure!(files.is_empty(), "{when}, in {files:?}");
                let processes = command_lines_with(value)?;
                ensure!(
                    processes.is_empty(),
                    "{when}, in the arguments of {processes:?}"
                );
            }
            Ok(())
        };
        // when it waits, is given to a worker, and is over, then neither is seen anywhere but in the hands of that worker.
        let mut job = alice.start(&submission)?;
        cluster.wait_for_show("linux", "the job", SOON, |show| {
            show.contains("alice:hidden@")
        })?;
        nowhere("while it waits")?;
        attack(async || {
            let intruder = Intruder::with(&cluster.secret("pool-linux.cap")).await?;
            let given = intruder.join("spy").await?.next().await?;
            ensure!(values.iter().all(|value| given.contains(value)), "{given}");
            nowhere("while it is somebody's")
        })?;
        job.wait_exit(SOON)?;
        nowhere("when it is over")?;
        // The same with a real worker that logs all it can, however that job ends.
        let mut worker = story.programs.command("ocluster-worker");
        worker
            .arg(format!(
                "--connect={}",
                cluster.secret("pool-linux.cap").display()
            ))
            .args([
                "--name=w1",
                "--capacity=1",
                "--docker-pull=missing",
                "--verbosity=debug",
            ])
            .arg(format!(
                "--state-dir={}",
                story.scratch.join("state-w1").display()
            ));
        let _worker = Process::start(
            "worker w1",
            &mut worker,
            &story.scratch.log_file("worker-w1"),
        )?;
        let finished = alice.submit(&submission)?;
        ensure!(Client::worker_in(&finished.stdout)? == "w1");
        for value in &values {
            ensure!(
                !finished.stdout.contains(value) && !finished.stderr.contains(value),
                "{finished}"
            );
        }
        nowhere("after a real worker had it")
    })
}

#[test]
fn the_key_and_every_cap_are_their_owners_alone() -> Result<()> {
    Story::tell(&[], |story| {
        let options = ClusterOptions {
            flags: vec!["--default-clients=alice,bob".to_owned()],
            ..ClusterOptions::pools(&["linux", "arm"])
        };
        let cluster = Cluster::start_with(story, options)?;
        let mut names = Vec::new();
        for entry in fs::read_dir(cluster.secret(""))? {
            let entry = entry?;
            let mode = entry.metadata()?.permissions().mode() & 0o777;
            ensure!(mode == 0o600, "{:?} has mode {mode:o}", entry.path());
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
        names.sort();
        let expected = [
            "admin.cap",
            "key.pem",
            "pool-arm.cap",
            "pool-linux.cap",
            "submit-alice.cap",
            "submit-bob.cap",
        ];
        ensure!(names == expected, "{names:?}");
        // Of a client's secret the scheduler keeps a hash, so that its files do not give it away.
        let cap = fs::read_to_string(cluster.secret("submit-alice.cap"))?;
        let id = cap
            .trim()
            .rsplit('/')
            .next()
            .context("a cap without an id")?;
        let raw = ocluster_vat::SturdyRef::parse(cap.trim())?
            .id
            .as_bytes()
            .to_vec();
        ensure!(files_with(&story.scratch.join("scheduler-state"), id, &[])?.is_empty());
        for file in files_below(&story.scratch.join("scheduler-state"))? {
            let bytes = fs::read(&file).unwrap_or_default();
            ensure!(
                !bytes.windows(raw.len()).any(|window| window == raw),
                "{file:?}"
            );
        }
        Ok(())
    })
}

#[test]
fn http_shows_names_and_numbers_to_everybody_and_nothing_else() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        let _job =
            alice.start(&Submission::of_text("FROM a-private-image\n").hint("a-private-hint"))?;
        cluster.wait_for_show("linux", "the job", SOON, |show| {
            show.contains("a-private-hint")
        })?;
        let id = |cap: PathBuf| -> Result<String> {
            let text = fs::read_to_string(cap)?;
            Ok(text
                .trim()
                .rsplit('/')
                .next()
                .unwrap_or_default()
                .to_owned())
        };
        let hidden = [
            "capnp://".to_owned(),
            "a-private-image".to_owned(),
            "a-private-hint".to_owned(),
            id(alice.cap().to_owned())?,
            id(cluster.secret("admin.cap"))?,
            id(cluster.secret("pool-linux.cap"))?,
        ];
        for path in ["/metrics", "/health"] {
            let answer = cluster.get(path)?;
            ensure!(answer.status == 200, "{path}: {}", answer.status);
            for secret in &hidden {
                ensure!(!answer.body.contains(secret), "{path} shows {secret}");
            }
        }
        for path in [
            "/admin.cap",
            "/capnp-secrets/admin.cap",
            "/../capnp-secrets/admin.cap",
            "/jobs",
            "/logs",
        ] {
            let answer = cluster.get(path)?;
            ensure!(
                (400..500).contains(&answer.status),
                "{path}: {}",
                answer.status
            );
        }
        Ok(())
    })
}

/// The same command, but at the highest verbosity.
fn talkative(command: &Command) -> Command {
    let mut talkative = Command::new(command.get_program());
    for argument in command
        .get_args()
        .filter(|argument| *argument != "--verbosity=info")
    {
        talkative.arg(argument);
    }
    talkative.arg("--verbosity=debug");
    talkative
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

/// The files below `directory` which hold `text`.
fn files_with(directory: &Path, text: &str, except: &[&Path]) -> Result<Vec<PathBuf>> {
    let mut files = files_below(directory)?;
    // A file may go while it is looked at: then it holds nothing.
    files.retain(|file| {
        !except.contains(&file.as_path()) && holds(&fs::read(file).unwrap_or_default(), text)
    });
    Ok(files)
}

fn files_below(directory: &Path) -> Result<Vec<PathBuf>> {
    let (mut files, mut directories) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory)?.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push(entry.path()),
                Ok(kind) if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    ensure!(!files.is_empty(), "nothing was looked at");
    Ok(files)
}

/// The processes of this machine with `text` in their arguments.
fn command_lines_with(text: &str) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut looked_at = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        // Most entries are no processes, and a process may go.
        let Ok(line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        looked_at += 1;
        if holds(&line, text) {
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    ensure!(looked_at > 1, "no processes were seen");
    Ok(found)
}

/// The search itself is worth nothing if it does not find what is there.
#[test]
fn what_is_in_files_and_arguments_is_found() -> Result<()> {
    Story::tell(&[], |story| {
        let value = unique("to-be-found");
        let file = story.scratch.write("deep", &value)?;
        ensure!(files_with(story.scratch.path(), &value, &[])? == [file]);
        let mut command = Command::new("sleep");
        let mut sleeper = Process::start(
            "sleep",
            command.args(["60"]).env("X", "y"),
            &story.scratch.log_file("sleep"),
        )?;
        // A program that was just started has no arguments for a moment: the system replaces the old ones first.
        wait_for("the sleeper's arguments", SOON, || {
            Ok((!command_lines_with("sleep\0")?.is_empty()).then_some(()))
        })?;
        ensure!(sleeper.is_running()?);
        run(&mut Command::new("true"))?.success()?;
        Ok(())
    })
}
