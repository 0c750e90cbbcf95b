//! How much memory another process holds.

use anyhow::Context as _;

/// The resident memory of process `pid` in KiB, as the kernel accounts for it.
///
/// # Errors
/// If there is no such process, or `/proc` is not Linux's.
pub fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path}: is --pid right?"))?;
    parse(&status).with_context(|| format!("{path} has no line VmRSS"))
}

fn parse(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_kernels_line() {
        assert_eq!(
            parse("Name:\tx\nVmRSS:\t   12345 kB\nThreads:\t1\n"),
            Some(12345)
        );
        assert_eq!(parse("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_that_is_not_there_is_named() {
        let error = resident_kib(u32::MAX).unwrap_err().to_string();
        assert!(
            error.contains("4294967295") && error.contains("--pid"),
            "{error}"
        );
    }
}
