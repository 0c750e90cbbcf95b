//! What is done about a disk that fills up. The worker hands its queue back, finishes what it runs, prunes, looks again, and comes
//! back if there is room now; if not, it tries again after a while.
//!
//! All waiting is asynchronous: the worker stays in its pool, answers, and stops at once when told to. Dropping a future of this
//! module abandons what it was doing and nothing else: that room is short is remembered until a look shows otherwise.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::limit::{DiskLimit, FreePercent, ImagesSize, Shortage, Space, gigabytes};
use crate::executor::docker::PruneScope;
use crate::metrics::Metrics;

/// How long questions that cost an engine something are not repeated.
const ASK_INTERVAL: Duration = Duration::from_secs(60);
/// How long to wait, at most, after a prune that the engine did not do: it may just be restarting.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// An engine with its disk, and the broom.
pub(crate) trait Keeper {
    /// The directory below which the engine keeps its data.
    async fn root_dir(&self) -> Result<PathBuf, String>;
    /// How much room there is on the disk of `dir`.
    async fn space(&self, dir: &Path) -> Result<Space, String>;
    /// How many bytes the engine's images take.
    async fn images_size(&self) -> Result<u64, String>;
    /// Removes what nobody uses, of ours or of everybody, and says how many bytes that was.
    async fn prune(&self, scope: PruneScope) -> Result<u64, String>;
}

/// The worker's place in a pool.
pub(crate) trait Place {
    /// Asks for no more jobs, and says why; those that this worker was to be given next go back to the pool. Returns when the pool
    /// knows. Asked again, it only says another reason.
    async fn pause(&self, reason: String);
    /// Asks for jobs again, as far as the one who paused is concerned.
    fn resume(&self);
    /// Waits until no job runs here.
    async fn jobs_done(&self);
}

/// Takes care of one engine's disk, connection after connection.
pub(crate) struct DiskCare<K> {
    limit: DiskLimit,
    scope: PruneScope,
    /// How long to wait after a prune that did not help.
    retry: Duration,
    keeper: K,
    metrics: Metrics,
    known: RefCell<Known>,
    /// The shortage that was seen and has not ended, though the connection during which it was seen may have.
    short: RefCell<Option<Short>>,
}

/// What is remembered from one look to the next.
#[derive(Default)]
struct Known {
    root: Option<PathBuf>,
    /// When the engine was last asked.
    asked: Option<Instant>,
    /// Whether it has been said that looking fails.
    outage: bool,
}

/// A shortage that lasts.
#[derive(Clone)]
struct Short {
    /// What is wrong.
    why: String,
    /// When to try again after a prune that did not help; `None` before the end of the first.
    next_try: Option<Instant>,
}

/// What a prune that did not help has left.
struct Left {
    /// What is still wrong.
    why: String,
    /// How long to wait before the next try.
    retry: Duration,
}

/// What a look shows.
enum Look {
    Enough,
    Short(Shortage),
    /// It is too soon to ask again.
    TooSoon,
}

impl From<Option<Shortage>> for Look {
    fn from(shortage: Option<Shortage>) -> Self {
        shortage.map_or(Self::Enough, Self::Short)
    }
}

impl<K: Keeper> DiskCare<K> {
    pub(crate) fn new(
        limit: DiskLimit,
        scope: PruneScope,
        retry: Duration,
        keeper: K,
        metrics: Metrics,
    ) -> Self {
        Self {
            limit,
            scope,
            retry,
            keeper,
            metrics,
            known: RefCell::default(),
            short: RefCell::default(),
        }
    }

    /// Returns when there is room for a job, however long it takes to make it. A shortage seen by a call that was abandoned, as the
    /// connection was lost, goes on: only a look that shows otherwise ends it, and no try comes before its time.
    pub(crate) async fn keep_room<P: Place>(&self, place: &P) {
        let lasting = self.short.borrow().clone();
        match lasting {
            Some(short) => self.go_on(short, place).await,
            None => {
                if let Some(shortage) = self.shortage().await {
                    self.make_room(shortage, place).await;
                }
            }
        }
    }

    /// Looks whether room is short. When that cannot be told, it is not: the jobs themselves say clearly enough if the engine is away.
    ///
    /// A look at the disk costs a system call. The engine is asked at most once a minute.
    async fn shortage(&self) -> Option<Shortage> {
        match self.look(false).await {
            Ok(Look::Short(shortage)) => {
                self.known.borrow_mut().outage = false;
                Some(shortage)
            }
            Ok(Look::Enough) => {
                self.known.borrow_mut().outage = false;
                None
            }
            Ok(Look::TooSoon) => None,
            Err(reason) => {
                if !std::mem::replace(&mut self.known.borrow_mut().outage, true) {
                    warn!(
                        "Cannot tell whether Docker needs pruning: {reason}. Taking jobs all the same"
                    );
                }
                None
            }
        }
    }

    /// Makes room, however long it takes. The worker is paused meanwhile, and not any more when this returns.
    async fn make_room<P: Place>(&self, shortage: Shortage, place: &P) {
        warn!("Pausing to prune Docker: {shortage}");
        self.prune_until_enough(shortage.to_string(), place).await;
    }

