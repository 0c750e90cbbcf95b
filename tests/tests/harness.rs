//! The harness itself: what the stories rely on is as real as they think.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};
use ocluster_tests::{
    BaseImage, Dockerfile, Engine, NetNs, Process, Registry, SOON, Scratch, TlsPeer, http_get, run,
    skipped, unique, wait_for,
};

/// Builds with the command line client, as no program of ours does.
fn build(engine: &Engine, scratch: &Scratch, dockerfile: &Dockerfile) -> Result<Process> {
    let context = scratch.directory(&unique("context"))?;
    std::fs::write(context.join("Dockerfile"), dockerfile.text())?;
    let mut command = Command::new("docker");
    command
        .arg("build")
        .arg(context)
        .env("DOCKER_HOST", engine.host())
        .env("DOCKER_BUILDKIT", "0");
    Process::start(
        "docker build",
        &mut command,
        &scratch.log_file(&unique("build")),
    )
}

#[test]
fn a_gated_build_waits_until_its_gate_is_opened() -> Result<()> {
    if skipped(&["docker"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let engine = Engine::shared()?;
    let dockerfile = Dockerfile::from(&BaseImage::in_engine(&engine)?).gate();
    let mut building = build(&engine, &scratch, &dockerfile)?;
    building.wait_for_log(&Dockerfile::at_the_gate())?;
    // Its output comes a moment before the engine counts it as running.
    wait_for("the build's one container to run", SOON, || {
        Ok((engine.containers_of(&dockerfile)?.len() == 1).then_some(()))
    })?;
    ensure!(building.is_running()?, "{}", building.log());
    engine.open_gate(&dockerfile)?;
    ensure!(building.wait_exit(SOON)?.success(), "{}", building.log());
    engine.wait_until_gone(&dockerfile)
}

#[test]
fn a_private_engine_builds_dies_comes_back_and_leaves_nothing() -> Result<()> {
    if skipped(&["docker", "dockerd"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let directory = scratch.join("engine");
    let name = directory.to_string_lossy().into_owned();
    {
        // Given an engine of our own in the middle of a build,
        let mut engine = Engine::private(&directory, &scratch.log_file("dockerd"))?;
        let base = BaseImage::in_engine(&engine)?;
        let dockerfile = Dockerfile::from(&base).gate();
        let mut building = build(&engine, &scratch, &dockerfile)?;
        building.wait_for_log(&Dockerfile::at_the_gate())?;
        // when it is killed, the build fails, and nothing of it runs;
        engine.kill()?;
        ensure!(!building.wait_exit(SOON)?.success());
        ensure!(!engine.answers()?);
        ensure!(
            !processes_naming(&name),
            "something of the killed engine still runs"
        );
        // when it comes back, it has its images, and builds.
        engine.restart()?;
        let mut building = build(
            &engine,
            &scratch,
            &Dockerfile::from(&base).step("RUN echo again"),
        )?;
        ensure!(building.wait_exit(SOON)?.success(), "{}", building.log());
    }
    // When its guard is gone, so is everything of it.
    ensure!(
        !processes_naming(&name),
        "something of the engine still runs"
    );
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(
        !mounts.contains(&name),
        "something is still mounted:\n{mounts}"
    );
    Ok(())
}

#[test]
fn a_cut_cable_is_silent_and_a_mended_one_carries_again() -> Result<()> {
    if skipped(&["netns"]) {
        return Ok(());
    }
    let network = NetNs::new()?;
    let listener = TcpListener::bind((network.host_address(), 0))?;
    let port = listener.local_addr()?.port().to_string();
    // Whoever comes is let go at once.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let mut send = Command::new("busybox");
    send.args(["nc", "-w", "2", network.host_address(), &port]);
    // A program inside reaches the host,
    run(&mut network.command(&send)?)?.success()?;
    // does not when the cable is cut,
    network.cut()?;
    ensure!(run(&mut network.command(&send)?)?.code() != 0);
    // and does again when it is mended.
    network.mend()?;
    run(&mut network.command(&send)?)?.success()?;
    Ok(())
}

#[test]
fn a_registry_answers() -> Result<()> {
    if skipped(&["registry"]) {
        return Ok(());
    }
    let scratch = Scratch::new()?;
    let registry = Registry::start(&scratch)?;
    let repository = registry.repository("some/image");
    let port: u16 = repository
        .trim_start_matches("127.0.0.1:")
        .trim_end_matches("/some/image")
        .parse()?;
    ensure!(http_get(port, "/v2/some/image/tags/list")?.status == 404);
    Ok(())
}

#[test]
fn a_tls_peer_stays_until_the_server_hangs_up() -> Result<()> {
    let scratch = Scratch::new()?;
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    let server = std::thread::spawn(move || -> std::io::Result<Vec<u8>> {
        // Reads the beginning of the handshake, and hangs up.
        let (mut stream, _): (TcpStream, _) = listener.accept()?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut header = [0; 5];
        stream.read_exact(&mut header)?;
        Ok(header.to_vec())
    });
    let finished = TlsPeer::with_certificate(&scratch)?.say(port, b"hello", &scratch)?;
    let header = server
        .join()
        .map_err(|_| anyhow::anyhow!("the server panicked"))??;
    ensure!(
        header.starts_with(&[0x16, 0x03]),
        "not a TLS handshake: {header:?}"
    );
    ensure!(finished.code() != 0, "{finished}");
    Ok(())
}

/// Whether a daemon's command line names this.
fn processes_naming(name: &str) -> bool {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return false;
    };
    let lines = entries
        .flatten()
        .filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines
        .map(|line| String::from_utf8_lossy(&line).into_owned())
        .any(|line| line.contains(name))
}
