//! A worker that is a service of a Docker swarm updates itself: a real swarm of one node, on an engine of the story's own, with a real
//! registry beside it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Engine, Finished, Process, SOON, Story, Workshop, find_program, run, wait_for,
};

/// The name of the worker's image, in the registry on the engine's own loopback.
const IMAGE: &str = "127.0.0.1:5000/ocluster/worker";

/// The same with its tag, which moves from version to version.
const LIVE: &str = "127.0.0.1:5000/ocluster/worker:live";

/// An engine with a swarm.
struct Swarm<'a> {
    story: &'a Story,
    engine: Engine,
}

impl<'a> Swarm<'a> {
    fn start(story: &'a Story) -> Result<Self> {
        let directory = story.scratch.join("engine");
        let engine = Engine::private(&directory, &story.scratch.log_file("dockerd"))?;
        let mut up = Command::new(find_program("ip").context("`ip` is not installed")?);
        up.args(["link", "set", "lo", "up"]);
        run(&mut engine.within_its_network(&up)?)?.success()?;
        let addresses = ["--advertise-addr=127.0.0.1", "--listen-addr=127.0.0.1:2377"];
        engine
            .docker(&[&["swarm", "init"], &addresses[..]].concat())?
            .success()?;
        let data = story.scratch.directory("registry")?;
        let config = format!(
            "version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: {}\nhttp:\n  addr: 127.0.0.1:5000\n",
            data.display()
        );
        story.scratch.write("registry.yml", config)?;
        Ok(Self { story, engine })
    }

    /// Starts the registry (again), in the engine's network.
    fn registry(&self) -> Result<Process> {
        let registry = find_program("docker-registry")
            .context("`docker-registry` is not installed: install Debian's package of that name")?;
        let mut command = Command::new(registry);
        command
            .arg("serve")
            .arg(self.story.scratch.join("registry.yml"));
        let mut command = self.engine.within_its_network(&command)?;
        let log = self.story.scratch.log_file("registry");
        let process = Process::start("docker-registry", &mut command, &log)?;
        let mut ask = Command::new("busybox");
        ask.args(["wget", "-q", "-O", "-", "http://127.0.0.1:5000/v2/"]);
        wait_for("the registry to answer", SOON, || {
            let answer = run(&mut self.engine.within_its_network(&ask)?)?;
            Ok((answer.code() == 0).then_some(()))
        })?;
        Ok(process)
    }

    /// In the registry's place, something that takes connections and says nothing.
    fn silent_registry(&self) -> Result<Process> {
        let mut listen = Command::new("busybox");
        listen.args(["nc", "-ll", "-p", "5000", "-e", "sleep", "600"]);
        let mut listen = self.engine.within_its_network(&listen)?;
        let log = self.story.scratch.log_file("silent");
        let process = Process::start("a silent registry", &mut listen, &log)?;
        // The sockets of its network, of either kind: port 5000, listening.
        let network = Path::new("/proc")
            .join(process.pid().to_string())
            .join("net");
        wait_for("it to listen", SOON, || {
            let kinds = ["tcp", "tcp6"];
            let sockets =
                kinds.map(|kind| fs::read_to_string(network.join(kind)).unwrap_or_default());
            let mut lines = sockets.iter().flat_map(|sockets| sockets.lines());
            Ok(lines
                .any(|line| line.contains(":1388 ") && line.contains(" 0A "))
                .then_some(()))
        })?;
        Ok(process)
    }

    /// Makes a newer version of the worker's image, publishes it, and forgets it, so that it has to be pulled. Gives its name by
    /// digest.
    fn publish_version_2(&self) -> Result<String> {
        let context = self.story.scratch.directory("version-2")?;
        fs::write(
            context.join("Dockerfile"),
            format!("FROM {LIVE}\nLABEL version=2\n"),
        )?;
        let context = context.to_str().context("a path that is not UTF-8")?;
        self.engine
            .docker(&["build", "-t", LIVE, context])?
            .success()?;
        self.engine.docker(&["push", LIVE])?.success()?;
        let digests = "{{join .RepoDigests \"\\n\"}}";
        let digests = self
            .engine
            .list(&["image", "inspect", "--format", digests, LIVE])?;
        let digest = digests.into_iter().find(|name| name.starts_with(IMAGE));
        self.engine.docker(&["rmi", LIVE])?.success()?;
        digest.context("a pushed image without a digest")
    }

    /// What the swarm has been told of a service.
    fn spec(&self, service: &str) -> Result<String> {
        let asked = ["service", "inspect", "--format", "{{json .Spec}}", service];
        Ok(self.engine.docker(&asked)?.success()?.stdout)
    }

    /// The image that a service is to use.
    fn image_of(&self, service: &str) -> Result<String> {
        let template = "{{.Spec.TaskTemplate.ContainerSpec.Image}}";
        let asked = ["service", "inspect", "--format", template, service];
        let answer = self.engine.docker(&asked)?.success()?;
        Ok(answer.stdout.trim().to_owned())
    }
}

/// A scheduler on a socket in the file system, as the engine's network is not ours.
struct Scheduler<'a> {
    story: &'a Story,
    directory: PathBuf,
    _process: Process,
}

impl<'a> Scheduler<'a> {
    fn start(story: &'a Story) -> Result<Self> {
        let directory = story.scratch.directory("scheduler")?;
        let path = |name: &str| directory.join(name).display().to_string();
        let mut command = story.programs.command("ocluster-scheduler");
        command
            .arg(format!("--capnp-secret-key-file={}", path("key.pem")))
            .arg(format!("--capnp-listen-address=unix:{}", path("socket")))
            .arg(format!("--secrets-dir={}", path("")))
            .arg(format!("--state-dir={}", path("state")))
            .args([
                "--pools=linux",
                "--verbosity=info",
                "--worker-update-timeout=120s",
            ]);
        let log = story.scratch.log_file("scheduler");
        let process = Process::start("the scheduler", &mut command, &log)?;
        let admin = directory.join("admin.cap");
        wait_for("the caps", SOON, || Ok(admin.is_file().then_some(())))?;
        Ok(Self {
            story,
            directory,
            _process: process,
        })
    }

