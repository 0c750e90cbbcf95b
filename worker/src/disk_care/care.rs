//! What is done about a disk that fills up. The worker hands its queue back, finishes what it runs, prunes, looks again, and comes
//! back if there is room now; if not, it tries again after a while.
//!
//! All waiting is asynchronous: the worker stays in its pool, answers, and stops at once when told to. Dropping a future of this
//! module abandons what it was doing and nothing else.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::limit::{DiskLimit, FreePercent, ImagesSize, Shortage, Space, gigabytes};

/// How long questions that cost an engine something are not repeated.
const ASK_INTERVAL: Duration = Duration::from_secs(60);

/// An engine with its disk, and the broom.
pub(crate) trait Keeper {
    /// The directory below which the engine keeps its data.
    async fn root_dir(&self) -> Result<PathBuf, String>;
    /// How much room there is on the disk of `dir`.
    async fn space(&self, dir: &Path) -> Result<Space, String>;
    /// How many bytes the engine's images take.
    async fn images_size(&self) -> Result<u64, String>;
    /// Removes what nobody uses, and says how many bytes that was.
    async fn prune(&self) -> Result<u64, String>;
}

/// The worker's place in a pool.
pub(crate) trait Place {
    /// How it is lost.
    type Lost;
    /// Says whether the worker is to be given jobs. Those it was to be given next go back to the pool when it is not.
    async fn set_active(&self, active: bool) -> Result<(), Self::Lost>;
    /// Waits until no job runs here.
    async fn jobs_done(&self);
}

/// Takes care of one engine's disk, connection after connection.
pub(crate) struct DiskCare<K> {
    limit: DiskLimit,
    /// How long to wait after a prune that did not help.
    retry: Duration,
    keeper: K,
    known: RefCell<Known>,
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
    pub(crate) fn new(limit: DiskLimit, retry: Duration, keeper: K) -> Self {
        Self {
            limit,
            retry,
            keeper,
            known: RefCell::default(),
        }
    }

    /// Looks whether room is short. When that cannot be told, it is not: the jobs themselves say clearly enough if the engine is away.
    ///
    /// A look at the disk costs a system call. The engine is asked at most once a minute.
    pub(crate) async fn shortage(&self) -> Option<Shortage> {
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

    /// Makes room, however long it takes. The worker is inactive meanwhile, and active when this returns.
    ///
    /// # Errors
    /// If `place` is lost.
    pub(crate) async fn make_room<P: Place>(
        &self,
        shortage: Shortage,
        place: &P,
    ) -> Result<(), P::Lost> {
        warn!("Pausing to prune Docker: {shortage}");
        place.set_active(false).await?;
        loop {
            place.jobs_done().await;
            self.prune().await;
            if self.is_enough("after pruning").await {
                break;
            }
            let seconds = self.retry.as_secs();
            warn!("Not taking jobs; will look again, and prune if need be, in {seconds} s");
            tokio::time::sleep(self.retry).await;
            if self.is_enough("now").await {
                break;
            }
        }
        info!("There is room again. Taking jobs");
        place.set_active(true).await
    }

    async fn prune(&self) {
        info!("Pruning Docker");
        let started = Instant::now();
        let pruned = self.keeper.prune().await;
        let seconds = started.elapsed().as_secs_f64();
        match pruned {
            Ok(bytes) => info!("Pruned {} in {seconds:.1} s", gigabytes(bytes)),
            Err(reason) => warn!("Pruning Docker failed after {seconds:.1} s: {reason}"),
        }
    }

    /// Looks at once, and says why if there is not enough. Once room was short, only a look that shows otherwise will do.
    async fn is_enough(&self, when: &str) -> bool {
        match self.look(true).await {
            Ok(Look::Enough) => return true,
            Ok(Look::Short(shortage)) => warn!("Docker is short of room {when}: {shortage}"),
            Ok(Look::TooSoon) => {}
            Err(reason) => warn!("Cannot tell whether Docker has room {when}: {reason}"),
        }
        false
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
