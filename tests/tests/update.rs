//! Workers that become newer ones while the cluster works: under a supervisor, whose program file somebody replaces.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, ensure};
use ocluster_tests::{
    Cluster, ClusterOptions, Dockerfile, Process, SOON, Story, Submission, WorkerOptions,
};

/// What systemd does, as far as it matters here: starts the program again whenever it exits with code 1.
const SUPERVISOR: &str = r#"while :; do
    "$@"
    code=$?
    echo "the supervisor sees exit code $code"
    test $code = 1 || exit $code
done"#;

/// A worker that is started again when it ends, with a program file that a test can replace.
struct Supervised {
    program: PathBuf,
    real: PathBuf,
    process: Process,
}

impl Supervised {
    /// Starts one in pool `linux` and waits until it is registered.
    fn start(story: &Story, cluster: &mut Cluster<'_>, name: &str) -> Result<Self> {
        let real = story.programs.directory().join("ocluster-worker");
        let program = story
            .scratch
            .directory(&format!("bin-{name}"))?
            .join("ocluster-worker");
        symlink(&real, &program)?;
        let before = cluster.registrations(name)?;
        let mut command = Command::new("sh");
        command
            .args(["-c", SUPERVISOR, "supervisor"])
            .arg(&program)
            .arg(cluster.secret("pool-linux.cap"))
            .arg(format!("--name={name}"))
            .arg("--capacity=1")
            .arg(format!(
                "--state-dir={}",
                story.scratch.join(format!("state-{name}")).display()
            ))
            .args([
                "--docker-pull=missing",
                "--verbosity=info",
                "--update-program",
            ])
            .env("NO_COLOR", "1")
            .env_remove("RUST_LOG");
        let log = story.scratch.log_file(&format!("worker-{name}"));
        let process = Process::start(&format!("supervised worker {name}"), &mut command, &log)?;
        cluster.wait_until_registered(name, before)?;
        Ok(Self {
            program,
            real,
            process,
        })
    }

    /// Puts a shell script in the program's place, as a package manager does: by renaming.
    fn install(&self, script: &str) -> Result<()> {
        let new = self.program.with_extension("new");
        fs::write(&new, format!("#!/bin/sh\n{script}\n"))?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755))?;
        fs::rename(&new, &self.program)?;
        Ok(())
    }

    /// Installs a version which says so when it starts, and otherwise works as the old one does.
    fn install_version_99(&self) -> Result<()> {
        self.install(&format!(
            "test \"$1\" = --version && echo ocluster-worker 99 && exit 0\necho version 99 starts\nexec {} \"$@\"",
            self.real.display()
        ))
    }

    /// Installs one that was linked against a library which is not there.
    fn install_broken_version(&self) -> Result<()> {
        self.install("echo libfuture.so.9: no such file >&2; exit 127")
    }

    /// Whether the new version was started, after the old one had exited with code 1.
    fn is_version_99(&self) -> bool {
        let log = self.process.log();
        log.contains("the supervisor sees exit code 1\nversion 99 starts")
    }
}

/// Starts `ocluster-admin update` and leaves it to run.
fn update(story: &Story, cluster: &Cluster<'_>, words: &[&str]) -> Result<Process> {
    let words: Vec<&str> = std::iter::once("update")
        .chain(words.iter().copied())
        .collect();
    Process::start(
        "ocluster-admin update",
        &mut cluster.admin_command(&words),
        &story.scratch.log_file("update"),
    )
}

