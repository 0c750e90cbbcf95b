//! What another process costs: its memory and its processor time.

use std::time::{Duration, Instant};

use anyhow::Context as _;

/// Length of the unit in which Linux counts processor time for programs. It has been this on every architecture for decades.
const TICK: Duration = Duration::from_millis(10);

/// Memory is steady once it has not grown for this long.
const STEADY: Duration = Duration::from_secs(2);

/// Whoever's memory grows for longer is not waited for.
const NOT_STEADY: Duration = Duration::from_secs(60);

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

/// The same, once it has not grown for a while, or after a minute.
///
/// # Errors
/// If there is no such process, or `/proc` is not Linux's.
pub async fn steady_kib(pid: u32) -> anyhow::Result<u64> {
    let mut highest = resident_kib(pid)?;
    let mut since = Instant::now();
    let started = Instant::now();
    while since.elapsed() < STEADY && started.elapsed() < NOT_STEADY {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let now = resident_kib(pid)?;
        if now > highest {
            highest = now;
            since = Instant::now();
        }
    }
    resident_kib(pid)
}

fn parse(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The processor time that process `pid` has used, in all its threads, in user and kernel mode.
///
/// # Errors
/// If there is no such process, or `/proc` is not Linux's.
pub fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {path}: is --pid right?"))?;
    let ticks = parse_ticks(&stat).with_context(|| format!("{path} cannot be understood"))?;
    Ok(TICK * ticks)
}

/// The 14th and 15th field together. The second is the program's name, in brackets, and may hold anything.
fn parse_ticks(stat: &str) -> Option<u32> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut times = after_name.split_ascii_whitespace().skip(11);
    let user: u32 = times.next()?.parse().ok()?;
    let system: u32 = times.next()?.parse().ok()?;
    user.checked_add(system)
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
    fn reads_the_ticks_of_a_program_with_a_strange_name() {
        let stat = "42 (a ) b) S 1 1 1 0 -1 4194560 2 0 0 0 30 12 0 0 20 0 1 0 5 6 7\n";
        assert_eq!(parse_ticks(stat), Some(42));
        assert_eq!(parse_ticks("42"), None);
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
