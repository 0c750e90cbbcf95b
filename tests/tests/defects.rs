//! Defects known of OCluster, each shown to be absent here with the real programs. `docs/testing.md` lists where the others are shown.

use std::fs;
use std::io::Read as _;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Cluster, ClusterOptions, Dockerfile, Finished, GitDaemon, Repository, SOON, Story, Submission,
    WorkerOptions, run, wait_for,
};

/// What no user may ever be shown.
const UNHELPFUL: [&str; 4] = [
    "Uncaught exception",
    "Internal error",
    "panicked",
    "Failure(",
];

/// OCluster's children inherit the connection to the scheduler: a worker that is killed stays "connected", and its name taken, until
/// its last child ends.
#[test]
fn d6_a_killed_workers_children_do_not_keep_its_place() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a worker whose child waits for a git server that never says anything,
        let silent = TcpListener::bind(("127.0.0.1", 0))?;
        let url = format!("git://127.0.0.1:{}/repo", silent.local_addr()?.port());
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let commit = "0123456789012345678901234567890123456789";
        let mut job = alice.start(&Submission::of_text("FROM scratch\n").from(&url, &[commit]))?;
        let (mut server, _) = silent.accept()?;
        let parent = worker.process().pid();
        let child = wait_for("the worker's child", SOON, || Ok(children(parent)?.pop()))?;
        // then the child has none of the worker's sockets,
        let inherited: Vec<_> = sockets(child)?
            .into_iter()
            .filter(|socket| sockets(parent).is_ok_and(|its| its.contains(socket)))
            .collect();
        ensure!(
            !sockets(parent)?.is_empty() && inherited.is_empty(),
            "{inherited:?}"
        );
        // and when the worker is killed,
        worker.process().kill()?;
        // it is gone for everybody at once: for its client,
        ensure!(job.wait_exit(SOON)?.code() == Some(1), "{}", job.log());
        // for the admin,
        cluster.wait_for_show("linux", "the worker to be gone", SOON, |show| {
            show.split_once("disconnected:")
                .is_some_and(|(_, gone)| gone.contains("w1"))
        })?;
        // for the git server, because the child is gone as well,
        server.set_read_timeout(Some(SOON))?;
        server
            .read_to_end(&mut Vec::new())
            .context("the child still holds on to the git server")?;
        wait_for("the child to be gone", SOON, || {
            Ok((!Path::new(&format!("/proc/{child}")).exists()).then_some(()))
        })?;
        // and for the next one of its name.
        let before = cluster.registrations("w1")?;
        worker.restart()?;
        cluster.wait_until_registered("w1", before)
    })
}

/// In OCluster, a removed client's queued jobs cannot be cancelled, and run for nobody in the end.
#[test]
fn d8_removing_a_client_cancels_what_it_has_queued() -> Result<()> {
    Story::tell(&[], |story| {
        // Given jobs of two clients that wait,
        let mut cluster = Cluster::start(story)?;
        let (alice, bob) = (cluster.add_client("alice")?, cluster.add_client("bob")?);
        let mut hers = Vec::new();
        for hint in ["one", "two", "three"] {
            hers.push(alice.start(&Submission::of_text("FROM scratch\n").hint(hint))?);
        }
        let refused = "not a commit";
        let mut his = bob.start(
            &Submission::of_text("FROM scratch\n")
                .hint("his")
                .from("git://127.0.0.1:1/x", &[refused]),
        )?;
        cluster.wait_for_show("linux", "all jobs", SOON, |show| {
            ["alice:one@", "alice:two@", "alice:three@", "bob:his@"]
                .iter()
                .all(|job| show.contains(job))
        })?;
        // when the first client gives one up and is then removed,
        hers.pop().context("no job")?.interrupt()?;
        cluster.wait_for_show("linux", "one less", SOON, |show| {
            !show.contains("alice:three@")
        })?;
        cluster.admin(&["remove-client", "alice"])?.success()?;
        // then the others end with the reason,
        for job in &mut hers {
            ensure!(job.wait_exit(SOON)?.code() == Some(1), "{}", job.log());
            ensure!(
                job.log().contains("Access has been revoked"),
                "{}",
                job.log()
            );
        }
        let show = cluster.show("linux")?;
        ensure!(
            !show.contains("alice") && show.contains("bob:his@"),
            "{show}"
        );
        // and a worker that comes gets the other client's job only.
        let mut worker = cluster.add_worker("w1")?;
        ensure!(
            his.wait_exit(SOON)?.code() == Some(1) && his.log().contains(refused),
            "{}",
            his.log()
        );
        let jobs = worker.process().log().matches("Starting a job").count();
        ensure!(jobs == 1, "{jobs} jobs were started");
        ensure!(cluster.scheduler()?.is_running()?);
        Ok(())
    })
}

