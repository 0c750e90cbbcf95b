//! What operators install: systemd units, images, a compose file. Each is understood by the real tool, and starts the real programs.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Client, Container, Dockerfile, Engine, Finished, GitDaemon, Process, Repository, SOON, Story,
    Submission, Workshop, find_program, free_port, project, run, unique, wait_for,
};

const UNITS: [&str; 2] = ["ocluster-scheduler.service", "ocluster-worker@.service"];

fn unit(name: &str) -> Result<String> {
    let path = project().join("deploy/systemd").join(name);
    fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))
}

/// What systemd itself says of unit files with these names and contents.
fn verify(directory: &Path, units: &[(&str, String)]) -> Result<Finished> {
    let program = find_program("systemd-analyze")
        .context("`systemd-analyze` is not installed: install Debian's package `systemd`")?;
    let mut command = Command::new(program);
    command.arg("verify");
    for (name, content) in units {
        let path = directory.join(name);
        fs::write(&path, content)?;
        command.arg(path);
    }
    run(&mut command)
}

#[test]
fn systemd_understands_every_line_of_the_units() -> Result<()> {
    Story::tell(&["systemd"], |story| {
        let programs = format!("{}/", story.programs.directory().display());
        let here = |unit: String| unit.replace("/usr/local/bin/", &programs);
        let directory = story.scratch.directory("units")?;
        for name in UNITS {
            let said = verify(&directory, &[(name, here(unit(name)?))])?.success()?;
            ensure!(said.stderr.is_empty(), "{said}");
        }
        // What a worker that runs OBuilder builds adds to its unit is read with it.
        let additions = directory.join("ocluster-worker@.service.d");
        fs::create_dir(&additions)?;
        let obuilder = unit("worker-obuilder.conf")?;
        for (odd, complaints) in [("", 0), ("ProtectCat=yes\n", 1)] {
            fs::write(additions.join("obuilder.conf"), format!("{obuilder}{odd}"))?;
            let said = verify(&directory, &[(UNITS[1], here(unit(UNITS[1])?))])?;
            ensure!(said.stderr.lines().count() == complaints, "{said}");
        }
        // It would have said so otherwise.
        let odd = here(unit(UNITS[0])?).replace("[Service]", "[Service]\nProtectCat=yes");
        let said = verify(&directory, &[("odd.service", odd)])?;
        ensure!(said.stderr.contains("ProtectCat"), "{said}");
        Ok(())
    })
}

/// A unit's command line, as systemd would make it from the example environment file and `given`, which has the last word. Its state
/// directories are made below `states`, and its instance, if it is of a template, is called `main`.
fn command_line(
    unit: &str,
    environment_file: &str,
    states: &Path,
    given: &[(&str, String)],
) -> Result<Vec<String>> {
    let states = states.display().to_string();
    let unit = unit.replace("\\\n", " ");
    let unit = unit.replace("%S", &states).replace("%i", "main");
    let value = |key: &str| {
        let lines = unit.lines().filter_map(move |line| line.strip_prefix(key));
        lines.collect::<Vec<_>>()
    };
    let mut variables = BTreeMap::new();
    let directories = value("StateDirectory=");
    let directories = directories.iter().flat_map(|line| line.split_whitespace());
    let directories: Vec<String> = directories.map(|name| format!("{states}/{name}")).collect();
    directories.iter().try_for_each(fs::create_dir_all)?;
    variables.insert("STATE_DIRECTORY".to_owned(), directories.join(":"));
    let assignments = value("Environment=");
    let own = assignments.iter().flat_map(|line| line.split_whitespace());
    let file = environment_file
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    for assignment in own.chain(file) {
        let (name, value) = assignment.split_once('=').context("no assignment")?;
        variables.insert(name.to_owned(), value.to_owned());
    }
    for (name, value) in given {
        variables.insert((*name).to_owned(), value.clone());
    }
    let commands = value("ExecStart=");
    let [command] = commands[..] else {
        anyhow::bail!("{} commands", commands.len());
    };
    let mut words = Vec::new();
    for word in command.split_whitespace() {
        // Without braces it is split into words.
        if let Some(name) = word.strip_prefix('$').filter(|rest| !rest.starts_with('{')) {
            let value = variables.get(name).with_context(|| format!("no ${name}"))?;
            words.extend(value.split_whitespace().map(str::to_owned));
            continue;
        }
        let mut word = word.to_owned();
        while let Some((before, rest)) = word.split_once("${") {
            let (name, after) = rest.split_once('}').context("no closing brace")?;
            let value = variables
                .get(name)
                .with_context(|| format!("no ${{{name}}}"))?;
            word = format!("{before}{value}{after}");
        }
        words.push(word);
    }
    Ok(words)
}