#[test]
fn an_updated_worker_finishes_its_job_and_comes_back_as_the_program_on_disk() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker with a job, and a newer version in its program's place,
        let mut cluster = Cluster::start(story)?;
        let worker = Supervised::start(story, &mut cluster, "w")?;
        let alice = cluster.add_client("alice")?;
        let base = story.base_image()?;
        let gated = Dockerfile::from(&base).gate();
        let mut running = alice.start_to_the_gate(&Submission::of(&gated))?;
        worker.install_version_99()?;
        // when it is to be updated, it is waited for, and takes no other job;
        let mut updating = update(story, &cluster, &["linux", "w"])?;
        updating.wait_for_log("w: Running jobs: 1")?;
        cluster.wait_for_show("linux", "the worker to be shutting down", SOON, |show| {
            show.contains("shutting down")
        })?;
        let next = Dockerfile::from(&base).step("RUN echo next");
        let mut waiting = alice.start(&Submission::of(&next).hint("next"))?;
        cluster.wait_for_show("linux", "a job to wait", SOON, |show| {
            show.contains("alice:next@")
        })?;
        ensure!(updating.is_running()? && !worker.is_version_99());
        // when its job is done, it restarts as the newer version, which does what waits.
        story.engine()?.open_gate(&gated)?;
        ensure!(running.wait_exit(SOON)?.success(), "{}", running.log());
        let ended = updating.wait_exit(SOON)?;
        let said = updating.log();
        ensure!(
            ended.success() && said.ends_with("w: Restarting\nRestarted\n"),
            "{said}"
        );
        ensure!(worker.is_version_99(), "{}", worker.process.log());
        ensure!(waiting.wait_exit(SOON)?.success(), "{}", waiting.log());
        Ok(())
    })
}

#[test]
fn a_pool_is_updated_after_one_of_its_workers_and_the_absent_are_named() -> Result<()> {
    Story::tell(&[], |story| {
        // Given two workers with a newer version at hand, and one that is away,
        let mut cluster = Cluster::start(story)?;
        let workers = [
            Supervised::start(story, &mut cluster, "a")?,
            Supervised::start(story, &mut cluster, "b")?,
        ];
        cluster
            .admin(&["pause", "linux", "c", "--auto-create"])?
            .success()?;
        workers
            .iter()
            .try_for_each(Supervised::install_version_99)?;
        // when the pool is updated, one goes first, and all that are there are newer.
        let updated = cluster.admin(&["update", "linux"])?.success()?;
        let expected = "Testing update on first worker in pool: \"a\"\n\
             a: Restarting\n\
             Canary updated OK. Updating the others: [b]\n\
             b: Restarting\n\
             \"b\" restarted OK.\n\
             All pool workers restarted.\n\
             WARNING: disconnected workers not updated:\n  c\n";
        ensure!(updated.stdout == expected, "{updated}");
        ensure!(workers.iter().all(Supervised::is_version_99));
        Ok(())
    })
}

/// OCluster's D9: the worker was left "shutting down" for good, and unpausing it had no effect.
#[test]
fn d9_a_worker_whose_update_fails_goes_on_working() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given two workers, and a version that cannot be run,
        let mut cluster = Cluster::start(story)?;
        let workers = [
            Supervised::start(story, &mut cluster, "a")?,
            Supervised::start(story, &mut cluster, "b")?,
        ];
        workers
            .iter()
            .try_for_each(Supervised::install_broken_version)?;
        // when the pool is updated, it ends with the first, and says why;
        let failed = cluster.admin(&["update", "linux"])?.exits_with(1)?;
        let words = [
            "Testing update on first worker in pool: \"a\"\na: Restarting\nFailed: ",
            "cannot be run as the next worker",
            "exit code 127 (libfuture.so.9: no such file)",
        ];
        ensure!(
            words.iter().all(|words| failed.stdout.contains(words)),
            "{failed}"
        );
        ensure!(
            !failed.stdout.contains("b: "),
            "the others were not spared: {failed}"
        );
        // and when the worker alone is, the same;
        let failed = cluster.admin(&["update", "linux", "a"])?.exits_with(1)?;
        ensure!(
            failed.stdout.contains("Failed: ") && !failed.stdout.contains("Restarted"),
            "{failed}"
        );
        // then both are where they were, and the one that failed takes jobs.
        let show = cluster.show("linux")?;
        ensure!(!show.contains("shutting down"), "{show}");
        for name in ["a", "b"] {
            ensure!(cluster.registrations(name)? == 1, "{name} has restarted");
        }
        cluster.admin(&["pause", "linux", "b"])?.success()?;
        let job = Dockerfile::from(&story.base_image()?).step("RUN echo still here");
        let done = cluster
            .add_client("alice")?
            .submit(&Submission::of(&job))?
            .success()?;
        ensure!(done.stdout.contains("Building on a\n"), "{done}");
        Ok(())
    })
}

