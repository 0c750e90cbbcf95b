//! A step as an OCI runtime is told it: the container's configuration. It is OBuilder's, with what is stricter in ours marked so. It must
//! never hold the value of a secret.

use serde_json::{Value, json};

use super::request::Request;
use super::{Network, Seccomp};

/// What the container's root may do. Left out on purpose: raw sockets, and ports below 1024.
const CAPABILITIES: [&str; 12] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];

/// What newer runtimes hide as well: ways to learn what the machine's other tenants do.
const MASKED_TOO: [&str; 2] = ["/proc/interrupts", "/sys/devices/virtual/powercap"];

const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// What the kernel counts CPU time in, in microseconds.
const CPU_PERIOD: u32 = 100_000;

/// What a container is made of, beside what the step asks for.
pub(super) struct Surroundings<'a> {
    /// The file for `/etc/hosts`.
    pub(super) hosts: &'a str,
    /// The file for `/etc/resolv.conf`, where the machine has one.
    pub(super) resolver: Option<&'a str>,
    /// The file of each secret, in order.
    pub(super) secrets: &'a [String],
    /// The control group.
    pub(super) cgroup: &'a str,
    /// Whether the runtime is to limit memory (or somebody else does).
    pub(super) limit_memory: bool,
    /// Whether the kernel can hide the other control groups.
    pub(super) cgroup_namespaces: bool,
    pub(super) seccomp: Seccomp,
    pub(super) fast_sync: bool,
}

