//! Mistakes in files and on command lines: each is answered with a clear message, an orderly exit code, and never a panic.
//!
//! Ill-behaved peers and failing builds have files of their own, `bad_peers` and `bad_jobs`.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{Client, Cluster, Finished, Story, Submission, WorkerOptions, run};

/// A Dockerfile that nobody gets to build.
const UNUSED: &str = "FROM scratch\n";

#[test]
fn a_cap_file_that_is_not_one_is_refused_by_every_program() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let good = fs::read_to_string(cluster.secret("admin.cap"))?;
        let good = good.trim();
        let without_digest = good.replacen("sha-256:", "", 1);
        let cases: [(&str, &str, &[&str]); 8] = [
            (
                "junk",
                "hello\n",
                &["Missing scheme in hello (expected 'capnp://...')"],
            ),
            ("empty", "", &["Missing scheme"]),
            ("binary", "\u{0}\u{1}\u{fffd}", &["Missing scheme"]),
            (
                "cut-in-the-key",
                good.get(..40).context("a short cap")?,
                &["digest"],
            ),
            ("cut-after-the-scheme", "capnp://", &["digest"]),
            (
                "another-version",
                &good.replacen("capnp://", "capnp2://", 1),
                &["Unknown scheme \"capnp2\""],
            ),
            (
                "another-digest",
                &good.replacen("sha-256", "sha-512", 1),
                &["sha-512"],
            ),
            ("no-digest", &without_digest, &["hash type"]),
        ];
        for (name, content, words) in cases {
            let cap = story.scratch.write(&format!("{name}.cap"), content)?;
            for mut command in every_program(story, &cap)? {
                run(&mut command)?
                    .fails_saying(words)
                    .with_context(|| format!("{name}.cap"))?;
            }
        }
        // One that does not exist is named.
        let missing = story.scratch.join("missing.cap");
        for mut command in every_program(story, &missing)? {
            run(&mut command)?.fails_saying(&["missing.cap"])?;
        }
        Ok(())
    })
}

#[test]
fn a_cap_for_another_key_or_another_object_opens_nothing() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let good = fs::read_to_string(cluster.secret("admin.cap"))?;
        let (scheme, rest) = good.trim().split_once("sha-256:").context("no digest")?;
        let (fingerprint, rest) = rest.split_once('@').context("no host")?;
        let (host, id) = rest.split_once('/').context("no id")?;

        // Given a cap with another key's fingerprint, then the server is not trusted;
        let other_key = format!("{scheme}sha-256:{}@{rest}\n", reversed(fingerprint));
        let cap = story.scratch.write("other-key.cap", other_key)?;
        show(story, &cap)?.fails_saying(&["fingerprint"])?;
        // with another id, or one that was cut short, then there is no such object;
        for (name, id) in [
            ("other-id", reversed(id)),
            ("short-id", id.get(..8).unwrap_or(id).to_owned()),
        ] {
            let content = format!("{scheme}sha-256:{fingerprint}@{host}/{id}\n");
            let cap = story.scratch.write(&format!("{name}.cap"), content)?;
            show(story, &cap)?
                .fails_saying(&["Unknown persistent service ID"])
                .context(name)?;
        }
        // with an address where nobody listens, then that is said;
        let nobody = format!("{scheme}sha-256:{fingerprint}@127.0.0.1:1/{id}\n");
        let cap = story.scratch.write("nobody.cap", nobody)?;
        show(story, &cap)?.fails_saying(&["Network connection for tcp:127.0.0.1:1 failed"])?;
        // and each program says so of a cap that is another's: the admin's tool,
        show(story, &cluster.secret("pool-linux.cap"))?
            .fails_saying(&["Unimplemented", "Is this capability an admin's?"])?;
        // the client,
        let admin = cluster.secret("admin.cap");
        Client::new(story, "admin", &admin)
            .submit(&Submission::of_text(UNUSED))?
            .fails_saying(&["Unimplemented", "Is this capability a client's?"])?;
        // and the worker, which does not try it for ever.
        let state = format!("--state-dir={}", story.scratch.join("stray").display());
        let mut worker = story.programs.command("ocluster-worker");
        worker.arg(&admin).args(["--name=stray", &state]);
        let ended = run(&mut worker)?.exits_with(125)?;
        ensure!(ended.stderr.contains("it is not a pool's"), "{ended}");
        // The real one works as before.
        show(story, &cluster.secret("admin.cap"))?.success()?;
        Ok(())
    })
}