#[test]
fn a_worker_that_does_not_come_back_fails_the_update() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a worker without a supervisor, and little patience,
        let mut cluster = Cluster::start_with(
            story,
            ClusterOptions {
                flags: vec!["--worker-update-timeout=2s".to_owned()],
                ..ClusterOptions::default()
            },
        )?;
        let mut worker =
            cluster.add_worker_with(WorkerOptions::named("w").flag("--update-program"))?;
        // when it is updated, it ends as one that is to be started again, and nobody does.
        let failed = cluster.admin(&["update", "linux", "w"])?.exits_with(1)?;
        ensure!(
            failed.stdout == "w: Restarting\nFailed: Timeout waiting for worker to reconnect!\n",
            "{failed}"
        );
        let status = worker.process().wait_exit(SOON)?;
        ensure!(status.code() == Some(1), "the worker ended with {status}");
        // And there is nobody left to update.
        let nobody = cluster.admin(&["update", "linux"])?.exits_with(1)?;
        ensure!(
            nobody.stderr.ends_with("No workers connected to pool!\n"),
            "{nobody}"
        );
        let gone = cluster.admin(&["update", "linux", "w"])?.exits_with(1)?;
        ensure!(gone.stdout == "Failed: Unknown worker\n", "{gone}");
        Ok(())
    })
}

#[test]
fn a_worker_whose_engine_is_in_no_swarm_says_so_and_goes_on_working() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given a worker that was told of a service, on an engine which has none,
        let mut cluster = Cluster::start(story)?;
        let options = WorkerOptions::named("w")
            .flag("--update-image=registry.invalid/worker:live")
            .flag("--update-service=builder");
        let mut worker = cluster.add_worker_with(options)?;
        // when it is to be updated, it says what is wrong before anything is pulled, and stays.
        let failed = cluster.admin(&["update", "linux", "w"])?.exits_with(1)?;
        let expected = "Failed: cannot update the service \"builder\" of the Docker swarm: ";
        ensure!(
            failed.stdout.contains(expected) && failed.stdout.contains("swarm manager"),
            "{failed}"
        );
        ensure!(
            worker.process().is_running()? && !cluster.show("linux")?.contains("shutting down")
        );
        Ok(())
    })
}

#[test]
fn an_admin_who_gives_up_waiting_gives_the_worker_back() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given an update that waits for a job,
        let mut cluster = Cluster::start(story)?;
        let worker = Supervised::start(story, &mut cluster, "w")?;
        let alice = cluster.add_client("alice")?;
        let gated = Dockerfile::from(&story.base_image()?).gate();
        let mut running = alice.start_to_the_gate(&Submission::of(&gated))?;
        let mut updating = update(story, &cluster, &["linux", "w"])?;
        updating.wait_for_log("w: Running jobs: 1")?;
        // when the admin interrupts it, the worker is an ordinary one again,
        updating.interrupt()?;
        ensure!(!updating.wait_exit(SOON)?.success());
        cluster.wait_for_show("linux", "the worker to be active", SOON, |show| {
            !show.contains("shutting down")
        })?;
        // which finishes its job and stays.
        story.engine()?.open_gate(&gated)?;
        ensure!(running.wait_exit(SOON)?.success(), "{}", running.log());
        ensure!(!worker.process.log().contains("the supervisor sees"));
        Ok(())
    })
}
