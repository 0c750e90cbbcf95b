//! What a step's output costs. Alone in its program, because it measures the program's memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod sandbox_support;

use std::fs;

use sandbox_support::Bench;

/// The most memory that this program had, in KiB.
fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_gibibyte_of_output_costs_less_than_32_mib_of_memory() {
    let bench = Bench::new().await;
    bench.sh("echo warm").await.succeeded();
    let before = peak();
    let (log, path) = bench.new_log().await;
    let sandbox = bench.sandbox();
    let step = bench.step("yes 0123456789abcdef0123456789abcdef | head -c 1073741824");
    let cancel = tokio_util::sync::CancellationToken::new();
    let ended = ocluster_obuilder::sandbox::Sandbox::run(&*sandbox, step, &log, &cancel).await;
    assert_eq!(ended.unwrap(), ocluster_obuilder::sandbox::Ended::Exited(0));
    assert_eq!(fs::metadata(&path).unwrap().len(), 1 << 30);
    let grown = peak() - before;
    println!("1 GiB of output cost {grown} KiB of memory");
    assert!(grown < 32 * 1024, "{grown} KiB");
    drop(sandbox);
    bench.nothing_left();
    bench.close();
}
