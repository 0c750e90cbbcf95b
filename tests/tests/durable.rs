//! Durable jobs with the real programs: what is killed, frozen or lost on the way, and what everybody sees of it. `kill_loop` does the
//! same at random.

#[path = "customer/mod.rs"]
mod customer;
#[path = "durable/workers.rs"]
mod workers;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ocluster_client::JobState;
use ocluster_tests::{
    Client, Cluster, Daemonless, Finished, Process, SOON, Story, Submission, WorkerOptions,
    wait_for,
};
use serde_json::Value;

use customer::{Customer, counting, output};

/// How long a program may take to do what it does in a moment.
const PROMPT: Duration = Duration::from_secs(30);

fn worker(name: &str) -> WorkerOptions {
    WorkerOptions::named(name).capacity(4).test_jobs()
}

/// What `status` knows of a job.
fn status(client: &Client<'_>, id: &str) -> Result<Value> {
    let told = client.ask(&["status", id, "--output=json"])?.success()?;
    serde_json::from_str(&told.stdout).context(told.stdout)
}

/// Waits until a job's log has `text` in it.
fn until_printed(client: &Client<'_>, id: &str, text: &str) -> Result<()> {
    wait_for(&format!("{text:?} in the log of {id}"), SOON, || {
        let log = client.ask(&["log", id])?.success()?;
        Ok(log.stdout.contains(text).then_some(()))
    })
}

/// Waits until somebody who follows a job has ended well.
fn passes(follower: &mut Process) -> Result<()> {
    let status = follower.wait_exit(SOON)?;
    ensure!(status.success(), "it ended with {status}");
    Ok(())
}

#[test]
fn a_killed_scheduler_is_no_more_than_a_pause_for_a_running_job_and_its_reader() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a job that runs on one of two workers, and somebody who reads its log,
        let mut cluster = Cluster::start(story)?;
        let _workers = [
            cluster.add_worker_with(worker("w1"))?,
            cluster.add_worker_with(worker("w2"))?,
        ];
        let alice = cluster.add_client("alice")?;
        let steps = counting("it", 80, Duration::from_millis(50));
        let id = Customer::with(alice.cap())?.submit("one", "", &steps)?;
        let mut reader = alice.start_asking(&["log", &id, "-f"])?;
        reader.wait_for_log("it says 9\n")?;
        let runs = status(&alice, &id)?;
        let place = runs["worker"].as_str().context("no worker")?.to_owned();
        // when the scheduler is killed and started again, twice,
        for _ in 0..2 {
            cluster.kill_scheduler()?;
            cluster.restart_scheduler()?;
        }
        // then the reader has every byte of the log, and each once,
        passes(&mut reader)?;
        let expected = String::from_utf8(output(&place, &steps))?;
        ensure!(reader.log() == expected, "it read:\n{}", reader.log());
        // and the job was never anywhere else.
        let ended = status(&alice, &id)?;
        ensure!(
            ended["state"] == "passed" && ended["worker"] == place.as_str(),
            "{ended}"
        );
        let attempts = ended["attempts"].as_array().context("no attempts")?;
        ensure!(ended["attempt"] == 1 && attempts.len() == 1, "{ended}");
        ensure!(ended["log_length"] == expected.len(), "{ended}");
        // People are told the same.
        let told = alice.ask(&["status", &id])?.success()?.stdout;
        ensure!(
            told.contains(&format!("Job {id} passed")) && told.contains("attempt 1"),
            "{told}"
        );
        Ok(())
    })
}

#[test]
fn a_job_stays_when_its_client_is_killed_and_can_be_found_read_and_waited_for() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(worker("w1"))?;
        let alice = cluster.add_client("alice")?;
        let steps = counting("it", 40, Duration::from_millis(50));
        let id = Customer::with(alice.cap())?.submit("one", "", &steps)?;
        let mut reader = alice.start_asking(&["log", &id, "-f"])?;
        reader.wait_for_log("it says 9\n")?;
        // When everybody who knows of it is killed,
        reader.kill()?;
        // then it is found by the list, by the beginning of its id,
        let listed = alice.ask(&["jobs"])?.success()?.stdout;
        ensure!(listed.contains(&id), "{listed}");
        let beginning = id.get(..2).context("a short id")?;
        ensure!(status(&alice, beginning)?["id"] == id.as_str());
        // waited for,
        let waited = alice.ask(&["wait", &id])?.success()?;
        ensure!(waited.stdout.contains(&id), "{waited}");
        // and read, whole or in part.
        let log = alice.ask(&["log", &id])?.success()?.stdout;
        ensure!(log.as_bytes() == output("w1", &steps), "{log}");
        let tail = alice.ask(&["log", &id, "--tail", "2"])?.success()?.stdout;
        ensure!(tail == "it says 39\nJob succeeded\n", "{tail}");
        Ok(())
    })
}