#[test]
fn a_scheduler_does_not_start_on_a_key_file_that_is_not_one() -> Result<()> {
    Story::tell(&[], |story| {
        // Given a cluster that has worked,
        let mut cluster = Cluster::start(story)?;
        let key = cluster.secret("key.pem");
        let good = fs::read(&key)?;
        cluster.stop_scheduler()?;
        let truncated = good.get(..good.len() / 2).context("an empty key")?;
        let certificate = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for content in [
            b"this is not a key\n".as_slice(),
            b"",
            truncated,
            certificate,
        ] {
            // when its key file is damaged,
            fs::write(&key, content)?;
            // then it says which file is wrong, and leaves it as it is.
            run(&mut cluster.scheduler_command())?.fails_saying(&["key.pem"])?;
            ensure!(
                fs::read(&key)? == content,
                "the damaged key was overwritten"
            );
        }
        // With the right key, everything is as before.
        fs::write(&key, good)?;
        cluster.restart_scheduler()?;
        show(story, &cluster.secret("admin.cap"))?.success()?;
        Ok(())
    })
}

#[test]
fn a_scheduler_does_not_start_on_a_port_in_use_or_with_senseless_flags() -> Result<()> {
    Story::tell(&[], |story| {
        let mut cluster = Cluster::start(story)?;
        cluster.stop_scheduler()?;
        // Given somebody else on its port, it names the address;
        let squatter = TcpListener::bind(("127.0.0.1", cluster.port()))?;
        let port = cluster.port().to_string();
        run(&mut cluster.scheduler_command())?.fails_saying(&[&port, "in use"])?;
        drop(squatter);
        // given senseless flags, it says what is wrong with which.
        for (flag, words) in [
            (
                "--capnp-listen-address=udp:127.0.0.1:1",
                ["Only tcp:HOST:PORT and unix:PATH", "addresses"],
            ),
            (
                "--capnp-listen-address=tcp:127.0.0.1",
                ["Missing :PORT in listen address", ""],
            ),
            (
                "--capnp-listen-address=tcp:127.0.0.1:http",
                ["PORT must be an integer", ""],
            ),
            ("--pools=", ["pools", ""]),
            ("--scheduling=best", ["scheduling", "upstream"]),
        ] {
            let name = flag.split('=').next().unwrap_or(flag);
            let mut command = without(&cluster.scheduler_command(), name);
            run(command.arg(flag))?.fails_saying(&words).context(flag)?;
        }
        // Two schedulers cannot share a state directory.
        cluster.restart_scheduler()?;
        let mut second = without(&cluster.scheduler_command(), "--capnp-listen-address");
        let mut second = without(
            second.arg("--capnp-listen-address=tcp:127.0.0.1:0"),
            "--listen-prometheus",
        );
        run(&mut second)?.fails_saying(&["scheduler-state"])?;
        show(story, &cluster.secret("admin.cap"))?.success()?;
        Ok(())
    })
}

