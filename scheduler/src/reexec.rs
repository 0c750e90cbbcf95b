//! Starting anew when the store has failed: the process replaces itself with a fresh image of the same program, with the same
//! arguments and the same process id, once there is room on the disk again.
//!
//! The store's engine does not recover from an error of the disk by itself, and may hang in the middle of one. So nothing here waits
//! for it: what was acknowledged is on disk, what was not is forgotten, as if the process had been killed. Whatever hangs goes with
//! the old image. It happens less and less often while it does not help, and is never done to a scheduler that was told to stop.

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ocluster_cli::{ExitCode, Interrupt, Service};
use ocluster_store::{StoreError, StoreHandle};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::config::Config;
use crate::space::{STORE_NEEDS, Space, SpaceGuard};

/// How often the store is asked for a sign of life.
const PROBE_PERIOD: Duration = Duration::from_secs(5);
/// The silence after which the store is taken for dead: a slow disk, a large batch and a long question all together take less.
const SILENCE: Duration = Duration::from_secs(120);
/// The same while the disk is nearly full, which is what makes the store's engine hang.
const SILENCE_WHEN_FULL: Duration = Duration::from_secs(15);

/// The least time between two starts, and the most that it grows to, by doubling.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A scheduler that has worked for this long begins anew with the first pause.
const WORKS: Duration = Duration::from_secs(600);
/// How often it is looked whether there is room.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Tells the next image how many have failed in a row before it.
const TRIES: &str = "OCLUSTER_SCHEDULER_STARTED_ANEW";

/// The store takes no more changes, and only a new process can open it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreFailed {
    /// It said so.
    #[error("the store has failed: {0}")]
    Said(StoreError),
    /// It does not answer.
    #[error("the store has not answered for {} seconds", .0.as_secs())]
    Silent(Duration),
}

/// Waits until the store has failed. Cancelling the wait loses nothing.
pub(crate) async fn store_failure(store: &StoreHandle, space: Option<&SpaceGuard>) -> StoreFailed {
    let mut health = store.health();
    let said = async {
        match health.wait_for(Result::is_err).await.as_deref() {
            Ok(Err(error)) => StoreFailed::Said(error.clone()),
            // Nobody is left who could tell.
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        failed = said => failed,
        failed = silence(store, space) => failed,
    }
}

/// Waits until the store has been silent for too long.
async fn silence(store: &StoreHandle, space: Option<&SpaceGuard>) -> StoreFailed {
    loop {
        tokio::time::sleep(PROBE_PERIOD).await;
        let asked = Instant::now();
        // A store that was closed answers at once that it is.
        let probe = store.query(|_| ());
        tokio::pin!(probe);
        loop {
            tokio::select! {
                _ = &mut probe => break,
                () = tokio::time::sleep(LOOK_PERIOD) => {}
            }
            let limit = if space.is_some_and(SpaceGuard::is_short) {
                SILENCE_WHEN_FULL
            } else {
                SILENCE
            };
            if asked.elapsed() >= limit {
                return StoreFailed::Silent(limit);
            }
        }
    }
}

/// What this process has to know to start anew.
#[derive(Debug)]
pub struct Anew {
    directory: PathBuf,
    min_free: u64,
    begun: Instant,
    /// How many images in a row have failed before this one.
    tries: u32,
}

impl Anew {
    /// To be made when the process starts.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let tries = std::env::var(TRIES).ok().and_then(|n| n.parse().ok());
        Self {
            directory: config.state_dir.clone(),
            min_free: config.min_free_bytes.max(STORE_NEEDS),
            begun: Instant::now(),
            tries: tries.unwrap_or(0),
        }
    }

    /// Whether a scheduler that ended like this is to be started anew. One whose store cannot even be opened is only if it was
    /// started anew before: otherwise it is for whoever has started it to know.
    #[must_use]
    pub fn helps_against(&self, error: &anyhow::Error) -> bool {
        let mut failed = error.chain().filter_map(|cause| cause.downcast_ref());
        if failed.any(|_: &StoreFailed| true) {
            return true;
        }
        let mut stopped = error.chain().filter_map(|cause| cause.downcast_ref());
        self.tries > 0
            && stopped
                .any(|error| matches!(error, StoreError::Io { .. } | StoreError::Stopped { .. }))
    }

    /// Waits until it may help, and replaces this process. Comes back only if the process is to end: because it was told to, or cannot
    /// be replaced. The service manager is told what it waits for.
    ///
    /// Must be called inside a [`tokio::task::LocalSet`].
    pub async fn start(&self, why: &anyhow::Error, interrupt: &Interrupt) -> ExitCode {
        let service = Service::start(interrupt.token());
        error!("{why:#}. The scheduler starts anew as soon as that can help");
        tokio::select! {
            signal = interrupt.wait() => {
                warn!(?signal, "Told to stop while waiting to start anew");
                return ExitCode::Success;
            }
            () = self.may_help(&service) => {}
        }
        let tries = if self.begun.elapsed() >= WORKS {
            1
        } else {
            self.tries.saturating_add(1)
        };
        warn!(tries, "Starting anew");
        let failed = replace_process(tries);
        error!(%failed, "Cannot start anew; start the scheduler again by hand");
        ExitCode::Internal
    }

    /// Waits until enough time has gone by since the last start, and there is room.
    async fn may_help(&self, service: &Service) {
        let pause = if self.begun.elapsed() >= WORKS {
            FIRST_PAUSE
        } else {
            pause(self.tries)
        };
        service.status("The store has failed: about to start anew");
        tokio::time::sleep_until(self.begun + pause).await;
        let mut told = false;
        loop {
            let directory = self.directory.clone();
            let looked = tokio::task::spawn_blocking(move || Space::measure(&directory)).await;
            let short = match looked {
                // What cannot be seen does not keep anybody waiting: the start will say what is wrong.
                Ok(Ok(space)) => space.shortage(self.min_free),
                _ => None,
            };
            let Some(short) = short else {
                return;
            };
            if !told {
                let line = format!(
                    "Waiting for room on the filesystem of {} before starting anew: {}",
                    self.directory.display(),
                    short.in_short()
                );
                warn!("{line}");
                service.status(&line);
                told = true;
            }
            tokio::time::sleep(LOOK_PERIOD).await;
        }
    }
}

