//! One step from its first mount to its last trace, on a thread of its own, which may block.
//!
//! The thread encloses itself, starts the runtime as the first process of a new process namespace, waits, looks how it ended and removes
//! everything. The runtime's files are in the enclosure's memory, and vanish with it. If the worker is killed the kernel kills the
//! runtime, and the process namespace with it.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileTypeExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, PidfdFlags, getpid, pidfd_open};

use super::cgroup::Group;
use super::enclosure::Enclosure;
use super::leash::Leash;
use super::machine::Machine;
use super::oci::{self, Surroundings};
use super::request::{Request, machine_path};
use super::{Network, SandboxError, sys};

/// Who owns and reads the runtime's files.
const ROOT: (u32, u32) = (0, 0);

/// The machine's name server, for steps that see the machine's network.
const RESOLVER: &str = "/etc/resolv.conf";

/// How the runtime ended.
#[derive(Debug)]
pub(super) struct End {
    /// What it said.
    pub(super) status: ExitStatus,
    /// Whether the step was started at all.
    pub(super) started: bool,
    /// Whether a process of it was killed for want of memory.
    pub(super) out_of_memory: bool,
}

/// Runs `request` to its end with its output into `output`. `None` if `leash` was pulled before it was started.
pub(super) fn supervise(
    machine: &Machine,
    request: Request,
    output: OwnedFd,
    leash: &Leash,
) -> Result<Option<End>, SandboxError> {
    let id = machine.new_id();
    // Dropped in reverse: the enclosure before the group.
    let group = Group::new(&machine.cgroups, &id, &request.limits)?;
    let enclosure = Enclosure::enter(&machine.private)?;
    enclosure.show(&request.rootfs)?;
    for cache in &request.caches {
        enclosure.show(&cache.tree)?;
    }
    furnish(machine, &request, &group, &enclosure)?;
    // Their values are in files by now, and forgotten here.
    drop(request);
    if leash.is_pulled() {
        return Ok(None);
    }
    let pid_file = enclosure.path("pid");
    let mut runtime = start(machine, &id, &enclosure, &pid_file, output).map_err(|error| {
        let runtime = machine.runtime.display();
        SandboxError::Machine {
            message: format!("cannot start {runtime}: {error}"),
            full_disk: false,
        }
    })?;
    let status = hold(&mut runtime, leash).map_err(|error| SandboxError::Machine {
        message: format!("lost sight of a step's runtime: {error}"),
        full_disk: false,
    })?;
    Ok(Some(End {
        status,
        started: pid_file.exists(),
        out_of_memory: group.ran_out_of_memory(),
    }))
}

/// Writes the files that the runtime reads and the step sees.
fn furnish(
    machine: &Machine,
    request: &Request,
    group: &Group,
    enclosure: &Enclosure,
) -> Result<(), SandboxError> {
    // OBuilder's, which has no newline either.
    enclosure.write("hosts", b"127.0.0.1 localhost builder", ROOT, 0o644)?;
    let mut secrets = Vec::with_capacity(request.secrets.len());
    for (n, (value, _)) in request.secrets.iter().enumerate() {
        let name = format!("secret-{n}");
        enclosure.write(&name, value, request.user, 0o400)?;
        secrets.push(machine_path(&enclosure.path(&name))?);
    }
    let resolver = request.network == Network::Host && usable(Path::new(RESOLVER));
    let config = oci::config(
        request,
        &Surroundings {
            hosts: &machine_path(&enclosure.path("hosts"))?,
            resolver: resolver.then_some(RESOLVER),
            secrets: &secrets,
            cgroup: group.path(),
            limit_memory: group.runtime_limits_memory(),
            cgroup_namespaces: machine.cgroup_namespaces,
            seccomp: machine.seccomp,
            fast_sync: machine.fast_sync,
        },
    );
    enclosure.write("config.json", config.to_string().as_bytes(), ROOT, 0o600)
}

/// Whether `path` leads to something that can be mounted on a file.
fn usable(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|metadata| metadata.is_file() || metadata.file_type().is_char_device())
}

fn start(
    machine: &Machine,
    id: &str,
    enclosure: &Enclosure,
    pid_file: &Path,
    output: OwnedFd,
) -> io::Result<Child> {
    let mut command = Command::new(&machine.runtime);
    command
        // Nothing of the worker's environment is the runtime's business; NOTIFY_SOCKET would even be mounted into the step.
        .env_clear()
        .env(
            "PATH",
            "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        )
        .current_dir("/")
        .arg("--root")
        .arg(enclosure.path("containers"))
        .args(["run", "--bundle"])
        .arg(enclosure.path(""))
        .arg("--pid-file")
        .arg(pid_file)
        .arg(id)
        .stdin(Stdio::null())
        .stderr(File::from(output.try_clone()?))
        .stdout(File::from(output));
    sys::tie(&mut command, pidfd_open(getpid(), PidfdFlags::empty())?);
    // Our ends of the pipe are closed with the command, here.
    command.spawn()
}

fn hold(runtime: &mut Child, leash: &Leash) -> io::Result<ExitStatus> {
    match pidfd_open(Pid::from_child(runtime), PidfdFlags::empty()) {
        Ok(process) => leash.put_on(process),
        Err(error) => {
            // What cannot be stopped must not go on.
            let _ = runtime.kill();
            let _ = runtime.wait();
            return Err(error.into());
        }
    }
    // The kernel answers when everything in the process namespace is gone.
    runtime.wait()
}
