//! Keeps room in the OBuilder store: looks how full its disk is, prunes what nobody uses, and holds new builds back meanwhile.
//!
//! Builds never wait for longer than there is something to prune: they all go on as soon as there is room, or nothing left to remove.

use std::future::Future;
use std::time::Duration;

use ocluster_obuilder::build::BuildLog;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// How often the disk is looked at.
const PERIOD: Duration = Duration::from_secs(30);

/// When to prune, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PruneRules {
    /// Prune when no more than this part of the disk is free, 0 to 100.
    pub threshold: f64,
    /// How many layers one round removes at most.
    pub limit: usize,
}

impl Default for PruneRules {
    /// OCluster's.
    fn default() -> Self {
        Self {
            threshold: 30.0,
            limit: 100,
        }
    }
}

/// What can be full, and emptied.
pub(super) trait Storage: Send + Sync {
    /// The free part of its disk, 0 to 100.
    fn free_percent(&self) -> impl Future<Output = Result<f64, String>> + Send;
    /// Removes at most `limit` things that nobody uses; tells how many.
    fn prune(
        &self,
        limit: usize,
        cancel: &CancellationToken,
    ) -> impl Future<Output = Result<usize, String>> + Send;
}

/// Where builds wait while there is pruning.
#[derive(Clone, Debug)]
pub(super) struct Gate(watch::Receiver<bool>);

impl Gate {
    /// Waits until nothing is pruned; says so in `log` if that is not now.
    pub(super) async fn pass(&self, log: &dyn BuildLog) {
        let mut pruning = self.0.clone();
        if *pruning.borrow() {
            log.note("Waiting for the store to be pruned".into()).await;
        }
        // If nobody prunes any more, nobody has to wait.
        let _ = pruning.wait_for(|pruning| !pruning).await;
    }
}

/// Looks after `storage` until `stop` fires. The gate is closed while something is pruned.
pub(super) fn keep_room<S: Storage>(
    storage: S,
    rules: PruneRules,
    metrics: Metrics,
    stop: CancellationToken,
) -> (Gate, impl Future<Output = ()> + Send) {
    let (pruning, gate) = watch::channel(false);
    let care = async move {
        let rounds = Care {
            storage: &storage,
            rules,
            metrics,
            pruning,
            stop: &stop,
        };
        stop.run_until_cancelled(rounds.run()).await;
    };
    (Gate(gate), care)
}

struct Care<'a, S> {
    storage: &'a S,
    rules: PruneRules,
    metrics: Metrics,
    pruning: watch::Sender<bool>,
    stop: &'a CancellationToken,
}