/// The time that has to be between two starts after `tries` images in a row have failed.
fn pause(tries: u32) -> Duration {
    let doubled = 1_u32.checked_shl(tries).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

/// Does not return unless it fails. Files and sockets are closed by the system, threads end wherever they are.
fn replace_process(tries: u32) -> std::io::Error {
    let mut args = std::env::args_os();
    let name = args
        .next()
        .unwrap_or_else(|| OsString::from("ocluster-scheduler"));
    Command::new(own_program())
        .arg0(name)
        .args(args)
        .env(TRIES, tries.to_string())
        .exec()
}

/// This very program, under its name if it still has it: a newer version that was put in its place meanwhile is for the next proper
/// restart.
fn own_program() -> PathBuf {
    let running = PathBuf::from("/proc/self/exe");
    let identity = |path: &PathBuf| {
        let found = std::fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    match std::env::current_exe() {
        Ok(path) if identity(&path).is_some_and(|it| Some(it) == identity(&running)) => path,
        _ => running,
    }
}

#[cfg(test)]
mod tests {
    use ocluster_store::{
        Change, JobId, JobMatch, JobPage, JobRecord, MemoryStore, Snapshot, Store, Writer,
        WriterConfig,
    };

    use super::*;

    /// A store whose disk is full, or that never answers.
    struct Sick {
        healthy: MemoryStore,
        hangs: bool,
    }

    impl Store for Sick {
        fn load(&self, min_day: u32) -> Result<Snapshot, StoreError> {
            self.healthy.load(min_day)
        }

        fn apply(&self, _: &[Change]) -> Result<(), StoreError> {
            if self.hangs {
                // For as long as the test's process lives.
                loop {
                    std::thread::park();
                }
            }
            Err(full())
        }

        fn job(&self, id: JobId) -> Result<Option<JobRecord>, StoreError> {
            self.healthy.job(id)
        }

        fn description(&self, id: JobId) -> Result<Option<Vec<u8>>, StoreError> {
            self.healthy.description(id)
        }

        fn job_by_key(&self, client: &str, key: &str) -> Result<Option<JobRecord>, StoreError> {
            self.healthy.job_by_key(client, key)
        }

        fn jobs(&self, before: Option<JobId>, limit: usize) -> Result<Vec<JobRecord>, StoreError> {
            self.healthy.jobs(before, limit)
        }

        fn jobs_matching(
            &self,
            filter: &JobMatch,
            before: Option<JobId>,
            limit: usize,
            scan: usize,
        ) -> Result<JobPage, StoreError> {
            self.healthy.jobs_matching(filter, before, limit, scan)
        }

        fn prune_jobs(&self, keep: usize, ended_before_ms: u64) -> Result<u64, StoreError> {
            self.healthy.prune_jobs(keep, ended_before_ms)
        }

        fn health(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    fn full() -> StoreError {
        StoreError::Io {
            what: "write".to_owned(),
            why: "no space left on device".to_owned(),
            full: true,
        }
    }

    fn sick(hangs: bool) -> Writer {
        let store = Sick {
            healthy: MemoryStore::new(),
            hangs,
        };
        Writer::start(Box::new(store), WriterConfig::default()).unwrap()
    }

    fn room(min_free: u64) -> SpaceGuard {
        SpaceGuard::new(&std::env::temp_dir(), min_free)
    }

    fn anew(tries: u32) -> Anew {
        Anew {
            directory: std::env::temp_dir(),
            min_free: 0,
            begun: Instant::now(),
            tries,
        }
    }

    #[tokio::test]
    async fn an_error_of_the_store_is_noticed_at_once() {
        let writer = sick(false);
        let store = writer.handle();
        let change = Change::JobIdsReserved { next: 7 };
        assert_eq!(store.commit(vec![change]).await, Err(full()));
        let failed = store_failure(&store, Some(&room(0))).await;
        assert_eq!(
            failed.to_string(),
            "the store has failed: failed to write: no space left on device"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_noticed_sooner_while_the_disk_is_full() {
        for (room, limit) in [(room(0), SILENCE), (room(u64::MAX), SILENCE_WHEN_FULL)] {
            let writer = sick(true);
            let store = writer.handle();
            store
                .submit(vec![Change::JobIdsReserved { next: 7 }])
                .unwrap();
            let failed = store_failure(&store, Some(&room)).await;
            assert_eq!(failed, StoreFailed::Silent(limit));
            // Its drop would wait for the thread, which waits for ever.
            std::thread::spawn(move || drop(writer));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_works_is_left_alone() {
        let writer = Writer::inline(Box::new(MemoryStore::new()));
        let (store, room) = (writer.handle(), room(0));
        let failure = store_failure(&store, Some(&room));
        tokio::time::timeout(Duration::from_secs(3600), failure)
            .await
            .unwrap_err();
    }

    #[test]
    fn starts_become_rarer_while_they_do_not_help() {
        let pauses: Vec<u64> = [0, 1, 2, 3, 4, 5, 6, 31, 32, u32::MAX]
            .map(|tries| pause(tries).as_secs())
            .into();
        assert_eq!(pauses, [10, 20, 40, 80, 160, 300, 300, 300, 300, 300]);
    }

    #[test]
    fn only_a_failed_store_leads_to_a_new_start() {
        let failed = anyhow::Error::from(StoreFailed::Said(full()));
        assert!(anew(0).helps_against(&failed));
        let unopened = anyhow::Error::from(full()).context("cannot start");
        assert!(
            !anew(0).helps_against(&unopened),
            "it has just been started"
        );
        assert!(anew(1).helps_against(&unopened));
        let damaged = anyhow::Error::from(StoreError::Missing {
            dir: "state".into(),
        });
        assert!(!anew(1).helps_against(&damaged));
        assert!(!anew(1).helps_against(&anyhow::anyhow!("the port is taken")));
    }

    #[tokio::test(start_paused = true)]
    async fn it_waits_for_its_pause_and_for_room() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let service = Service::start(&tokio_util::sync::CancellationToken::new());
                let mut anew = anew(1);
                let begun = Instant::now();
                anew.may_help(&service).await;
                assert!(begun.elapsed() >= Duration::from_secs(20));
                anew.min_free = u64::MAX;
                let helped = anew.may_help(&service);
                tokio::time::timeout(Duration::from_secs(3600), helped)
                    .await
                    .unwrap_err();
            })
            .await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_is_told_to_stop_meanwhile_stops() {
        let local = tokio::task::LocalSet::new();
        local
            .run_until(async {
                let interrupt = Interrupt::new();
                interrupt.raise(ocluster_cli::Signal::Terminate);
                let mut anew = anew(0);
                anew.min_free = u64::MAX;
                let failed = anyhow::Error::from(StoreFailed::Said(full()));
                assert_eq!(anew.start(&failed, &interrupt).await, ExitCode::Success);
            })
            .await;
    }

    #[test]
    fn it_starts_the_program_that_runs() {
        let program = own_program();
        let identity = |path: &std::path::Path| std::fs::metadata(path).map(|m| m.ino()).unwrap();
        assert_eq!(
            identity(&program),
            identity("/proc/self/exe".as_ref()),
            "{}",
            program.display()
        );
    }
}
