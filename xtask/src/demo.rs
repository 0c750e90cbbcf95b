//! `cargo xtask demo`: a whole cluster at work, as a shell session: the tour of the README with every step checked.
//!
//! Everything happens in a temporary directory, on free ports of loopback, and is gone at the end, however it ends.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    BIN_DIR_VARIABLE, GitDaemon, Process, SOON, Scratch, free_port, http_get, wait_for,
};

use crate::needs;
use crate::shell::{Shell, check};
use crate::surroundings::Surroundings;
use crate::test::{build, program_directory, timed};

const POOL: &str = "linux-x86_64";

/// The pool of the worker without Docker.
const DAEMONLESS: &str = "daemonless";

/// How long the demo's build takes between its first and its last line, at least.
const BUILD_TIME: Duration = Duration::from_secs(2);

/// How long a program may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// The running demo.
struct Demo<'a> {
    shell: Shell,
    scratch: &'a Scratch,
    surroundings: &'a Surroundings,
    programs: PathBuf,
    summary: Vec<String>,
}

pub(crate) fn run() -> Result<()> {
    let start = Instant::now();
    needs::provide(&needs::for_demo(), &[])?;
    let surroundings = Surroundings::prepare()?;
    timed("building the four programs", build(&["build"]))?;
    let programs = std::env::var_os(BIN_DIR_VARIABLE)
        .map_or_else(program_directory, |path| Ok(path.into()))?;
    let scratch = Scratch::new()?;
    let shell = Shell::new(scratch.path(), &programs, surroundings.engine())?;
    let mut demo = Demo {
        shell,
        scratch: &scratch,
        surroundings: &surroundings,
        programs,
        summary: Vec::new(),
    };
    demo.tour().with_context(|| {
        format!(
            "the demo did not end well. What the programs said:\n{}",
            logs(&scratch)
        )
    })?;
    println!(
        "\n== The demo ended well after {} s:",
        start.elapsed().as_secs()
    );
    for line in &demo.summary {
        println!("   - {line}");
    }
    Ok(())
}