/// Starts what a unit starts, and waits until it says that it is ready.
fn start_unit(story: &Story, name: &str, words: &[String]) -> Result<Process> {
    let (program, arguments) = words.split_first().context("an empty command")?;
    let program = program
        .strip_prefix("/usr/local/bin/")
        .context("another program")?;
    let path = story.scratch.join(unique("notify"));
    let manager = UnixDatagram::bind(&path)?;
    manager.set_nonblocking(true)?;
    let mut command = story.programs.command(program);
    command.args(arguments).env("NOTIFY_SOCKET", &path);
    let mut process = Process::start(name, &mut command, &story.scratch.log_file(name))?;
    let mut buffer = [0; 1024];
    wait_for(&format!("{name} to be ready"), SOON, || {
        ensure!(process.is_running()?, "it has ended");
        let received = manager.recv(&mut buffer).ok();
        let received = received.and_then(|length| buffer.get(..length));
        Ok((received == Some(b"READY=1")).then_some(()))
    })
    .with_context(|| process.log())?;
    Ok(process)
}

#[test]
fn the_units_and_their_example_files_start_the_real_programs() -> Result<()> {
    Story::tell(&[], |story| {
        let example = |name: &str| {
            let path = project().join("deploy/systemd").join(name);
            fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))
        };
        // Given the directories that systemd makes,
        let states = story.scratch.directory("states")?;
        let address = format!("tcp:127.0.0.1:{}", free_port()?);
        let given = [
            ("OCLUSTER_LISTEN", address.clone()),
            ("OCLUSTER_PUBLIC", address),
            ("OCLUSTER_METRICS", format!("127.0.0.1:{}", free_port()?)),
        ];
        // when the scheduler's command is run, it serves, and leaves the worker's capability,
        let scheduler = unit(UNITS[0])?;
        let words = command_line(&scheduler, &example("scheduler.env")?, &states, &given)?;
        let mut scheduler = start_unit(story, "scheduler", &words)?;
        let credentials = story.scratch.directory("credentials")?;
        let cap = states.join("ocluster-scheduler/capnp-secrets/pool-linux-x86_64.cap");
        fs::copy(cap, credentials.join("pool.cap"))?;
        // with which the worker's command brings a worker.
        let given = [("CREDENTIALS_DIRECTORY", credentials.display().to_string())];
        // The engine is not ours to prune, however full its disk is.
        let example = example("worker.env")?.replace("--prune-threshold=10", "--prune-threshold=0");
        ensure!(example.contains("--prune-threshold=0"));
        let words = command_line(&unit(UNITS[1])?, &example, &states, &given)?;
        let mut worker = start_unit(story, "worker", &words)?;
        scheduler.wait_for_log("Registered new worker \"builder-1\"")?;
        ensure!(worker.terminate(SOON)?.success() && scheduler.terminate(SOON)?.success());
        Ok(())
    })
}

/// Runs docker-compose on the project's compose file.
fn compose(words: &[&str], environment: &[(&str, &str)]) -> Result<Finished> {
    let program = find_program("docker-compose")
        .context("`docker-compose` is not installed: install Debian's package `docker-compose`")?;
    let file = project().join("deploy/compose/compose.yaml");
    let mut command = Command::new(program);
    command.arg("-f").arg(file).args(words);
    command.envs(environment.iter().copied());
    run(&mut command)
}

/// The compose file's cluster, without what would have to be downloaded. Gone with all its volumes when dropped.
struct Composed<'a> {
    environment: Vec<(&'a str, &'a str)>,
}

impl<'a> Composed<'a> {
    fn start(environment: Vec<(&'a str, &'a str)>) -> Result<Self> {
        let composed = Self { environment };
        let words = ["up", "-d", "--no-build", "scheduler", "worker"];
        composed.compose(&words)?.success()?;
        Ok(composed)
    }

    fn compose(&self, words: &[&str]) -> Result<Finished> {
        compose(words, &self.environment)
    }

    /// What a command in a service's container prints.
    fn exec(&self, service: &str, words: &[&str]) -> Result<String> {
        let words = [&["exec", "-T", service], words].concat();
        Ok(self.compose(&words)?.success()?.stdout)
    }
}

impl Drop for Composed<'_> {
    fn drop(&mut self) {
        // A clean-up that fails must not hide why the story ended.
        let _ = self.compose(&["down", "-v", "--timeout=60"]);
    }
}