    fn admin(&self, words: &[&str]) -> Result<Finished> {
        run(&mut self.admin_command(words))
    }

    fn admin_command(&self, words: &[&str]) -> Command {
        let mut command = self.story.programs.command("ocluster-admin");
        command
            .args(words)
            .arg("-c")
            .arg(self.directory.join("admin.cap"));
        command
    }

    fn wait_for_worker(&self) -> Result<()> {
        let mut last = String::new();
        let limit = Duration::from_secs(120);
        wait_for("the worker to be in the pool", limit, || {
            last = self.admin(&["show", "linux"])?.success()?.stdout;
            Ok(last.contains("(0 running)").then_some(()))
        })
        .with_context(|| format!("`show` prints {last}"))
    }
}

fn mount(from: &Path, to: &Path) -> String {
    format!(
        "--mount=type=bind,source={},target={}",
        from.display(),
        to.display()
    )
}

#[test]
fn a_worker_in_a_swarm_gives_its_service_the_newest_image_by_digest() -> Result<()> {
    Story::tell(&["docker", "dockerd", "registry", "netns"], |story| {
        // Given a worker that is a service of a swarm, from an image in a registry,
        let swarm = Swarm::start(story)?;
        let registry = swarm.registry()?;
        let workshop = Workshop::open(&swarm.engine, &story.programs, &story.scratch)?;
        workshop.build("Dockerfile.worker", LIVE)?;
        swarm.engine.docker(&["push", LIVE])?.success()?;
        let scheduler = Scheduler::start(story)?;
        let socket = story.scratch.join("engine/docker.sock");
        let mounts = [
            mount(&socket, Path::new("/var/run/docker.sock")),
            mount(&scheduler.directory, &scheduler.directory),
        ];
        let cap = scheduler
            .directory
            .join("pool-linux.cap")
            .display()
            .to_string();
        let image = format!("--update-image={LIVE}");
        let words = [
            "service",
            "create",
            "--detach",
            "--name=builder",
            "--network=host",
            "--restart-delay=1s",
            "--label=site=here",
            "--env=COLOUR=green",
            "--limit-memory=2g",
            "--stop-grace-period=30s",
            &mounts[0],
            &mounts[1],
            LIVE,
            &cap,
            "--name=w",
            "--state-dir=state",
            "--verbosity=info",
            &image,
            "--update-service=builder",
        ];
        swarm.engine.docker(&words)?.success()?;
        scheduler.wait_for_worker()?;
        let (first, before) = (swarm.image_of("builder")?, swarm.spec("builder")?);

        // when it is to be updated while the registry is away, it says so, and goes on as it is;
        drop(registry);
        let failed = scheduler.admin(&["update", "linux", "w"])?.exits_with(1)?;
        let expected = format!("w: Restarting\nFailed: cannot pull {LIVE}: ");
        ensure!(failed.stdout.starts_with(&expected), "{failed}");
        ensure!(failed.stdout.contains("connection refused"), "{failed}");
        let show = scheduler.admin(&["show", "linux"])?.success()?.stdout;
        ensure!(
            show.contains("(0 running)") && !show.contains("shutting down"),
            "{show}"
        );
        ensure!(swarm.spec("builder")? == before);

        // when the registry answers nothing at all, an admin who gives up does so for the worker, too;
        let silent = swarm.silent_registry()?;
        let log = story.scratch.log_file("update");
        let mut admin = scheduler.admin_command(&["update", "linux", "w"]);
        let mut waiting = Process::start("ocluster-admin update", &mut admin, &log)?;
        wait_for("another pull to begin", SOON, || {
            let said = swarm.engine.docker(&["service", "logs", "builder"])?;
            let said = format!("{}{}", said.stdout, said.stderr);
            let pulls = said.matches("Pulling the worker's next image").count();
            Ok((pulls == 2).then_some(()))
        })?;
        ensure!(waiting.is_running()?);
        waiting.interrupt()?;
        ensure!(!waiting.wait_exit(SOON)?.success());
        drop(silent);
        let failed = wait_for("the worker to have given up", SOON, || {
            let failed = scheduler.admin(&["update", "linux", "w"])?.exits_with(1)?;
            Ok((!failed.stdout.contains("under way already")).then_some(failed))
        })?;
        ensure!(failed.stdout.contains("connection refused"), "{failed}");
        ensure!(swarm.spec("builder")? == before);

        // when there is a newer image, the service gets exactly that one, and nothing else about it changes.
        let _registry = swarm.registry()?;
        let second = swarm.publish_version_2()?;
        let updated = scheduler.admin(&["update", "linux", "w"])?.success()?;
        ensure!(updated.stdout == "w: Restarting\nRestarted\n", "{updated}");
        ensure!(swarm.image_of("builder")? == second && first != second);
        let after = swarm.spec("builder")?;
        ensure!(
            after.replace(&second, &first) == before,
            "before: {before}after: {after}"
        );
        // The worker that came back is the newer one.
        let running = ["ps", "-q", "--filter", "label=version=2"];
        ensure!(
            swarm.engine.list(&running)?.len() == 1,
            "version 2 does not run"
        );
        scheduler.wait_for_worker()?;
        Ok(())
    })
}
