//! Steps: many at once, one at a time, all of them cached, one that prints a lot.

use std::collections::VecDeque;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _};

use super::args::Numbers;
use super::bare::Bundle;
use super::figures::{Figure, Limit};
use super::lab::{self, Lab};
use crate::memory::resident_kib;
use crate::pairs::Pairs;

/// Steps per second, as a part of what the bare runtime does.
const PART_OF_BARE: f64 = 0.5;
/// What a step may take longer than the bare runtime, in milliseconds.
const OVERHEAD_MS: f64 = 10.0;
/// Steps of the cached build.
const CACHED_STEPS: usize = 50;
/// What that may take, in milliseconds.
const CACHED_MS: f64 = 50.0;
/// How often it is built again.
const CACHED_ROUNDS: usize = 9;
/// What the step prints that prints a lot, in MiB.
const OUTPUT_MIB: usize = 1024;
/// What it may cost us, in MiB.
const OUTPUT_COST_MIB: f64 = 32.0;

/// The stress job of OBuilder's own tests: builds of four steps, each appending 0, 1 or 2 to a file, all with the same cache. The bare
/// runtime runs as many such commands, as many at once.
pub(super) async fn stress(lab: &Lab, numbers: Numbers) -> anyhow::Result<Figure> {
    // The image is not part of it.
    lab.build(&lab.spec("")?).await?;
    let mut bundles = Vec::new();
    for place in 0..numbers.at_once {
        let mut digits = Vec::new();
        for digit in 0..3 {
            let script = format!("echo -n {digit} >> output");
            let name = format!("{}-{place}-{digit}", lab.word());
            digits.push(Bundle::take(lab, &name, &script, true).await?);
        }
        bundles.push(digits);
    }
    let bundles = Arc::new(bundles);
    let mut dice = Dice(1);
    let mut pairs = Pairs::default();
    let mut steps = 0;
    for round in 0..numbers.rounds {
        let (took, distinct) = stress_once(lab, numbers, round, &mut dice).await?;
        let work: VecDeque<usize> = (0..distinct).map(|_| dice.roll(3)).collect();
        let bundles = Arc::clone(&bundles);
        let bare = tokio::task::spawn_blocking(move || run_bare(&bundles, work)).await??;
        pairs.add(took / distinct, bare / distinct);
        steps += distinct;
    }
    let compared = pairs.compare()?;
    Ok(Figure {
        name: format!(
            "{}: stress job, steps per second as a part of the bare runtime's",
            lab.word()
        ),
        value: 1.0 / compared.ratio,
        unit: "",
        limit: limit(lab, Limit::AtLeast(PART_OF_BARE)),
        details: format!(
            "{} builds, {} at once, in {} rounds {steps} distinct steps: {:.1} steps/s, {:.1} builds/s; bare runtime {:.1}/s (medians)",
            numbers.builds,
            numbers.at_once,
            numbers.rounds,
            1000.0 / compared.ours_ms,
            1000.0 / compared.ours_ms * f64::from(numbers.builds * numbers.rounds)
                / f64::from(steps),
            1000.0 / compared.theirs_ms,
        ),
    })
}

/// One round: the time, and how many steps were run.
async fn stress_once(
    lab: &Lab,
    numbers: Numbers,
    round: u32,
    dice: &mut Dice,
) -> anyhow::Result<(Duration, u32)> {
    let mut specs = Vec::new();
    for _ in 0..numbers.builds {
        // Each round has steps of its own.
        let mut operations = format!("(env ROUND {round})");
        for _ in 0..4 {
            let digit = dice.roll(3);
            operations.push_str(&format!(
                "(run (cache (c (target /cache))) (shell \"echo -n {digit} >> output\"))"
            ));
        }
        specs.push(lab.spec(&operations)?);
    }
    let before = lab.builder().stats().cache_misses;
    let source = lab.beside("");
    let began = Instant::now();
    futures::stream::iter(specs)
        .map(|spec| {
            let (builder, source) = (lab.builder().clone(), source.clone());
            async move {
                tokio::spawn(async move { lab::build(&builder, &source, &spec).await })
                    .await
                    .context("a build broke off")?
            }
        })
        .buffer_unordered(numbers.at_once as usize)
        .try_for_each(|_| async { Ok(()) })
        .await?;
    let took = began.elapsed();
    let distinct = u32::try_from(lab.builder().stats().cache_misses - before)?;
    ensure!(distinct > 0, "nothing was built: is the store empty?");
    Ok((took, distinct))
}

/// Runs what is in `work`, each place one at a time.
fn run_bare(bundles: &[Vec<Bundle>], work: VecDeque<usize>) -> anyhow::Result<Duration> {
    let work = Mutex::new(work);
    let began = Instant::now();
    std::thread::scope(|scope| {
        let places: Vec<_> = bundles
            .iter()
            .map(|bundles| {
                scope.spawn(|| -> anyhow::Result<()> {
                    loop {
                        let next = work
                            .lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .pop_front();
                        let Some(next) = next else { return Ok(()) };
                        bundles.get(next).context("no such command")?.run()?;
                    }
                })
            })
            .collect();
        for place in places {
            place
                .join()
                .map_err(|_| anyhow::anyhow!("a thread broke off"))??;
        }
        Ok(began.elapsed())
    })
}