/// OCluster answers many a mistake with `Uncaught exception: Failure("...")` and `Internal error`.
#[test]
fn d15_what_is_malformed_is_answered_with_a_sentence() -> Result<()> {
    Story::tell(&["docker"], |story| {
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let build = Submission::of_text("FROM scratch\n");
        let context = Submission::of_context(
            "git://127.0.0.1:1/x",
            &["0123456789012345678901234567890123456789"],
        );
        // Mistakes that the worker finds:
        let commit = "0123456789012345678901234567890123456789";
        for (submission, sentence) in [
            // schemes, hashes and URLs,
            (
                build.clone().from("ftp://x/y", &[commit]),
                "Unsupported scheme \"ftp\" in URL ftp://x/y",
            ),
            (build.clone().from("x", &[commit]), "x"),
            (
                build.clone().from("file:///etc", &[commit]),
                "Unsupported scheme \"file\"",
            ),
            (
                build.clone().from("git://127.0.0.1:1/x", &["deadbeef"]),
                "deadbeef",
            ),
            (
                build.clone().from("git://127.0.0.1:1/x", &["HEAD;id"]),
                "HEAD;id",
            ),
            (
                build.clone().from("git://127.0.0.1:1/x", &[commit]),
                "git://127.0.0.1:1/x",
            ),
            // and Dockerfiles that are none.
            (Submission::of_text(""), "Dockerfile"),
            (Submission::of_text("\0\u{1}\u{2}"), "nknown instruction"),
            (context, "git://127.0.0.1:1/x"),
        ] {
            let finished = alice.submit(&submission)?;
            helpful(&finished, sentence)?;
            ensure!(
                finished.last_line() == "Failed: Build failed.",
                "{finished}"
            );
        }
        // An OBuilder job for a worker that has no OBuilder, and one that is not a spec at all,
        for spec in ["((from scratch))", "((from", "", "\u{1F980}"] {
            let spec = story.scratch.write("spec", spec)?;
            let mut command = story.programs.command("ocluster-client");
            command
                .args(["submit-obuilder", "--pool=linux", "-c"])
                .arg(alice.cap());
            let finished = run(command.arg("--local-file").arg(spec))?;
            helpful(&finished, "Builder")?;
        }
        // Mistakes that the client finds itself:
        let password = story.scratch.write("password", "secret\n")?;
        let password = format!("--push-password={}", password.display());
        for (flags, sentence) in [
            (vec!["--push-to=foo"], "Missing ':TAG' in target \"foo\""),
            (vec!["--push-to=:tag"], "Repository empty in \":tag\""),
            (vec!["--push-to=foo:"], "Tag empty in \"foo:\""),
            (vec!["--push-user=alice"], "Must use --push-"),
            (
                vec!["--push-to=foo:tag", "--push-user=alice"],
                "Must use --push-user with --push-password",
            ),
            (
                vec!["--push-to=foo:tag", &password],
                "Must use --push-user with --push-password",
            ),
            (vec!["--secret=no-file"], "no-file"),
        ] {
            let submission = flags
                .iter()
                .fold(build.clone(), |submission, flag| submission.flag(flag));
            helpful(&alice.submit(&submission)?, sentence)?;
        }
        // a pool that does not exist is named with those that do, and the worker has survived all of it.
        helpful(
            &alice.submit(&build.pool("nope"))?,
            "Pool ID \"nope\" not one of {linux}",
        )?;
        ensure!(worker.process().is_running()?);
        for unhelpful in UNHELPFUL {
            let log = worker.process().log();
            ensure!(!log.contains(unhelpful), "{log}");
        }
        Ok(())
    })
}

