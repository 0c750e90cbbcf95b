//! A process that is killed while it uses a store, again and again, for every store.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bstr::BStr;
use ocluster_obuilder::store::{Kind, Location, RsyncMode, Store};
use rustix::fs::FlockOperation;

use crate::lab::Lab;
use crate::stores::{id, location, make, number_of, open, prune};

/// What tells the process that is going to be killed which store to use.
const STORE: &str = "OBUILDER_TEST_VICTIM";

const ROUNDS: u64 = 8;

pub(crate) fn a_store_is_whole_after_its_process_was_killed(lab: &Lab) {
    let location = location(lab);
    let mut seed = 1;
    for round in 0..ROUNDS {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--ignored", "--exact", "--nocapture", "killed::victim"])
            .env(STORE, format!("{round} {location}"))
            .env("OBUILDER_TEST_VICTIM_MODE", mode(location.kind))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut victim = command.spawn().unwrap();
        let mut said = victim.stdout.take().unwrap();
        // Its first layer is there: from here on it may be killed anywhere.
        let mut heard = Vec::new();
        while !heard.ends_with(b"at work") {
            let mut byte = [0];
            if said.read(&mut byte).unwrap() == 0 {
                let mut why = String::new();
                let mut stderr = victim.stderr.take().unwrap();
                stderr.read_to_string(&mut why).unwrap();
                panic!(
                    "it did not come far: {}{why}",
                    String::from_utf8_lossy(&heard)
                );
            }
            heard.push(byte[0]);
        }
        std::thread::sleep(Duration::from_millis(random(&mut seed) % 150));
        victim.kill().unwrap();
        victim.wait().unwrap();
        lab.runtime.block_on(async {
            check(lab, &location, round).await;
            closed(&location).await;
        });
    }
    lab.runtime.block_on(async {
        let store = open(&location).await.unwrap();
        prune(&store).await;
        assert_eq!(store.count(), 0);
    });
    for dir in ["store/layers", "store/tmp"] {
        assert_eq!(lab.names(dir), [""; 0]);
    }
}

/// Opens the store as the next process would, and looks at everything.
async fn check(lab: &Lab, location: &Location, round: u64) {
    let store = open(location).await.unwrap();
    assert_eq!(lab.names("store/tmp"), [""; 0]);
    assert_eq!(lab.names("store/layers").len(), store.count());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = lab.root.to_str().unwrap();
    assert!(!mounts.contains(root), "{mounts}");
    let layers = store.list().await.unwrap();
    assert!(!layers.is_empty());
    for info in layers {
        let layer = store.layer(info.id).await.unwrap();
        let (number, files) = number_of(&layer).await;
        assert_eq!(id(number), info.id);
        assert_eq!(files as u64, number % 100, "of {number}");
    }
    let lease = store.cache(BStr::new("shared"), (0, 0)).await.unwrap();
    lease.rootfs().with(count_one_up).await.unwrap();
    assert!(lease.release().await.unwrap());
    let own = make(&store, 1_000_000 * (round + 1) + 1, None)
        .await
        .unwrap();
    assert_eq!(number_of(&own).await.1, 1);
}

/// Waits until this process has let go of the store: it may still be removing files.
async fn closed(location: &Location) {
    let deadline = Instant::now() + Duration::from_secs(60);
    let lock = fs::File::open(location.root.join("lock")).unwrap();
    while rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        assert!(Instant::now() < deadline, "the store stays open");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Two files that must agree.
fn count_one_up(tree: &Path) {
    let count = |name: &str| {
        fs::read_to_string(tree.join(name)).map_or(0, |text| text.parse::<u64>().unwrap())
    };
    let (count, twin) = (count("count"), count("twin"));
    assert_eq!(count, twin);
    for name in ["count", "twin"] {
        fs::write(tree.join(name), (count + 1).to_string()).unwrap();
    }
}

/// Not a test: the process that [`a_store_is_whole_after_its_process_was_killed`] starts and kills.
#[test]
#[ignore = "started by other tests, which kill it"]
fn victim() {
    let Ok(told) = std::env::var(STORE) else {
        panic!("this is started by other tests, which tell it what to do");
    };
    let (round, place) = told.split_once(' ').unwrap();
    let mode: Option<RsyncMode> = std::env::var("OBUILDER_TEST_VICTIM_MODE")
        .ok()
        .filter(|mode| !mode.is_empty())
        .map(|mode| mode.parse().unwrap());
    let location = place.parse::<Location>().unwrap();
    let location = location.with_rsync_mode(mode).unwrap();
    let round: u64 = round.parse().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store = open(&location).await.unwrap();
        let work = (1..=3).map(|branch| {
            let store = store.clone();
            tokio::spawn(async move { work(&store, round * 100_000 + branch * 10_000).await })
        });
        let work: Vec<_> = work.collect();
        for branch in work {
            branch.await.unwrap();
        }
    });
}

/// Makes layers above each other, uses a cache between them, and removes some. Does not end.
async fn work(store: &Store, first: u64) {
    let mut number = first;
    loop {
        let mut below = None;
        for depth in 1..=6 {
            let layer = make(store, number + depth, below.as_ref()).await.unwrap();
            if number == first && depth == 1 {
                // The harness's own words may be on the line, too.
                print!("at work");
                std::io::Write::flush(&mut std::io::stdout()).unwrap();
            }
            let lease = store.cache(BStr::new("shared"), (0, 0)).await.unwrap();
            lease.rootfs().with(count_one_up).await.unwrap();
            lease.release().await.unwrap();
            below = Some(layer);
        }
        drop(below);
        if number > first {
            store.delete(id(number + 3), |_| ()).await.unwrap();
        }
        number += 100;
    }
}

fn mode(kind: Kind) -> String {
    match kind {
        Kind::Rsync(mode) => mode.to_string(),
        _ => String::new(),
    }
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}