#[test]
fn the_compose_file_is_valid_and_all_that_it_mounts_is_there() -> Result<()> {
    Story::tell(&["docker"], |_| {
        let config = compose(&["config"], &[("OCLUSTER_ADDRESS", "builds.example.org")])?;
        let config = config.success()?;
        ensure!(config.stderr.is_empty(), "{config}");
        ensure!(
            config
                .stdout
                .contains("--capnp-public-address=tcp:builds.example.org:9000")
        );
        let services = compose(&["config", "--services"], &[])?.success()?.stdout;
        for service in ["scheduler", "worker", "prometheus", "grafana"] {
            ensure!(services.lines().any(|line| line == service), "{services}");
        }
        // Paths of the tree come out absolute, in `- FROM:TO:MODE`.
        let tree = format!("{}/", project().display());
        let mounted = config.stdout.lines().filter_map(|line| {
            let from = line.trim().strip_prefix("- ")?.split(':').next()?;
            from.starts_with(&tree).then(|| PathBuf::from(from))
        });
        let mounted: Vec<PathBuf> = mounted.collect();
        for needed in ["deploy/prometheus", "deploy/grafana/ocluster.json"] {
            ensure!(
                mounted.contains(&project().join(needed)),
                "{needed} is not mounted"
            );
        }
        let missing: Vec<_> = mounted.iter().filter(|path| !path.exists()).collect();
        ensure!(missing.is_empty(), "not in the tree: {missing:?}");
        // Prometheus finds its rules, and the scheduler under the name that its configuration says.
        let prometheus = project().join("deploy/prometheus");
        let targets = fs::read_to_string(prometheus.join("prometheus.yml"))?;
        ensure!(
            targets.contains("scheduler.example:9877")
                && config.stdout.contains("- scheduler.example\n")
        );
        ensure!(prometheus.join("alerts.yml").is_file());
        for dockerfile in ["Dockerfile", "Dockerfile.worker"] {
            let named = format!("dockerfile: {dockerfile}\n");
            ensure!(config.stdout.contains(&named) && project().join(dockerfile).is_file());
        }
        Ok(())
    })
}

#[test]
fn containers_of_scheduler_and_worker_do_a_job_together() -> Result<()> {
    Story::tell(&["docker"], |story| {
        // Given images of both, made by the project's own recipes from ready programs,
        let engine = story.engine()?;
        let socket = engine
            .host()
            .strip_prefix("unix://")
            .context("the engine has no socket in the file system to give to a worker")?;
        let workshop = Workshop::open(&engine, &story.programs, &story.scratch)?;
        let images =
            ["scheduler", "worker"].map(|name| unique(&format!("ocluster-tests/{name}:story")));
        workshop.build("Dockerfile", &images[0])?;
        workshop.build("Dockerfile.worker", &images[1])?;

        // when the scheduler is started, it is healthy, and not root;
        let listen = format!("--capnp-listen-address=tcp:127.0.0.1:{}", free_port()?);
        let words = [
            "--network=host",
            "--health-interval=1s",
            &images[0],
            "--capnp-secret-key-file=capnp-secrets/key.pem",
            &listen,
            "--state-dir=state",
            "--pools=linux",
            "--verbosity=info",
        ];
        let scheduler = Container::run(&engine, "ocluster-scheduler", &words)?;
        wait_for("the scheduler to be healthy", SOON, || {
            Ok((scheduler.inspect("{{.State.Health.Status}}")? == "healthy").then_some(()))
        })
        .with_context(|| scheduler.log())?;
        ensure!(scheduler.exec(&["id", "-u"])?.trim() == "10001");
        // it has the tools to let people and workers in.
        let admin = |words: &[&str]| {
            let (command, rest) = words.split_first().unwrap_or((&"", &[]));
            let program = ["ocluster-admin", *command, "capnp-secrets/admin.cap"];
            scheduler.exec(&[&program[..], rest].concat())
        };
        let alice = story
            .scratch
            .write("alice.cap", admin(&["add-client", "alice"])?)?;
        let pool = scheduler.exec(&["cat", "capnp-secrets/pool-linux.cap"])?;
        let pool = story.scratch.write("pool.cap", pool)?;

        // When a worker is started with the host's engine, a client on the host gets its job done: a commit from a git server.
        let words = [
            "--network=host",
            &format!("--volume={socket}:/var/run/docker.sock"),
            &format!("--volume={}:/run/pool.cap:ro", pool.display()),
            &images[1],
            "/run/pool.cap",
            "--name=contained",
            "--state-dir=state",
            "--docker-pull=missing",
            "--verbosity=info",
        ];
        let worker = Container::run(&engine, "ocluster-worker", &words)?;
        let repositories = story.scratch.directory("git")?;
        let repository = Repository::new(&repositories.join("app"))?;
        let commit = repository.commit("A file", &[("greeting", "from a container\n")])?;
        let git = GitDaemon::start(&repositories, &story.scratch.log_file("git"))?;
        let job = Dockerfile::from(&story.base_image()?)
            .step("COPY greeting .")
            .step("RUN cat greeting");
        let job = Submission::of(&job).from(&git.url("app"), &[&commit]);
        let done = Client::new(story, "alice", &alice)
            .submit(&job)?
            .success()
            .with_context(|| worker.log())?;
        ensure!(done.stdout.contains("Building on contained\n"), "{done}");
        ensure!(done.stdout.contains("\nfrom a container\n"), "{done}");

        // When such a worker, which nobody told how, is to be updated, it says what is missing, and stays.
        let update = "ocluster-admin update capnp-secrets/admin.cap linux contained; test $? = 1";
        let refused = scheduler.exec(&["sh", "-c", update])?;
        for words in [
            "Failed: ",
            "--update-image=REPO:TAG",
            "--update-service=NAME",
        ] {
            ensure!(refused.contains(words), "{refused}");
        }
        let state = admin(&["show", "linux"])?;
        ensure!(
            state.contains("contained") && !state.contains("shutting down"),
            "{state}"
        );

        // When they are stopped, both end as they should.
        ensure!(worker.stop()? == 0, "{}", worker.log());
        ensure!(scheduler.stop()? == 0, "{}", scheduler.log());

        // And the compose file makes a cluster of the same images.
        let [scheduler, worker] = &images;
        the_composed_cluster_does_a_job(story, &engine, socket, scheduler, worker)
    })
}