/// One step above the image, and the same container without us, in turns.
pub(super) async fn overhead(lab: &Lab, numbers: Numbers) -> anyhow::Result<Figure> {
    let bundle =
        Arc::new(Bundle::take(lab, &format!("{}-single", lab.word()), "true", false).await?);
    let bare = || {
        let bundle = Arc::clone(&bundle);
        async move { tokio::task::spawn_blocking(move || bundle.run()).await? }
    };
    lab.build(&lab.spec("(run (shell true))")?).await?;
    bare().await?;
    let mut pairs = Pairs::default();
    for pair in 0..numbers.pairs {
        let spec = lab.spec(&format!("(run (shell \"true {pair}\"))"))?;
        let mut theirs = Duration::ZERO;
        if pair % 2 == 0 {
            theirs = bare().await?;
        }
        let began = Instant::now();
        let result = lab.build(&spec).await?;
        let ours = began.elapsed();
        ensure!(!result.cached, "the step was there already");
        if pair % 2 != 0 {
            theirs = bare().await?;
        }
        pairs.add(ours, theirs);
    }
    let compared = pairs.compare()?;
    Ok(Figure {
        name: format!("{}: a step above the bare runtime", lab.word()),
        value: compared.difference_ms,
        unit: "ms",
        limit: limit(lab, Limit::Below(OVERHEAD_MS)),
        details: format!(
            "{:.1} ms as a build of one step, {:.1} ms bare (medians of {} pairs)",
            compared.ours_ms, compared.theirs_ms, compared.pairs
        ),
    })
}

/// A build all of whose steps are in the store.
pub(super) async fn cached(lab: &Lab) -> anyhow::Result<Figure> {
    let steps: String = (0..CACHED_STEPS)
        .map(|step| format!("(run (shell \"echo {step}\"))"))
        .collect();
    let spec = lab.spec(&steps)?;
    lab.build(&spec).await?;
    let mut times = Vec::new();
    for _ in 0..CACHED_ROUNDS {
        let began = Instant::now();
        let result = lab.build(&spec).await?;
        times.push(began.elapsed().as_secs_f64() * 1000.0);
        ensure!(result.cached, "the steps were not kept");
    }
    times.sort_unstable_by(f64::total_cmp);
    let at = |index: usize| times.get(index).copied().context("nothing was measured");
    Ok(Figure {
        name: format!("{}: a cached build of {CACHED_STEPS} steps", lab.word()),
        value: at(CACHED_ROUNDS / 2)?,
        unit: "ms",
        limit: limit(lab, Limit::Below(CACHED_MS)),
        details: format!(
            "median of {CACHED_ROUNDS}, {:.2} to {:.2} ms",
            at(0)?,
            at(CACHED_ROUNDS - 1)?
        ),
    })
}

/// What a step that prints a lot costs us in memory.
pub(super) async fn output(lab: &Lab) -> anyhow::Result<Figure> {
    let spec = lab.spec(&format!(
        "(run (shell \"head -c {} /dev/zero\"))",
        OUTPUT_MIB << 20
    ))?;
    lab.build(&lab.spec("(run (shell \"head -c 1000000 /dev/zero\"))")?)
        .await?;
    let pid = std::process::id();
    // From here on the kernel remembers the most anew.
    fs::write("/proc/self/clear_refs", "5")?;
    let before = resident_kib(pid)?;
    let began = Instant::now();
    let result = lab.build(&spec).await?;
    let took = began.elapsed();
    let most = most_kib()?;
    let printed = fs::metadata(result.layer.log_path())?.len();
    ensure!(
        printed == (OUTPUT_MIB as u64) << 20,
        "the log has {printed} bytes"
    );
    Ok(Figure {
        name: format!(
            "{}: memory for a step that prints {OUTPUT_MIB} MiB",
            lab.word()
        ),
        value: most.saturating_sub(before) as f64 / 1024.0,
        unit: "MiB",
        limit: limit(lab, Limit::Below(OUTPUT_COST_MIB)),
        details: format!(
            "{before} KiB before, {most} KiB at most; it took {:.1} s",
            took.as_secs_f64()
        ),
    })
}

/// The most memory that this process has had at a time, in KiB.
fn most_kib() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok())
        .context("/proc/self/status has no line VmHWM")
}

/// Limits are for overlayfs; other kinds are measured to be known.
pub(super) fn limit(lab: &Lab, limit: Limit) -> Option<Limit> {
    (lab.kind() == ocluster_obuilder::store::Kind::Overlayfs).then_some(limit)
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // Knuth's multiplier; the upper bits are the better ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }
}
