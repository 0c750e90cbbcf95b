//! What a step costs above a bare run of the runtime with the same configuration. Alone in its program, because it measures time.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout
)]

mod sandbox_support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ocluster_obuilder::sandbox::Sandbox as _;
use sandbox_support::{Bench, need, script};
use tokio_util::sync::CancellationToken;

const ROUNDS: usize = 30;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The same bundle that the sandbox gives to the runtime, in `bundle`.
async fn take_bundle(bundle: &Path) {
    let runc = need("runc", "runc");
    fs::create_dir(bundle).unwrap();
    let spy = bundle.join("spy");
    // --root R run --bundle B ...
    script(
        &spy,
        &format!(
            "#!/bin/sh\n[ \"$1\" = --version ] || cp \"$5/config.json\" \"$5/hosts\" {0}/\nexec {1} \"$@\"\n",
            bundle.display(),
            runc.display()
        ),
    );
    let bench = Bench::with(|config| config.runtime = spy).await;
    bench.sh("true").await.succeeded();
    let config = fs::read_to_string(bundle.join("config.json")).unwrap();
    let hosts = bench.state().canonicalize().unwrap().join("private/hosts");
    let config = config.replace(
        hosts.to_str().unwrap(),
        bundle.join("hosts").to_str().unwrap(),
    );
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["linux"]["cgroupsPath"] = format!("/obuilder-bare-{}", std::process::id()).into();
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    bench.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_costs_little_more_than_the_bare_runtime() {
    let bench = Bench::new().await;
    let bundle = bench.path().join("bundle");
    take_bundle(&bundle).await;
    let mut config: serde_json::Value =
        serde_json::from_slice(&fs::read(bundle.join("config.json")).unwrap()).unwrap();
    config["root"]["path"] = bench.rootfs().to_str().unwrap().into();
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let (mut bare, mut ours) = (Vec::new(), Vec::new());
    let (log, _) = bench.new_log().await;
    let sandbox = bench.sandbox();
    // In turns, so that the machine's other work meets both.
    for n in 0..ROUNDS {
        let begun = Instant::now();
        let status = tokio::task::block_in_place(|| {
            Command::new("runc")
                .arg("--root")
                .arg(bench.path().join("bare"))
                .args(["run", "--bundle"])
                .arg(&bundle)
                .arg(format!("bare-{}-{n}", std::process::id()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .status()
                .unwrap()
        });
        bare.push(begun.elapsed());
        assert!(status.success());
        let begun = Instant::now();
        let ended = sandbox
            .run(bench.step("true"), &log, &CancellationToken::new())
            .await;
        ours.push(begun.elapsed());
        assert!(ended.is_ok(), "{ended:?}");
    }
    drop(sandbox);
    let (bare, ours) = (median(bare), median(ours));
    println!("medians of {ROUNDS}: bare runtime {bare:?}, sandbox {ours:?}");
    // The machine's noise is larger than what a step costs, so this only catches what is out of all proportion.
    assert!(
        ours < bare * 2 + Duration::from_millis(50),
        "bare {bare:?}, ours {ours:?}"
    );
    bench.nothing_left();
    bench.close();
}