impl Demo<'_> {
    fn tour(&mut self) -> Result<()> {
        let http = free_port()?;
        let mut scheduler = self.start_scheduler(http)?;
        let mut first = self.start_worker(&mut scheduler, "worker-1")?;
        self.add_client()?;
        let (_server, submit) = self.serve_a_repository()?;
        self.build_a_commit(&submit)?;
        let mut second = self.start_worker(&mut scheduler, "worker-2")?;
        self.show_affinity(&submit)?;
        self.show_state()?;
        self.pause_and_unpause(&submit)?;
        self.show_metrics(http)?;
        let mut third = self.build_without_docker(&mut scheduler)?;
        self.stop([&mut first, &mut second, &mut third], &mut scheduler)
    }

    fn start_scheduler(&mut self, http: u16) -> Result<Process> {
        let port = free_port()?;
        self.shell.say("A scheduler with two pools. It makes its key, and writes a cap for the admin and one for each pool's workers.");
        self.shell.run("mkdir capnp-secrets")?;
        let mut scheduler = self.shell.start(
            &format!(
                "ocluster-scheduler --capnp-secret-key-file=./capnp-secrets/key.pem \
                 --capnp-listen-address=tcp:127.0.0.1:{port} --secrets-dir=./capnp-secrets --state-dir=./scheduler-state \
                 --pools={POOL},{DAEMONLESS} --listen-prometheus={http} --verbosity=info"
            ),
            "scheduler.log",
        )?;
        scheduler.wait_for_log("Waiting for (encrypted) connections on tcp:")?;
        for cap in [
            "admin",
            &format!("pool-{POOL}"),
            &format!("pool-{DAEMONLESS}"),
        ] {
            scheduler.wait_for_log(&format!("capnp-secrets/{cap}.cap\""))?;
        }
        self.shell
            .run("grep 'Wrote capability reference' scheduler.log")?;
        let listing = self.shell.run("ls -l capnp-secrets")?.text();
        let private = listing
            .lines()
            .filter(|line| line.ends_with(".cap"))
            .all(|line| line.starts_with("-rw-------"));
        check(
            &mut self.summary,
            private && listing.contains("admin.cap"),
            "caps are written, for their owner only",
        )?;
        Ok(scheduler)
    }

    fn start_worker(&mut self, scheduler: &mut Process, name: &str) -> Result<Process> {
        self.shell.say("A worker. It dials out to the scheduler with the pool's cap, and needs no port of its own.");
        let worker = self.shell.start(
            &format!(
                "ocluster-worker ./capnp-secrets/pool-{POOL}.cap --name={name} --capacity=1 --state-dir=./{name} \
                 --docker-pull=missing --verbosity=info"
            ),
            &format!("{name}.log"),
        )?;
        let registered = format!("Registered new worker \"{name}\"");
        scheduler.wait_for_log(&registered)?;
        self.shell
            .run(&format!("grep '{registered}' scheduler.log"))?;
        check(&mut self.summary, true, &format!("{name} is registered"))?;
        Ok(worker)
    }

    fn add_client(&mut self) -> Result<()> {
        self.shell
            .say("A user gets a cap of her own, with which she can submit jobs and nothing else.");
        self.shell
            .run("ocluster-admin add-client ./capnp-secrets/admin.cap alice > alice.cap")?;
        let clients = self
            .shell
            .run("ocluster-admin list-clients ./capnp-secrets/admin.cap")?
            .text();
        check(
            &mut self.summary,
            clients.lines().any(|line| line == "alice"),
            "client alice is added",
        )
    }

    /// Makes a repository, serves it, and returns the command line that submits its commit, up to the cache hint.
    fn serve_a_repository(&mut self) -> Result<(GitDaemon, String)> {
        self.shell
            .say("Something to build: a commit of a real repository, on a real git server.");
        let root = self.scratch.directory("repos")?;
        let hello = "repos/hello";
        self.shell.run(&format!("git init -q -b main {hello}"))?;
        self.shell
            .run(&format!("echo 'Hello from the commit' > {hello}/greeting"))?;
        let dockerfile = format!(
            "FROM {}\nCOPY greeting /\nRUN cat /greeting; for i in 1 2 3; do echo step $i; sleep 1; done\n",
            self.surroundings.image().name()
        );
        self.scratch
            .write(&format!("{hello}/Dockerfile"), dockerfile)?;
        self.shell.run(&format!("cat {hello}/Dockerfile"))?;
        self.shell.run(&format!(
            "git -C {hello} add -A && git -C {hello} commit -q -m 'Say hello'"
        ))?;
        let commit = self
            .shell
            .run(&format!("git -C {hello} rev-parse HEAD"))?
            .last_line()
            .to_owned();
        let server = GitDaemon::start(&root, &self.scratch.join("git-daemon.log"))?;
        let url = server.url("hello");
        let submit =
            format!("ocluster-client submit-docker ./alice.cap --pool={POOL} {url} {commit}");
        Ok((server, submit))
    }

    fn build_a_commit(&mut self, submit: &str) -> Result<()> {
        self.shell
            .say("She submits the commit. Look at the log: it comes while the build runs.");
        let said = self.shell.run(&format!("{submit} --cache-hint=tutorial"))?;
        check(
            &mut self.summary,
            said.text().contains("Hello from the commit"),
            "the commit's own files were built",
        )?;
        let (first, last) = (said.time_of("step 1"), said.time_of("step 3"));
        let live = first
            .zip(last)
            .is_some_and(|(first, last)| last.duration_since(first) + BUILD_TIME / 4 >= BUILD_TIME);
        check(
            &mut self.summary,
            live,
            "the log arrived live, step by step",
        )?;
        check(
            &mut self.summary,
            said.last_line() == "Job succeeded",
            "the job succeeded, and its client ended with code 0",
        )
    }

    fn show_affinity(&mut self, submit: &str) -> Result<()> {
        self.shell.say(
            "The same cache hint, twice more. Look at `Building on`: worker-2 is idle, but worker-1 has the cache.",
        );
        for _ in 0..2 {
            self.wait_until_idle(2)?;
            let said = self.shell.run(&format!("{submit} --cache-hint=tutorial"))?;
            ensure!(
                said.text().contains("Building on worker-1\n"),
                "the hint did not lead to worker-1"
            );
        }
        check(
            &mut self.summary,
            true,
            "the same hint went to the same worker of two, each time",
        )
    }

    fn show_state(&mut self) -> Result<()> {
        self.shell.say("The state of the pool: who is ready, who runs how many jobs, and who has asked for how much.");
        let pools = self
            .shell
            .run("ocluster-admin show ./capnp-secrets/admin.cap")?;
        ensure!(
            pools.text().lines().any(|line| line == POOL),
            "the pool is not listed"
        );
        self.wait_until_idle(2)?;
        let state = self
            .shell
            .run(&format!(
                "ocluster-admin show ./capnp-secrets/admin.cap {POOL}"
            ))?
            .text();
        let whole = [
            "capacity: 2",
            "registered:",
            "worker-1 (",
            "worker-2 (",
            "clients:",
        ];
        check(
            &mut self.summary,
            whole.iter().all(|part| state.contains(part)),
            "`show` shows the pool's state",
        )
    }

    fn pause_and_unpause(&mut self, submit: &str) -> Result<()> {
        let admin = |command: &str| {
            format!("ocluster-admin {command} ./capnp-secrets/admin.cap {POOL} worker-1")
        };
        self.shell.say("worker-1 is taken out for maintenance, once its jobs are done. Look where the next job goes.");
        let said = self.shell.run(&format!("{} --wait", admin("pause")))?;
        ensure!(
            said.last_line() == "Success.",
            "the pause did not end with `Success.`"
        );
        let said = self.shell.run(&admin("show"))?;
        ensure!(
            said.last_line() == "worker-1: Paused",
            "worker-1 is not shown as paused"
        );
        let said = self.shell.run(&format!("{submit} --cache-hint=tutorial"))?;
        check(
            &mut self.summary,
            said.text().contains("Building on worker-2\n"),
            "a paused worker gets no jobs",
        )?;
        self.shell.run(&admin("unpause"))?;
        let said = self.shell.run(&admin("show"))?;
        check(
            &mut self.summary,
            said.last_line() == "worker-1: Running",
            "an unpaused worker is back",
        )
    }

    fn show_metrics(&mut self, port: u16) -> Result<()> {
        self.shell.say("What Prometheus sees.");
        println!("$ curl -s http://127.0.0.1:{port}/metrics | grep ^ocluster_");
        let page = ocluster_tests::Exposition::parse(&http_get(port, "/metrics")?.body)?;
        for sample in page
            .samples()
            .iter()
            .filter(|sample| sample.name.starts_with("ocluster_"))
        {
            let labels: Vec<String> = sample
                .labels
                .iter()
                .map(|(key, value)| format!("{key}=\"{value}\""))
                .collect();
            println!("{}{{{}}} {}", sample.name, labels.join(","), sample.value);
        }
        let submitted = page.value("ocluster_pool_jobs_submitted_total", &[("pool", POOL)]);
        let connected = page.value("ocluster_pool_workers_connected", &[("pool", POOL)]);
        let counted = (submitted, connected) == (Some(4.0), Some(2.0));
        check(
            &mut self.summary,
            counted,
            "the metrics count four jobs and two workers",
        )?;
        check(
            &mut self.summary,
            http_get(port, "/health")?.status == 200,
            "/health says that all is well",
        )
    }

    /// A worker that has no engine, the same build twice, and what is left of that.
    fn build_without_docker(&mut self, scheduler: &mut Process) -> Result<Process> {
        self.shell.say(
            "A worker without Docker: there is no engine where it looks for one. It builds OBuilder specs by itself, on layers in a store.",
        );
        self.scratch.directory("images")?;
        ocluster_tests::base_archive(&self.scratch.join("images/busybox.tar"))?;
        let worker = self.shell.start(
            &format!(
                "env DOCKER_HOST=unix://$PWD/no-engine.sock ocluster-worker ./capnp-secrets/pool-{DAEMONLESS}.cap --name=worker-3 \
                 --capacity=2 --state-dir=./worker-3 --obuilder-store=overlayfs:$PWD/worker-3-store --obuilder-images=$PWD/images \
                 --obuilder-healthcheck-image=rootfs:$PWD/images/busybox.tar --verbosity=info"
            ),
            "worker-3.log",
        )?;
        scheduler.wait_for_log("Registered new worker \"worker-3\"")?;
        let spec = format!(
            "((from rootfs:{})\n (shell /bin/sh -c)\n (run (cache (notes (target /notes)))\n      (shell \"echo built once >> /notes/log; \\\n              wc -l < /notes/log; uname -s\")))\n",
            self.scratch.join("images/busybox.tar").display()
        );
        self.scratch.write("hello.spec", spec)?;
        self.shell.run("cat hello.spec")?;
        self.shell
            .say("The same spec, twice. Look at `saved as` and `from cache`: the second job builds nothing.");
        let submit = format!(
            "ocluster-client submit-obuilder ./alice.cap --pool={DAEMONLESS} --local-file=hello.spec --cache-hint=hello"
        );
        let built = self.shell.run(&submit)?;
        ensure!(
            built.text().contains("---> saved as \""),
            "the step was not built"
        );
        let cached = self.shell.run(&submit)?;
        let text = cached.text();
        check(
            &mut self.summary,
            text.contains("\" from cache") && !text.contains("saved as"),
            "an OBuilder job was built without Docker, and found in the store the second time",
        )?;
        ensure!(
            built.last_line() == cached.last_line(),
            "the two jobs have different results"
        );
        Ok(worker)
    }

    fn stop(&mut self, workers: [&mut Process; 3], scheduler: &mut Process) -> Result<()> {
        self.shell
            .say("The end: everything stops when it is asked to.");
        for (name, process) in ["worker-1", "worker-2", "worker-3"]
            .into_iter()
            .zip(workers)
        {
            println!("$ kill {}  # {name}", process.pid());
            process.terminate(STOP_LIMIT)?;
        }
        println!("$ kill {}  # the scheduler", scheduler.pid());
        let status = scheduler.terminate(STOP_LIMIT)?;
        check(
            &mut self.summary,
            status.success(),
            "the programs stopped in order",
        )
    }

    /// Waits, behind the scenes, until all workers are ready for the next job, so that the next choice is the scheduler's.
    fn wait_until_idle(&self, workers: usize) -> Result<()> {
        let (admin, cap) = (
            self.programs.join("ocluster-admin"),
            self.scratch.join("capnp-secrets/admin.cap"),
        );
        wait_for("every worker to be ready", SOON, || {
            let state = ocluster_tests::run(
                std::process::Command::new(&admin)
                    .arg("show")
                    .arg(&cap)
                    .arg(POOL),
            )?
            .success()?;
            let ready = state
                .stdout
                .lines()
                .find_map(|line| line.strip_prefix("queue: (ready) ["));
            Ok(ready
                .is_some_and(|list| list.split_whitespace().count() == workers)
                .then_some(()))
        })
    }
}

/// The end of each program's log.
fn logs(scratch: &Scratch) -> String {
    let mut all = String::new();
    for name in [
        "scheduler.log",
        "worker-1.log",
        "worker-2.log",
        "worker-3.log",
        "git-daemon.log",
    ] {
        if let Ok(text) = std::fs::read_to_string(scratch.join(name)) {
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines
                .get(lines.len().saturating_sub(30)..)
                .unwrap_or_default()
                .join("\n");
            all.push_str(&format!("=== end of {name}\n{tail}\n"));
        }
    }
    all
}