#[test]
fn a_detached_submission_is_there_after_a_crash_and_its_key_means_that_job() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a job that waits, as there is no worker,
        let mut cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        let build = Submission::of_text("FROM scratch\n")
            .durable()
            .flag("--detach");
        let key = build.clone().flag("--key=nightly");
        let id = alice.submit(&key)?.success()?.stdout;
        ensure!(id.lines().count() == 1, "{id:?} is not just an id");
        let id = id.trim();
        // when the scheduler is killed the moment it has said so,
        cluster.kill_scheduler()?;
        cluster.restart_scheduler()?;
        // then it is there, and says what it waits for.
        let job = status(&alice, id)?;
        ensure!(job["state"] == "queued" && job["durable"] == true, "{job}");
        let why = alice.ask(&["explain", id])?.success()?.stdout;
        ensure!(why.contains("worker"), "{why}");
        // The same job under the same key is that job,
        ensure!(alice.submit(&key)?.success()?.stdout.trim() == id);
        // another one under it is refused,
        let other = Submission::of_text("FROM other\n")
            .durable()
            .flag("--detach")
            .flag("--key=nightly");
        alice
            .submit(&other)?
            .exits_with(1)?
            .fails_saying(&["key"])?;
        // and without one, it is another.
        let second = alice.submit(&build)?.success()?.stdout;
        ensure!(second.trim() != id);
        // What is cancelled is so after the next crash, too.
        alice.ask(&["cancel", id, "--reason=obsolete"])?.success()?;
        cluster.kill_scheduler()?;
        cluster.restart_scheduler()?;
        let job = status(&alice, id)?;
        ensure!(
            job["state"] == "cancelled" && job["cause"].to_string().contains("obsolete"),
            "{job}"
        );
        ensure!(status(&alice, second.trim())?["state"] == "queued");
        Ok(())
    })
}

#[test]
fn the_job_of_another_is_like_a_job_that_is_not_there() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(worker("w1"))?;
        let alice = cluster.add_client("alice")?;
        let mallory = cluster.add_client("mallory")?;
        let steps = counting("secret", 200, Duration::from_millis(50));
        let hers = Customer::with(alice.cap())?.submit("one", "", &steps)?;
        until_printed(&alice, &hers, "secret says 0\n")?;
        // Given an id that nobody has,
        let nobodys = "j99999";
        // whatever a client asks of another's job, the answer is the one for such an id.
        let all: [&[&str]; 5] = [
            &["status"],
            &["log"],
            &["explain"],
            &["wait"],
            &["cancel", "--reason=malice"],
        ];
        for words in all {
            let of = |id: &str| -> Result<Finished> {
                let (command, flags) = words.split_first().context("no words")?;
                let words: Vec<&str> = [*command, id]
                    .into_iter()
                    .chain(flags.iter().copied())
                    .collect();
                mallory.ask(&words)
            };
            let (hidden, missing) = (of(&hers)?, of(nobodys)?);
            ensure!(hidden.code() == 1, "{hidden}");
            let alike = |finished: &Finished, id: &str| {
                (
                    finished.stdout.replace(id, "ID"),
                    finished.stderr.replace(id, "ID"),
                )
            };
            ensure!(
                alike(&hidden, &hers) == alike(&missing, nobodys),
                "{hidden}\n{missing}"
            );
        }
        let listed = mallory.ask(&["jobs"])?.success()?;
        ensure!(!listed.stdout.contains(&hers), "{listed}");
        // It goes on meanwhile, and its owner and the administrators can see and end it.
        let seen = cluster.admin(&["status", &hers])?.success()?.stdout;
        ensure!(seen.contains("alice") && seen.contains("running"), "{seen}");
        let listed = cluster.admin(&["jobs", "--client", "alice"])?.success()?;
        ensure!(listed.stdout.contains(&hers), "{listed}");
        cluster
            .admin(&["cancel", &hers, "--reason=enough"])?
            .success()?;
        let job = Customer::with(alice.cap())?.ended(&hers)?;
        ensure!(
            job.state == JobState::Cancelled && format!("{job:?}").contains("enough"),
            "{job:?}"
        );
        Ok(())
    })
}