#[test]
fn names_that_do_not_exist_are_refused_in_the_words_of_ocluster() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        // An unknown pool,
        let refusal = alice
            .submit(&Submission::of_text(UNUSED).pool("nope"))?
            .exits_with(1)?;
        let expected = "Error tailing logs: Failed: Pool ID \"nope\" not one of {linux}";
        ensure!(refusal.stderr.contains(expected), "{refusal}");
        for (words, code, stdout, stderr) in [
            (
                vec!["show", "nope"],
                1,
                "",
                "PoolAdmin.show: Failed: No such pool",
            ),
            // an unknown worker,
            (vec!["show", "linux", "nope"], 0, "nope: Not found\n", ""),
            (
                vec!["pause", "linux", "nope"],
                1,
                "",
                "PoolAdmin.setActive: Failed: Unknown worker",
            ),
            (
                vec!["forget", "linux", "nope"],
                1,
                "Failed: Worker \"nope\" not known in this pool",
                "",
            ),
            (
                vec!["pause", "linux"],
                0,
                "No workers connected to pool (nothing to do).",
                "",
            ),
            (vec!["forget", "linux"], 1, "", "No workers in pool!"),
            // an unknown client, and one that is known already.
            (
                vec!["remove-client", "nobody"],
                1,
                "",
                "Admin.removeClient: Failed: Unknown client \"nobody\"",
            ),
            (
                vec!["set-rate", "linux", "nobody", "2"],
                1,
                "",
                "PoolAdmin.setRate: Failed: No such user",
            ),
            (
                vec!["add-client", "alice"],
                1,
                "",
                "Failed: Client \"alice\" already registered!",
            ),
        ] {
            let finished = cluster.admin(&words)?.exits_with(code)?;
            ensure!(
                finished.stdout.contains(stdout) && finished.stderr.contains(stderr),
                "{finished}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_client_s_contradictions_are_usage_errors() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let alice = cluster.add_client("alice")?;
        let url = "https://example.org/repo";
        for (submission, code, words) in [
            (
                Submission::of_text(UNUSED).flag("--context-dockerfile=Dockerfile"),
                124,
                "Can't use --local-dockerfile and --context-dockerfile together!",
            ),
            (
                Submission::of_text(UNUSED).from(url, &[]),
                125,
                "No commits requested from repository \"https://example.org/repo\"!",
            ),
            (
                Submission::of_text(UNUSED).flag("--push-to=foo"),
                124,
                "Missing ':TAG' in target \"foo\"",
            ),
            (
                Submission::of_text(UNUSED).flag("--push-user=alice"),
                125,
                "Must use --push-to with --push-user/--push-password",
            ),
        ] {
            alice
                .submit(&submission)?
                .exits_with(code)?
                .fails_saying(&[words])?;
        }
        Ok(())
    })
}

/// Each program that takes a cap, on this one.
fn every_program(story: &Story, cap: &std::path::Path) -> Result<Vec<Command>> {
    let dockerfile = story.scratch.write("unused", UNUSED)?;
    let mut client = story.programs.command("ocluster-client");
    client
        .args(["submit-docker", "--pool=linux", "-c"])
        .arg(cap)
        .arg("--local-dockerfile")
        .arg(dockerfile);
    let mut admin = story.programs.command("ocluster-admin");
    admin.args(["show", "-c"]).arg(cap);
    let mut worker = story.programs.command("ocluster-worker");
    worker
        .arg("-c")
        .arg(cap)
        .arg("--name=w1")
        .arg("--state-dir")
        .arg(story.scratch.join("state-unused"));
    Ok(vec![client, admin, worker])
}

/// `ocluster-admin show` with this cap.
fn show(story: &Story, cap: &std::path::Path) -> Result<Finished> {
    run(story
        .programs
        .command("ocluster-admin")
        .args(["show", "-c"])
        .arg(cap))
}

/// The same command without the flag `name`.
fn without(command: &Command, name: &str) -> Command {
    let mut other = Command::new(command.get_program());
    let is = |word: &std::ffi::OsStr| word.to_string_lossy().split('=').next() == Some(name);
    other.args(command.get_args().filter(|word| !is(word)));
    other
}

/// Another text of the same length and alphabet.
fn reversed(text: &str) -> String {
    // The last character of unpadded base64 carries fewer bits than the others: it stays where it is.
    let (body, last) = text.split_at(text.len().saturating_sub(1));
    body.chars().rev().chain(last.chars()).collect()
}

#[test]
fn a_worker_with_senseless_flags_does_not_start() -> Result<()> {
    Story::tell(&[], |story| {
        let cluster = Cluster::start(story)?;
        let cap = cluster.secret("pool-linux.cap");
        for (flag, words) in [
            ("--capacity=many", "capacity"),
            ("--docker-pull=sometimes", "docker-pull"),
            (
                "--prune-threshold=101",
                "prune_threshold must be in the range 0 to 100",
            ),
        ] {
            let mut worker = story.programs.command("ocluster-worker");
            worker
                .arg("-c")
                .arg(&cap)
                .arg("--name=w1")
                .arg("--state-dir")
                .arg(story.scratch.join("state-w1"))
                .arg(flag);
            run(&mut worker)?.fails_saying(&[words])?;
        }
        // A state directory that is a file is named.
        let mut options = WorkerOptions::named("w1");
        options.state = Some("a-file".to_owned());
        story.scratch.write("state-a-file", "not a directory")?;
        let mut worker = cluster.start_worker(options)?;
        let status = worker.process().wait_exit(ocluster_tests::SOON)?;
        ensure!(
            !status.success() && worker.process().log().contains("state-a-file"),
            "{}",
            worker.process().log()
        );
        Ok(())
    })
}