    /// Goes on where an abandoned call was.
    async fn go_on<P: Place>(&self, short: Short, place: &P) {
        warn!("Docker was short of room before: {}", short.why);
        let seen = match short.next_try {
            Some(next_try) => self.wait_out(&short.why, next_try, place).await,
            None => self.is_enough("now").await,
        };
        match seen {
            Ok(()) => self.end_shortage(place),
            Err(why) => self.prune_until_enough(why, place).await,
        }
    }

    async fn prune_until_enough<P: Place>(&self, mut why: String, place: &P) {
        loop {
            self.remember(&why, None);
            place.pause(format!("pruning Docker: {why}")).await;
            place.jobs_done().await;
            let Err(left) = self.prune().await else { break };
            let seconds = left.retry.as_secs();
            warn!("Not taking jobs; will look again, and prune if need be, in {seconds} s");
            let next_try = Instant::now() + left.retry;
            self.remember(&left.why, Some(next_try));
            match self.wait_out(&left.why, next_try, place).await {
                Ok(()) => break,
                Err(still) => why = still,
            }
        }
        self.end_shortage(place);
    }

    /// Stays paused until the next try, then looks, and says why if there still is not enough.
    async fn wait_out<P: Place>(
        &self,
        why: &str,
        next_try: Instant,
        place: &P,
    ) -> Result<(), String> {
        place
            .pause(format!("Docker has been pruned, and yet {why}"))
            .await;
        tokio::time::sleep_until(next_try).await;
        self.is_enough("now").await
    }

    fn remember(&self, why: &str, next_try: Option<Instant>) {
        let why = why.to_owned();
        self.short.replace(Some(Short { why, next_try }));
    }

    fn end_shortage<P: Place>(&self, place: &P) {
        self.short.replace(None);
        info!("There is room again. Taking jobs");
        place.resume();
    }

    /// Prunes what is ours and, if that is not enough and the operator has nothing against it, what is others'.
    async fn prune(&self) -> Result<(), Left> {
        let started = Instant::now();
        let steps: &[PruneScope] = match self.scope {
            PruneScope::Own => &[PruneScope::Own],
            PruneScope::All => &[PruneScope::Own, PruneScope::All],
        };
        let mut done = Ok(());
        let mut retry = self.retry;
        for scope in steps {
            if !self.sweep(*scope).await {
                retry = retry.min(RETRY_AFTER_FAILURE);
            }
            done = self.is_enough("after pruning").await;
            if done.is_ok() {
                break;
            }
        }
        self.metrics.pruned(started.elapsed());
        done.map_err(|why| Left { why, retry })
    }

    /// Has the engine remove things, and says whether it did.
    async fn sweep(&self, scope: PruneScope) -> bool {
        let what = match scope {
            PruneScope::Own => "what workers have built, and build cache",
            PruneScope::All => "everything that is not in use",
        };
        info!("Pruning Docker: {what}");
        let started = Instant::now();
        let pruned = self.keeper.prune(scope).await;
        let seconds = started.elapsed().as_secs_f64();
        match &pruned {
            Ok(bytes) => info!("Pruned {} in {seconds:.1} s", gigabytes(*bytes)),
            Err(reason) => warn!("Pruning Docker failed after {seconds:.1} s: {reason}"),
        }
        pruned.is_ok()
    }

    /// Looks at once, and says why if there is not enough. Once room was short, only a look that shows otherwise will do.
    async fn is_enough(&self, when: &str) -> Result<(), String> {
        match self.look(true).await {
            Ok(Look::Enough) => Ok(()),
            Ok(Look::Short(shortage)) => {
                warn!("Docker is short of room {when}: {shortage}");
                Err(shortage.to_string())
            }
            Ok(Look::TooSoon) => Err("it has not been looked whether there is room".to_owned()),
            Err(reason) => {
                warn!("Cannot tell whether Docker has room {when}: {reason}");
                Err(format!("it cannot be told whether there is room: {reason}"))
            }
        }
    }

    async fn look(&self, at_once: bool) -> Result<Look, String> {
        match self.limit {
            DiskLimit::Free(percent) => self.look_at_disk(percent, at_once).await,
            DiskLimit::Images(size) => self.look_at_images(size, at_once).await,
        }
    }

    async fn look_at_disk(&self, percent: FreePercent, at_once: bool) -> Result<Look, String> {
        let known = self.known.borrow().root.clone();
        let root = match known {
            Some(root) => root,
            None if self.may_ask(at_once) => {
                let root = self.keeper.root_dir().await;
                self.asked();
                let root = root?;
                self.known.borrow_mut().root = Some(root.clone());
                root
            }
            None => return Ok(Look::TooSoon),
        };
        match self.keeper.space(&root).await {
            Ok(space) => Ok(percent.shortage(&space).into()),
            Err(reason) => {
                // The engine may have moved.
                self.known.borrow_mut().root = None;
                Err(reason)
            }
        }
    }

    async fn look_at_images(&self, size: ImagesSize, at_once: bool) -> Result<Look, String> {
        if !self.may_ask(at_once) {
            return Ok(Look::TooSoon);
        }
        let bytes = self.keeper.images_size().await;
        self.asked();
        Ok(size.shortage(bytes?).into())
    }

    fn may_ask(&self, at_once: bool) -> bool {
        let asked = self.known.borrow().asked;
        at_once || asked.is_none_or(|asked| asked.elapsed() >= ASK_INTERVAL)
    }

    fn asked(&self) {
        self.known.borrow_mut().asked = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests;