impl<S: Storage> Care<'_, S> {
    async fn run(self) {
        loop {
            if let Err(reason) = self.make_room().await {
                warn!("Cannot look after the OBuilder store: {reason}");
            }
            self.pruning.send_replace(false);
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Prunes until there is room, or nothing left to prune.
    async fn make_room(&self) -> Result<(), String> {
        loop {
            let free = self.storage.free_percent().await?;
            self.metrics.store_space(free);
            if free > self.rules.threshold {
                return Ok(());
            }
            if !self.pruning.send_replace(true) {
                info!(
                    "OBuilder partition: {free:.0}% free. Pruning what was not used for the longest time"
                );
            }
            let started = Instant::now();
            let removed = self.storage.prune(self.rules.limit, self.stop).await?;
            info!(
                "Pruned {removed} layers in {:.1} s",
                started.elapsed().as_secs_f64()
            );
            if removed == 0 {
                warn!("OBuilder partition: {free:.0}% free, and everything in the store is in use");
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use bytes::Bytes;
    use futures::future::BoxFuture;

    use super::*;

    /// A disk with things on it, each of a tenth of its size.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, usize)>>);

    impl Disk {
        /// Puts `unused` and `used` things on it.
        fn holds(&self, unused: usize, used: usize) {
            *self.0.lock().unwrap() = (unused, used);
        }

        fn unused(&self) -> usize {
            self.0.lock().unwrap().0
        }
    }

    impl Storage for Disk {
        async fn free_percent(&self) -> Result<f64, String> {
            let (unused, used) = *self.0.lock().unwrap();
            Ok(100.0 - 10.0 * u32::try_from(unused + used).map(f64::from).unwrap())
        }

        async fn prune(&self, limit: usize, _: &CancellationToken) -> Result<usize, String> {
            // As long as pruning takes.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let mut things = self.0.lock().unwrap();
            let removed = limit.min(things.0);
            things.0 -= removed;
            Ok(removed)
        }
    }

    #[derive(Default)]
    struct Notes(Mutex<Vec<Bytes>>);

    impl BuildLog for Notes {
        fn heading<'a>(&'a self, _: Bytes) -> BoxFuture<'a, ()> {
            unreachable!("there is no step")
        }

        fn note<'a>(&'a self, text: Bytes) -> BoxFuture<'a, ()> {
            self.0.lock().unwrap().push(text);
            Box::pin(std::future::ready(()))
        }

        fn output<'a>(&'a self, _: Bytes) -> BoxFuture<'a, ()> {
            unreachable!("there is no output")
        }
    }

    const RULES: PruneRules = PruneRules {
        threshold: 30.0,
        limit: 2,
    };

    fn looked_after(disk: &Disk) -> (Gate, Metrics, CancellationToken) {
        let (metrics, stop) = (Metrics::default(), CancellationToken::new());
        let (gate, care) = keep_room(disk.clone(), RULES, metrics.clone(), stop.clone());
        tokio::spawn(care);
        (gate, metrics, stop)
    }

    #[tokio::test(start_paused = true)]
    async fn a_disk_with_room_is_left_alone() {
        let disk = Disk::default();
        disk.holds(6, 0);
        let (gate, metrics, _stop) = looked_after(&disk);
        tokio::time::sleep(Duration::from_secs(100)).await;
        let notes = Notes::default();
        gate.pass(&notes).await;
        assert!(notes.0.lock().unwrap().is_empty());
        assert_eq!(disk.unused(), 6);
        assert_eq!(metrics.store_space_free(), Some(40.0));
    }

    #[tokio::test(start_paused = true)]
    async fn d14_all_waiting_builds_go_on_at_once_when_there_is_room_again() {
        let disk = Disk::default();
        disk.holds(9, 0);
        let (gate, metrics, _stop) = looked_after(&disk);
        tokio::time::sleep(Duration::from_millis(500)).await;
        let started = Instant::now();
        let waiting = (0..10).map(|_| {
            let gate = gate.clone();
            tokio::spawn(async move {
                let notes = Notes::default();
                gate.pass(&notes).await;
                notes.0.into_inner().unwrap()
            })
        });
        for build in futures::future::join_all(waiting).await {
            assert_eq!(build.unwrap(), ["Waiting for the store to be pruned"]);
        }
        // Two rounds, of which half a second had passed.
        assert_eq!(started.elapsed(), Duration::from_millis(1500));
        assert_eq!(disk.unused(), 5);
        assert_eq!(metrics.store_space_free(), Some(50.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_all_in_use_holds_no_build_back_for_ever() {
        let disk = Disk::default();
        disk.holds(0, 9);
        let (gate, _, _stop) = looked_after(&disk);
        tokio::time::sleep(Duration::from_millis(500)).await;
        gate.pass(&Notes::default()).await;
        // It is looked at again: what is no longer in use then is removed.
        disk.holds(9, 0);
        tokio::time::sleep(Duration::from_secs(40)).await;
        assert_eq!(disk.unused(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_stops_leaves_nobody_waiting() {
        let disk = Disk::default();
        disk.holds(9, 0);
        let (gate, _, stop) = looked_after(&disk);
        tokio::time::sleep(Duration::from_millis(500)).await;
        stop.cancel();
        gate.pass(&Notes::default()).await;
        assert_eq!(disk.unused(), 9);
    }
}
