//! A worker that is killed at random moments, again and again, while it builds all kinds of things: what it leaves is always a whole
//! store, nothing runs on, and what is built afterwards is right.
//!
//! A few rounds for each run of the tests; `OCLUSTER_TESTS_KILLS` sets another number.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use ocluster_tests::{
    Client, Cluster, Daemonless, SOON, Story, Submission, WorkerOptions, run, unique, wait_for,
};

/// How many rounds there are unless somebody says otherwise.
const ROUNDS: u32 = 12;
/// The longest that a worker lives in one round, from its registration on.
const LIFE: Duration = Duration::from_millis(1200);
const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_worker_killed_at_any_moment_leaves_a_whole_store() -> Result<()> {
    Story::tell(&["obuilder"], |story| {
        let rounds = match std::env::var("OCLUSTER_TESTS_KILLS") {
            Ok(number) => number.parse().context("OCLUSTER_TESTS_KILLS")?,
            Err(_) => ROUNDS,
        };
        let seed: u64 = rand::random();
        let mut random = Random(seed);
        let builds = Daemonless::new(story)?;
        let mut cluster = Cluster::start(story)?;
        let options = builds.worker(WorkerOptions::named("w1").capacity(6));
        let mut worker = cluster.add_worker_with(options)?;
        let alice = cluster.add_client("alice")?;
        for round in 0..rounds {
            let jobs = load(&alice, &builds, &mut random)?;
            let life = LIFE.mul_f64(f64::from(random.below(1000)) / 1000.0);
            // Any moment is as good as any other: this waits for nothing.
            std::thread::sleep(life);
            worker.process().kill()?;
            // Everything that the worker had started dies with it.
            wait_for("the processes to be gone", LIMIT, || {
                Ok(builds.nothing_runs().is_ok().then_some(()))
            })
            .with_context(|| format!("round {round}, after {life:?}, seed {seed}"))?;
            for mut job in jobs {
                job.kill()?;
            }
            let before = cluster.registrations("w1")?;
            worker.restart()?;
            cluster.wait_until_registered("w1", before)?;
            // The next round's builds go on from what is there.
        }
        // What is built now is right, whatever was there of it,
        let built = alice
            .submit(&Submission::of_spec(&chain(&builds, 9, 4)))?
            .success()?;
        ensure!(built.stdout.contains("\nlayer 0 1 2 3 \n"), "{built}");
        let cached = alice
            .submit(&Submission::of_spec(&chain(&builds, 9, 4)))?
            .success()?;
        ensure!(!cached.stdout.contains("saved as"), "{cached}");
        // and for each of the shapes, what the store has is what a store that was never killed would build.
        for kind in 0..KINDS {
            let spec = shape(&builds, kind, 1);
            let kept = alice.submit(&Submission::of_spec(&spec))?.success()?;
            let expected = expected(kind);
            ensure!(kept.stdout.contains(expected), "kind {kind}: {kept}");
        }
        // Then nothing is left over, and the store's own check finds nothing wrong.
        worker.process().terminate(LIMIT)?;
        wait_for("everything to be gone", SOON, || {
            Ok(builds.is_clean().is_ok().then_some(()))
        })
        .or_else(|_| builds.is_clean())?;
        let mut check = story.programs.command("obuilder");
        check.arg("check");
        check.arg(format!("--store=overlayfs:{}", builds.store().display()));
        let checked = run(&mut check)?.success()?;
        ensure!(checked.stdout.contains("in order"), "{checked}");
        Ok(())
    })
}

/// How many shapes of builds there are.
const KINDS: u32 = 5;

/// A few jobs at once, some of them shared with earlier rounds.
fn load(
    alice: &Client<'_>,
    builds: &Daemonless,
    random: &mut Random,
) -> Result<Vec<ocluster_tests::Process>> {
    (0..5)
        .map(|_| {
            let (kind, variant) = (random.below(KINDS), random.below(4));
            let hint = unique("kill");
            alice.start(&Submission::of_spec(&shape(builds, kind, variant)).hint(&hint))
        })
        .collect()
}

/// One of the shapes of builds. Variants differ in what they build; a few are the same every time, and found.
fn shape(builds: &Daemonless, kind: u32, variant: u32) -> String {
    match kind {
        // Steps above steps.
        0 => chain(builds, variant, 6),
        // A cache that all share.
        1 => builds.spec(&format!(
            r#"(run (cache (shared (target /cache))) (shell "echo {variant} >> /cache/log; tail -n 1 /cache/log; echo with a cache"))"#
        )),
        // Much output and many files.
        2 => builds.spec(&format!(
            r#"(run (shell "mkdir -p /many; for i in $(seq 200); do echo {variant} > /many/$i; done; ls /many | wc -l; echo many files"))"#
        )),
        // A stage, from which is copied.
        3 => format!(
            r#"((build dev ((from {image}) (shell /bin/sh -c) (run (shell "echo {variant} > /made")))) (from {image}) (shell /bin/sh -c) (copy (from (build dev)) (src /made) (dst /copied)) (run (shell "cat /copied; echo from a stage")))"#,
            image = builds.image()
        ),
        // One that takes longer than anybody lives, with processes that do not want to die.
        _ => builds.spec(&format!(
            r#"(run (shell "echo never ends; trap '' TERM INT; setsid sh -c 'trap \"\" TERM; sleep {}' & test {variant} = 1 || sleep 1000"))"#,
            if variant == 1 { 0 } else { 1000 }
        )),
    }
}

/// What the log of that shape's variant 1 has in it.
fn expected(kind: u32) -> &'static str {
    match kind {
        0 => "\nlayer 0 1 2 3 4 5 \n",
        1 => "\nwith a cache\n",
        2 => "\n200\nmany files\n",
        3 => "\n1\nfrom a stage\n",
        _ => "\nnever ends\n",
    }
}

/// Steps of which each adds to what the one before has written.
fn chain(builds: &Daemonless, variant: u32, length: u32) -> String {
    let mut operations = String::new();
    for step in 0..length {
        operations.push_str(&format!(
            r#"(run (shell "printf '{step} ' >> /chain-{variant}; printf 'layer '; cat /chain-{variant}; echo"))"#
        ));
    }
    builds.spec(&operations)
}

/// A small generator of numbers, so that a seed tells which run it was.
struct Random(u64);

impl Random {
    /// A number below `bound`.
    fn below(&mut self, bound: u32) -> u32 {
        // Knuth's MMIX generator; its high bits are good enough.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(bound)).unwrap_or_default()
    }
}