#[test]
fn what_is_asked_while_the_scheduler_is_away_is_answered_when_it_is_back_or_refused_clearly()
-> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(worker("w1"))?;
        let alice = cluster.add_client("alice")?;
        let steps = counting("it", 400, Duration::from_millis(50));
        let id = Customer::with(alice.cap())?.submit("one", "", &steps)?;
        until_printed(&alice, &id, "it says 5\n")?;
        // When the scheduler is away,
        cluster.kill_scheduler()?;
        // then who asks for something new hears so, in words,
        let refused = alice.ask(&["cancel", &id])?.exits_with(1)?;
        refused.fails_saying(&["Connection refused"])?;
        // which has changed nothing.
        cluster.restart_scheduler()?;
        let before = status(&alice, &id)?;
        ensure!(before["state"] == "running", "{before}");
        // Who waited already goes on waiting, and is answered.
        let mut waiting = alice.start_asking(&["wait", &id])?;
        let mut reader = alice.start_asking(&["log", &id, "-f"])?;
        reader.wait_for_log("it says 5\n")?;
        cluster.kill_scheduler()?;
        cluster.restart_scheduler()?;
        alice.ask(&["cancel", &id, "--reason=enough"])?.success()?;
        let code = waiting.wait_exit(PROMPT)?.code();
        ensure!(code == Some(1), "it ended with {code:?}: {}", waiting.log());
        ensure!(waiting.log().contains("cancelled"), "{}", waiting.log());
        let code = reader.wait_exit(PROMPT)?.code();
        ensure!(code == Some(1), "it ended with {code:?}: {}", reader.log());
        // A job that was cancelled stays so.
        let job = status(&alice, &id)?;
        ensure!(job["state"] == "cancelled" && job["attempt"] == 1, "{job}");
        Ok(())
    })
}

#[test]
fn the_program_that_submitted_a_build_follows_it_through_a_crash_of_the_scheduler() -> Result<()> {
    Story::tell(&["obuilder"], |story| {
        // Given an OBuilder build that its client follows,
        let builds = Daemonless::new(story)?;
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker_with(builds.worker(WorkerOptions::named("w1")))?;
        let alice = cluster.add_client("alice")?;
        let spec = builds.spec(
            r#"(run (shell "for i in $(seq 40); do echo count $i; sleep 0.1; done; echo done"))"#,
        );
        let mut client = alice.start(&Submission::of_spec(&spec).durable())?;
        client.wait_for_log("count 5\n")?;
        // when the scheduler is killed and started again,
        cluster.kill_scheduler()?;
        cluster.restart_scheduler()?;
        // then the client says so, prints each line once, and ends as if nothing had been.
        passes(&mut client)?;
        let said = client.log();
        let counted: Vec<&str> = said
            .lines()
            .filter_map(|line| line.strip_prefix("count "))
            .collect();
        let expected: Vec<String> = (1..=40).map(|number| number.to_string()).collect();
        ensure!(counted == expected, "{said}");
        ensure!(said.contains("Lost connection to scheduler"), "{said}");
        ensure!(said.contains("Job succeeded"), "{said}");
        // An interrupt without a terminal cancels, as ever.
        let spec = builds.spec(r#"(run (shell "echo begun; sleep 1000"))"#);
        let mut client = alice.start(&Submission::of_spec(&spec).durable())?;
        client.wait_for_log("begun\n")?;
        client.interrupt()?;
        let code = client.wait_exit(PROMPT)?.code();
        ensure!(code == Some(130), "{code:?}: {}", client.log());
        ensure!(client.log().contains("was cancelled"), "{}", client.log());
        wait_for("the build to be gone", SOON, || {
            Ok(builds.nothing_runs().is_ok().then_some(()))
        })?;
        worker.process().terminate(PROMPT)?;
        builds.is_clean()
    })
}

#[test]
fn records_and_logs_of_ended_jobs_are_the_same_after_a_restart() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        let _worker = cluster.add_worker_with(worker("w1"))?;
        let alice = cluster.add_client("alice")?;
        let customer = Customer::with(alice.cap())?;
        let mut before = Vec::new();
        for number in 0..5 {
            let steps = counting("it", number, Duration::ZERO);
            let id = customer.submit(&format!("job-{number}"), "", &steps)?;
            before.push((customer.ended(&id)?, customer.log(&id)?));
        }
        cluster.stop_scheduler()?;
        cluster.restart_scheduler()?;
        for (job, log) in &before {
            ensure!(customer.info(&job.id)? == *job, "{job:?}");
            ensure!(customer.log(&job.id)? == *log, "{job:?}");
        }
        Ok(())
    })
}