fn the_composed_cluster_does_a_job(
    story: &Story,
    engine: &Engine,
    socket: &str,
    scheduler: &str,
    worker: &str,
) -> Result<()> {
    let root = engine
        .docker(&["info", "--format={{.DockerRootDir}}"])?
        .success()?;
    let (port, project) = (free_port()?.to_string(), unique("ocluster-story"));
    let cluster = Composed::start(vec![
        ("COMPOSE_PROJECT_NAME", &project),
        ("DOCKER_HOST", engine.host()),
        ("OCLUSTER_DOCKER_SOCKET", socket),
        ("OCLUSTER_DOCKER_ROOT", root.stdout.trim()),
        ("OCLUSTER_SCHEDULER_IMAGE", scheduler),
        ("OCLUSTER_WORKER_IMAGE", worker),
        ("OCLUSTER_PORT", &port),
        // A name that no server knows: the scheduler's container does.
        ("OCLUSTER_ADDRESS", "builds.example.org"),
        // The engine is not ours to prune, however full its disk is.
        ("OCLUSTER_PRUNE_THRESHOLD", "0"),
    ])?;
    // The worker has its pool's capability, and no other.
    let admin = "capnp-secrets/admin.cap";
    ensure!(cluster.exec("scheduler", &["ls", admin])?.trim() == admin);
    ensure!(cluster.exec("worker", &["ls", "/run/caps"])?.trim() == "pool.cap");
    // A client on the host gets its job done through the published port.
    let cap = cluster.exec("scheduler", &["ocluster-admin", "add-client", admin, "bob"])?;
    ensure!(
        cap.contains("@builds.example.org:"),
        "not the public address"
    );
    let cap = cap.replace("@builds.example.org:", "@127.0.0.1:");
    let bob = story.scratch.write("bob.cap", cap)?;
    // This worker asks a registry for each image that a job starts from, and there is none here.
    let label = format!("ocluster.composed={project}");
    let job = Submission::of_text(&format!("FROM scratch\nLABEL {label}\n")).pool("linux-x86_64");
    let done = Client::new(story, "bob", &bob).submit(&job)?;
    let done = done.success().with_context(|| {
        let logs = cluster.compose(&["logs", "--no-color"]);
        logs.map_or_else(|error| error.to_string(), |logs| logs.stdout)
    })?;
    ensure!(done.stdout.contains("Building on worker-1\n"), "{done}");
    for image in engine.list(&["images", "-q", "--filter", &format!("label={label}")])? {
        engine.docker(&["rmi", "-f", &image])?.success()?;
    }
    Ok(())
}
