//! What a worker says of itself when it joins: its machine, its version, what it can run. For people, and for telling them why a job
//! waits; it promises nothing.

use std::path::Path;

use ocluster_api::TEST_KIND;
use ocluster_api::extensions_capnp::worker_facts;
use tokio::runtime::Handle;

use crate::agent::Config;
use crate::executor::Executors;

/// The facts. What is not known is empty or 0.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    kernel: String,
    cpus: u32,
    memory: u64,
    disk: u64,
    disk_free: u64,
    kinds: Vec<String>,
}

impl Facts {
    /// Looks around, on the threads of jobs: the disk may take a moment to answer.
    pub(crate) async fn gather(config: &Config, pool: &Handle) -> Self {
        let state_dir = config.state_dir.clone();
        let looking = pool.spawn(async move { of_the_machine(&state_dir) });
        Self {
            kinds: kinds(&config.executors),
            ..looking.await.unwrap_or_default()
        }
    }

    /// Puts them on the wire.
    pub(crate) fn write(&self, mut facts: worker_facts::Builder<'_>) {
        facts.set_version(env!("CARGO_PKG_VERSION"));
        facts.set_os(std::env::consts::OS);
        facts.set_arch(std::env::consts::ARCH);
        facts.set_kernel(&self.kernel);
        facts.set_cpus(self.cpus);
        facts.set_memory(self.memory);
        facts.set_disk(self.disk);
        facts.set_disk_free(self.disk_free);
        let count = u32::try_from(self.kinds.len()).unwrap_or(u32::MAX);
        let mut kinds = facts.init_kinds(count);
        for (i, kind) in (0..count).zip(&self.kinds) {
            kinds.set(i, kind);
        }
    }
}

/// Blocks on the disk.
fn of_the_machine(state_dir: &Path) -> Facts {
    let space = rustix::fs::statvfs(state_dir).ok();
    let space = space.as_ref();
    let bytes = |blocks: u64, size: u64| blocks.saturating_mul(size);
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    Facts {
        kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        cpus: std::thread::available_parallelism()
            .map_or(0, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory: total_memory(&read("/proc/meminfo")),
        disk: space.map_or(0, |space| bytes(space.f_blocks, space.f_frsize)),
        disk_free: space.map_or(0, |space| bytes(space.f_bavail, space.f_frsize)),
        kinds: Vec::new(),
    }
}

/// The machine's memory in bytes, from the kernel's table in kibibytes; 0 if that says nothing.
fn total_memory(table: &str) -> u64 {
    let total = table
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = total.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kibibytes.map_or(0, |kibibytes: u64| kibibytes.saturating_mul(1024))
}

/// The kinds of jobs for which there is an executor.
fn kinds(executors: &Executors) -> Vec<String> {
    let mut kinds = Vec::new();
    if executors.docker.is_some() {
        kinds.push("docker".to_owned());
    }
    if executors.obuilder.is_some() {
        kinds.push("obuilder".to_owned());
    }
    let mut custom: Vec<&str> = executors.custom.keys().map(String::as_str).collect();
    if executors.test_kind && !custom.contains(&TEST_KIND) {
        custom.push(TEST_KIND);
    }
    kinds.extend(custom.iter().map(|kind| format!("custom:{kind}")));
    kinds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_described() {
        let dir = tempfile::tempdir().unwrap();
        let facts = of_the_machine(dir.path());
        assert!(!facts.kernel.is_empty() && facts.cpus > 0, "{facts:?}");
        assert!(facts.memory > 0, "{facts:?}");
        assert!(facts.disk > 0 && facts.disk >= facts.disk_free, "{facts:?}");
        assert_eq!(of_the_machine(Path::new("/nonexistent")).disk, 0);
    }

    #[test]
    fn memory_is_what_the_kernel_says_and_nonsense_is_unknown() {
        let table = "MemTotal:       16316412 kB\nMemFree:         1 kB\n";
        assert_eq!(total_memory(table), 16_316_412 * 1024);
        for nonsense in ["", "MemTotal:", "MemTotal: x kB", "MemFree: 1 kB"] {
            assert_eq!(total_memory(nonsense), 0, "{nonsense}");
        }
    }

    #[test]
    fn a_worker_can_run_what_it_has_executors_for() {
        assert!(kinds(&Executors::default()).is_empty());
        let executors = Executors {
            test_kind: true,
            ..Executors::default()
        };
        assert_eq!(kinds(&executors), ["custom:test"]);
    }
}