/// The contents of `config.json`.
pub(super) fn config(request: &Request, around: &Surroundings<'_>) -> Value {
    let mut namespaces = Vec::new();
    if request.network == Network::None {
        namespaces.push(json!({ "type": "network" }));
    }
    for kind in ["pid", "ipc", "uts", "mount"] {
        namespaces.push(json!({ "type": kind }));
    }
    if around.cgroup_namespaces {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    let masked: Vec<_> = MASKED.iter().chain(&MASKED_TOO).collect();
    json!({
        "ociVersion": "1.0.1-dev",
        "process": {
            "terminal": false,
            "user": { "uid": request.user.0, "gid": request.user.1 },
            "args": request.argv,
            "env": request.env,
            "cwd": request.cwd,
            // Programs that are not root's start without capabilities: none are inheritable.
            "capabilities": {
                "bounding": CAPABILITIES,
                "effective": CAPABILITIES,
                "permitted": CAPABILITIES,
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            // Steps may use sudo.
            "noNewPrivileges": false,
        },
        "root": { "path": request.root, "readonly": false },
        "hostname": "builder",
        "mounts": mounts(request, around),
        "linux": {
            "namespaces": namespaces,
            "maskedPaths": masked,
            "readonlyPaths": READ_ONLY,
            "seccomp": super::seccomp::profile(around.seccomp, around.fast_sync),
            "cgroupsPath": around.cgroup,
            "resources": resources(request, around.limit_memory),
        },
    })
}

fn mounts(request: &Request, around: &Surroundings<'_>) -> Vec<Value> {
    let mut mounts = vec![
        mount("proc", "/proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount(
            "tmpfs",
            "/dev",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "devpts",
            "/dev/pts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount(
            "sysfs",
            "/sys",
            "sysfs",
            &["nosuid", "noexec", "nodev", "ro"],
        ),
        mount(
            "cgroup",
            "/sys/fs/cgroup",
            "cgroup",
            &["ro", "nosuid", "noexec", "nodev"],
        ),
        mount(
            "shm",
            "/dev/shm",
            "tmpfs",
            &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
        ),
        mount(
            "mqueue",
            "/dev/mqueue",
            "mqueue",
            &["nosuid", "noexec", "nodev"],
        ),
        file(around.hosts, "/etc/hosts"),
    ];
    if request.network == Network::Host
        && let Some(resolver) = around.resolver
    {
        mounts.push(file(resolver, "/etc/resolv.conf"));
    }
    for ((_, target), source) in request.secrets.iter().zip(around.secrets) {
        mounts.push(file(source, target));
    }
    for cache in &request.caches {
        mounts.push(mount(
            &cache.source,
            &cache.target,
            "bind",
            &["bind", "nosuid", "nodev"],
        ));
    }
    mounts
}

fn mount(source: &str, target: &str, kind: &str, options: &[&str]) -> Value {
    json!({ "destination": target, "type": kind, "source": source, "options": options })
}

/// A single file that the step can read and not write.
fn file(source: &str, target: &str) -> Value {
    mount(source, target, "bind", &["ro", "rbind", "rprivate"])
}

fn resources(request: &Request, limit_memory: bool) -> Value {
    let mut resources = json!({});
    if let Some(memory) = request.limits.memory.filter(|_| limit_memory) {
        // Memory and swap together: none of it may be swap.
        resources["memory"] = json!({ "limit": memory, "swap": memory });
    }
    if let Some(cpus) = request.limits.cpus {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "limits were checked to be between a hundredth and a million"
        )]
        let quota = (cpus * f64::from(CPU_PERIOD)) as i64;
        resources["cpu"] = json!({ "quota": quota, "period": CPU_PERIOD });
    }
    if let Some(pids) = request.limits.pids {
        resources["pids"] = json!({ "limit": pids });
    }
    resources
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::Rootfs;
    use crate::sandbox::Limits;
    use crate::sandbox::request::Cache;

    fn request() -> Request {
        Request {
            rootfs: Rootfs::Plain("/store/step/rootfs".into()),
            root: "/store/step/rootfs".into(),
            argv: vec![
                "/usr/bin/env".into(),
                "bash".into(),
                "-c".into(),
                "make".into(),
            ],
            cwd: "/src".into(),
            env: vec!["PATH=/bin".into(), "A=x y".into()],
            user: (1000, 100),
            network: Network::Host,
            caches: vec![Cache {
                tree: Rootfs::Plain("/store/cache/c".into()),
                source: "/store/cache/c".into(),
                target: "/cache".into(),
            }],
            secrets: vec![(Zeroizing::new(b"hush".to_vec()), "/run/secrets/s".into())],
            limits: Limits::default(),
        }
    }

    fn around<'a>(secrets: &'a [String]) -> Surroundings<'a> {
        Surroundings {
            hosts: "/private/hosts",
            resolver: Some("/etc/resolv.conf"),
            secrets,
            cgroup: "/obuilder/x",
            limit_memory: true,
            cgroup_namespaces: true,
            seccomp: Seccomp::Open,
            fast_sync: true,
        }
    }

    /// OBuilder's configuration of the same step, but for the paths on the machine.
    fn upstreams() -> Value {
        let capabilities = json!([
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FSETID",
            "CAP_FOWNER",
            "CAP_MKNOD",
            "CAP_SETGID",
            "CAP_SETUID",
            "CAP_SETFCAP",
            "CAP_SETPCAP",
            "CAP_SYS_CHROOT",
            "CAP_KILL",
            "CAP_AUDIT_WRITE"
        ]);
        let mut config = json!({
            "ociVersion": "1.0.1-dev",
            "process": {
                "terminal": false,
                "user": { "uid": 1000, "gid": 100 },
                "args": ["/usr/bin/env", "bash", "-c", "make"],
                "env": ["PATH=/bin", "A=x y"],
                "cwd": "/src",
                "capabilities": {
                    "bounding": capabilities,
                    "effective": capabilities,
                    "inheritable": capabilities,
                    "permitted": capabilities,
                },
                "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
                "noNewPrivileges": false
            },
            "root": { "path": "/store/step/rootfs", "readonly": false },
            "hostname": "builder",
            "mounts": [
                { "destination": "/proc", "type": "proc", "source": "proc",
                  "options": ["nosuid", "noexec", "nodev"] },
                { "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                  "options": ["nosuid", "strictatime", "mode=755", "size=65536k"] },
                { "destination": "/dev/pts", "type": "devpts", "source": "devpts",
                  "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"] },
                { "destination": "/sys", "type": "sysfs", "source": "sysfs",
                  "options": ["nosuid", "noexec", "nodev", "ro"] },
                { "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
                  "options": ["ro", "nosuid", "noexec", "nodev"] },
                { "destination": "/dev/shm", "type": "tmpfs", "source": "shm",
                  "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"] },
                { "destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                  "options": ["nosuid", "noexec", "nodev"] },
                { "destination": "/etc/hosts", "type": "bind", "source": "/private/hosts",
                  "options": ["ro", "rbind", "rprivate"] },
                { "destination": "/etc/resolv.conf", "type": "bind", "source": "/etc/resolv.conf",
                  "options": ["ro", "rbind", "rprivate"] },
                { "destination": "/run/secrets/s", "type": "bind", "source": "/private/secret-0",
                  "options": ["ro", "rbind", "rprivate"] },
                { "destination": "/cache", "type": "bind", "source": "/store/cache/c",
                  "options": ["bind", "nosuid", "nodev"] }
            ],
            "linux": {
                "namespaces": [
                    { "type": "pid" }, { "type": "ipc" }, { "type": "uts" }, { "type": "mount" }
                ],
                "maskedPaths": [
                    "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                    "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi",
                    "/sys/firmware"
                ],
                "readonlyPaths": [
                    "/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"
                ],
                "seccomp": {
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{
                        "names": ["fsync", "fdatasync", "msync", "sync", "syncfs", "sync_file_range"],
                        "action": "SCMP_ACT_ERRNO",
                        "errnoRet": 0
                    }]
                }
            }
        });
        match std::env::consts::ARCH {
            "x86_64" => {
                config["linux"]["seccomp"]["architectures"] =
                    json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
            }
            "aarch64" => {
                config["linux"]["seccomp"]["architectures"] =
                    json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]);
            }
            _ => (),
        }
        config
    }

    #[test]
    fn the_configuration_is_obuilders_with_our_additions_and_nothing_else() {
        let secrets = ["/private/secret-0".to_owned()];
        let mut expected = upstreams();
        // Ours: nothing is inheritable, other control groups are hidden, the group has a name of ours and room for limits, and two
        // files more are hidden.
        expected["process"]["capabilities"]
            .as_object_mut()
            .unwrap()
            .remove("inheritable");
        let linux = &mut expected["linux"];
        let namespaces = linux["namespaces"].as_array_mut().unwrap();
        namespaces.push(json!({ "type": "cgroup" }));
        linux["cgroupsPath"] = json!("/obuilder/x");
        linux["resources"] = json!({});
        let masked = linux["maskedPaths"].as_array_mut().unwrap();
        masked.push(json!("/proc/interrupts"));
        masked.push(json!("/sys/devices/virtual/powercap"));
        assert_eq!(config(&request(), &around(&secrets)), expected);
    }

    #[test]
    fn without_a_network_there_is_a_namespace_for_it_and_no_resolver() {
        let secrets = ["/private/secret-0".to_owned()];
        let mut request = request();
        request.network = Network::None;
        let config = config(&request, &around(&secrets));
        assert_eq!(
            config["linux"]["namespaces"][0],
            json!({ "type": "network" })
        );
        assert!(!config.to_string().contains("resolv.conf"));
    }

    #[test]
    fn values_of_secrets_are_not_in_it() {
        let secrets = ["/private/secret-0".to_owned()];
        assert!(
            !config(&request(), &around(&secrets))
                .to_string()
                .contains("hush")
        );
    }

    #[test]
    fn limits_are_told_to_the_runtime() {
        let mut request = request();
        request.limits = Limits {
            memory: Some(1 << 20),
            cpus: Some(1.5),
            pids: Some(9),
            time: None,
            output: None,
        };
        assert_eq!(
            resources(&request, true),
            json!({
                "memory": { "limit": 1 << 20, "swap": 1 << 20 },
                "cpu": { "quota": 150_000, "period": 100_000 },
                "pids": { "limit": 9 },
            })
        );
        assert_eq!(resources(&request, false).get("memory"), None);
    }

    #[test]
    fn the_guarded_profile_forbids_mounts_and_leaves_sync_alone() {
        let profile = crate::sandbox::seccomp::profile(Seccomp::Guarded, false);
        let rules = profile["syscalls"].as_array().unwrap();
        assert_eq!(rules.len(), 1);
        assert_eq!(rules[0]["errnoRet"], 1);
        let names = rules[0]["names"].as_array().unwrap();
        assert!(names.contains(&json!("mount")));
        assert!(!names.contains(&json!("fsync")));
    }
}
