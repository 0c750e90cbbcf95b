//! The ways to reach a scheduler, beside TLS on a TCP port: without TLS, by a Unix socket; and the files for default clients.

use std::fs;
use std::net::TcpListener;
use std::process::Command;

use anyhow::{Result, ensure};
use ocluster_tests::{Process, Story, free_port, run};

/// A scheduler's command line in the story's directory, with these flags besides.
fn scheduler(story: &Story, flags: &[&str]) -> Result<Command> {
    let secrets = story.scratch.join("secrets");
    fs::create_dir_all(&secrets)?;
    let mut command = story.programs.command("ocluster-scheduler");
    command
        .arg(format!("--secrets-dir={}", secrets.display()))
        .arg(format!(
            "--capnp-secret-key-file={}",
            story.scratch.join("key.pem").display()
        ))
        .arg(format!(
            "--state-dir={}",
            story.scratch.join("state").display()
        ))
        .args(["--pools=linux", "--verbosity=info"])
        .args(flags);
    Ok(command)
}

/// Shows, through the admin tool, that the scheduler serves.
fn serves(story: &Story) -> Result<()> {
    let mut show = story.programs.command("ocluster-admin");
    show.arg("show")
        .arg(story.scratch.join("secrets/admin.cap"));
    let shown = run(&mut show)?.success()?;
    ensure!(shown.stdout.trim() == "linux", "{}", shown.stdout);
    Ok(())
}

#[test]
fn a_scheduler_can_do_without_tls() -> Result<()> {
    Story::tell(&[], |story| {
        let address = format!("--capnp-listen-address=tcp:127.0.0.1:{}", free_port()?);
        let mut command = scheduler(story, &[&address, "--capnp-disable-tls"])?;
        let log = story.scratch.log_file("scheduler");
        let mut process = Process::start("the scheduler", &mut command, &log)?;
        process.wait_for_log("Waiting for (unencrypted) connections on tcp:")?;
        process.wait_for_log("pool-linux.cap")?;
        let cap = fs::read_to_string(story.scratch.join("secrets/admin.cap"))?;
        ensure!(cap.starts_with("capnp://insecure@127.0.0.1:"));
        serves(story)
    })
}

#[test]
fn a_scheduler_can_listen_on_a_socket_in_the_file_system() -> Result<()> {
    Story::tell(&[], |story| {
        let socket = story.scratch.join("a socket.sock");
        // A file that an earlier scheduler left there is replaced.
        drop(std::os::unix::net::UnixListener::bind(&socket)?);
        let address = format!("--capnp-listen-address=unix:{}", socket.display());
        let mut command = scheduler(story, &[&address])?;
        let log = story.scratch.log_file("scheduler");
        let mut process = Process::start("the scheduler", &mut command, &log)?;
        process.wait_for_log("pool-linux.cap")?;
        let cap = fs::read_to_string(story.scratch.join("secrets/admin.cap"))?;
        ensure!(cap.contains("a%20socket.sock/"));
        serves(story)
    })
}

#[test]
fn default_clients_get_their_files_once() -> Result<()> {
    Story::tell(&[], |story| {
        let address = format!("--capnp-listen-address=tcp:127.0.0.1:{}", free_port()?);
        let start = || -> Result<String> {
            let mut command = scheduler(story, &[&address, "--default-clients=alice,bob"])?;
            let log = story.scratch.log_file("scheduler");
            let mut process = Process::start("the scheduler", &mut command, &log)?;
            process.wait_for_log("pool-linux.cap")?;
            let mut list = story.programs.command("ocluster-admin");
            list.arg("list-clients")
                .arg(story.scratch.join("secrets/admin.cap"));
            let clients = run(&mut list)?.success()?;
            ensure!(clients.stdout == "alice\nbob\n", "{}", clients.stdout);
            Ok(fs::read_to_string(
                story.scratch.join("secrets/submit-alice.cap"),
            )?)
        };
        let first = start()?;
        ensure!(start()? == first, "a restart changed a client's file");
        Ok(())
    })
}

#[test]
fn a_metrics_port_in_use_is_named() -> Result<()> {
    Story::tell(&[], |story| {
        let taken = TcpListener::bind("127.0.0.1:0")?;
        let port = taken.local_addr()?.port();
        let address = format!("--capnp-listen-address=tcp:127.0.0.1:{}", free_port()?);
        let metrics = format!("--listen-prometheus=127.0.0.1:{port}");
        let refused = run(&mut scheduler(story, &[&address, &metrics])?)?;
        let refused = refused.exits_with(125)?;
        ensure!(
            refused
                .stderr
                .contains(&format!("cannot listen on 127.0.0.1:{port} for Prometheus")),
            "{}",
            refused.stderr
        );
        Ok(())
    })
}