/// OCluster's worker leaves contexts and secrets in plain text when it is killed.
#[test]
fn d20_nothing_of_a_job_survives_a_killed_worker_and_its_next_start() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker in the middle of a build from git,
        let marker = ocluster_tests::unique("left-behind");
        let repository = Repository::new(&story.scratch.join("repos/one"))?;
        let commit = repository.commit("Only", &[("file", &marker)])?;
        let server =
            GitDaemon::start(&story.scratch.join("repos"), &story.scratch.log_file("git"))?;
        let mut cluster = Cluster::start(story)?;
        let mut worker = cluster.add_worker("w1")?;
        let alice = cluster.add_client("alice")?;
        let dockerfile = Dockerfile::from(&story.base_image()?).gate();
        let submission = Submission::of(&dockerfile).from(&server.url("one"), &[&commit]);
        let mut job = alice.start_to_the_gate(&submission)?;
        // whose files are its own and nobody else's,
        let open: Vec<_> = worker
            .temporary_files()
            .into_iter()
            .filter(|path| mode(path).is_ok_and(|mode| mode & 0o077 != 0))
            .collect();
        ensure!(
            !worker.temporary_files().is_empty() && open.is_empty(),
            "{open:?}"
        );
        // when it is killed,
        worker.process().kill()?;
        ensure!(job.wait_exit(SOON)?.code() == Some(1), "{}", job.log());
        ensure!(
            !worker.temporary_files().is_empty(),
            "there is nothing to be removed"
        );
        // and started again,
        let before = cluster.registrations("w1")?;
        worker.restart()?;
        cluster.wait_until_registered("w1", before)?;
        // then its files, its log and its container are gone.
        wait_for("the leftovers to be gone", SOON, || {
            Ok(worker.temporary_files().is_empty().then_some(()))
        })?;
        ensure!(
            worker.spooled_logs().is_empty(),
            "{:?}",
            worker.spooled_logs()
        );
        story.engine()?.wait_until_gone(&dockerfile)?;
        // Nor was anything put where all temporary files go.
        let strays: Vec<_> = fs::read_dir(std::env::temp_dir())?
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("build-worker-") || name.starts_with("build-context-"))
            .collect();
        ensure!(strays.is_empty(), "{strays:?}");
        Ok(())
    })
}

/// OCluster lets jobs of one hint pile up on one worker while others idle.
#[test]
fn d2_jobs_of_one_hint_do_not_wait_for_their_worker_while_another_idles() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given two workers with room for one job each, one of which has run a job of this hint,
        let mut cluster = Cluster::start_with(story, ClusterOptions::default())?;
        let _one = cluster.add_worker_with(WorkerOptions::named("one"))?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        alice
            .submit(&Submission::of(&Dockerfile::from(&base).step("RUN true")).hint("popular"))?
            .success()?;
        let _two = cluster.add_worker_with(WorkerOptions::named("two"))?;
        // when two more of it come, the first of which does not end by itself,
        let gated = Dockerfile::from(&base).gate();
        let mut first = alice.start_to_the_gate(&Submission::of(&gated).hint("popular"))?;
        let second = alice
            .submit(&Submission::of(&Dockerfile::from(&base).step("RUN true")).hint("popular"))?
            .success()?;
        // then the second is done meanwhile, by the other.
        let places =
            [first.log(), second.stdout].map(|log| ocluster_tests::Client::worker_in(&log).ok());
        ensure!(
            places == ["one", "two"].map(|name| Some(name.to_owned())),
            "{places:?}"
        );
        story.engine()?.open_gate(&gated)?;
        ensure!(
            first.wait_exit(Duration::from_secs(60))?.success(),
            "{}",
            first.log()
        );
        Ok(())
    })
}

/// Checks that something failed with a sentence that has these words in it, and without any that only its maker understands.
fn helpful(finished: &Finished, words: &str) -> Result<()> {
    let said = format!("{}\n{}", finished.stdout, finished.stderr);
    ensure!(
        finished.code() != 0 && said.contains(words),
        "not {words:?}: {finished}"
    );
    for unhelpful in UNHELPFUL {
        ensure!(
            !said.contains(unhelpful),
            "{unhelpful:?} is no help: {finished}"
        );
    }
    Ok(())
}

/// The processes that `parent` has started.
fn children(parent: u32) -> Result<Vec<u32>> {
    let mut children = Vec::new();
    for thread in fs::read_dir(format!("/proc/{parent}/task"))?.flatten() {
        // A thread may end meanwhile.
        let listed = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
        children.extend(
            listed
                .split_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    Ok(children)
}

/// The sockets which a process has open, as the kernel names them.
fn sockets(process: u32) -> Result<Vec<String>> {
    let mut sockets = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd"))?.flatten() {
        // A file may be closed meanwhile.
        let target = fs::read_link(entry.path()).unwrap_or_default();
        let target = target.to_string_lossy().into_owned();
        if target.starts_with("socket:") {
            sockets.push(target);
        }
    }
    Ok(sockets)
}

fn mode(path: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(fs::metadata(path)?.permissions().mode())
}
