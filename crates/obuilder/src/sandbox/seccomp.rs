//! Which system calls a step may make, as an OCI runtime is told.

use serde_json::{Value, json};

use super::Seccomp;

/// The calls that wait for a disk. OBuilder's `--fast-sync` answers these with success, and does nothing.
const SYNC: [&str; 6] = [
    "fsync",
    "fdatasync",
    "msync",
    "sync",
    "syncfs",
    "sync_file_range",
];

/// The calls that change or watch the machine rather than a build, which container engines forbid as well. Names that an architecture
/// does not have are passed over by the runtime.
const GUARDED: &[&str] = &[
    "_sysctl",
    "acct",
    "add_key",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "get_kernel_syms",
    "get_mempolicy",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "mbind",
    "mount",
    "move_mount",
    "move_pages",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "query_module",
    "quotactl",
    "reboot",
    "request_key",
    "set_mempolicy",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "umount2",
    "unshare",
    "userfaultfd",
];

/// The `seccomp` part of a container's configuration.
pub(super) fn profile(choice: Seccomp, fast_sync: bool) -> Value {
    let mut rules = Vec::new();
    if fast_sync {
        rules.push(json!({ "names": SYNC, "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }));
    }
    if choice == Seccomp::Guarded {
        // EPERM.
        rules.push(json!({ "names": GUARDED, "action": "SCMP_ACT_ERRNO", "errnoRet": 1 }));
    }
    let mut profile = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules });
    if let Some(architectures) = architectures() {
        profile["architectures"] = architectures;
    }
    profile
}

/// The machine's calling conventions, where OBuilder names them.
fn architectures() -> Option<Value> {
    match std::env::consts::ARCH {
        "x86_64" => Some(json!([
            "SCMP_ARCH_X86_64",
            "SCMP_ARCH_X86",
            "SCMP_ARCH_X32"
        ])),
        "aarch64" => Some(json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"])),
        _ => None,
    }
}
