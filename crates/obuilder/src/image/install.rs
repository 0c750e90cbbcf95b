//! Brings the layers of an image into a store.
//!
//! The id of each layer is made of what the tars up to it are, so images share what they have in common, and an interrupted install goes on
//! where it was. While one layer is unpacked, the next ones are fetched.
//!
//! Two installs that would unpack the same bytes from the same place do it once; they never wait for bytes from elsewhere, which may be
//! slow, or wrong, and come when they like.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::blob::BlobReader;
use super::under_way::{Claim, Lead, Pulse, UnderWay, Waiting};
use super::unpack::hex;
use super::{
    BaseImage, Blob, Expected, FetchError, ImageSource, LayerDescriptor, Unpack, UnpackError,
    UnpackLimits, unpack_layer,
};
use crate::size::Size;
use crate::store::{Layer, LayerMeta, Store, StoreError};
use crate::{StepId, StepLog};

/// How many blobs may be fetched at once, or wait to be unpacked.
const AHEAD: usize = 3;
/// More layers no builder makes; Docker's limit is 127.
const MOST_LAYERS: usize = 1000;
/// Begins what ids of such layers are made of, so that they never are those of steps.
const DOMAIN: &[u8] = b"ocluster image layer 1\0";
/// How long to wait for another install that gets nothing done.
const PATIENCE: Duration = Duration::from_secs(30);
/// When whoever waits for another install is told why nothing happens.
const REMARK: Duration = Duration::from_secs(5);

/// Installs images. One of them serves a process: two installs that want the same layer of the same place then make it once.
#[derive(Clone, Debug)]
pub struct Installer {
    under_way: UnderWay,
    limits: UnpackLimits,
    patience: Duration,
}

/// One of an image's layers.
struct Wanted<'a> {
    id: StepId,
    /// Tells those apart who would make the layer of other bytes, or have them from elsewhere.
    work: StepId,
    descriptor: &'a LayerDescriptor,
    /// Counted from 1.
    number: usize,
    of: usize,
}

/// How a layer gets into the store.
enum Way {
    There(Layer),
    /// Without a lead if the one who has it stands still.
    Make(Option<Lead>, Blob),
    /// The bytes may be here already.
    Wait(Waiting, Option<Blob>),
}

impl Default for Installer {
    fn default() -> Self {
        Self::new(UnpackLimits::default())
    }
}

impl Installer {
    /// One with bounds of the caller's for each layer.
    #[must_use]
    pub fn new(limits: UnpackLimits) -> Self {
        Self {
            under_way: UnderWay::default(),
            limits,
            patience: PATIENCE,
        }
    }

    /// The same, which waits so long for another install that gets nothing done with a layer that both want. Without this, 30 seconds.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Makes `store` hold the image of `source`. Layers that are there are used as they are; when `cancel` fires, it returns soon, and
    /// those that are whole by then stay.
    ///
    /// # Errors
    /// The source's or the store's; an image that is not what it says or asks for what no image may.
    pub async fn install(
        &self,
        source: &dyn ImageSource,
        store: &Store,
        log: &StepLog,
        cancel: &CancellationToken,
    ) -> Result<BaseImage, FetchError> {
        let manifest = source.manifest(cancel).await?;
        let of = manifest.layers.len();
        if of > MOST_LAYERS {
            return Err(FetchError::Request(format!(
                "the image has {of} layers, more than {MOST_LAYERS}"
            )));
        }
        let wanted: Vec<_> = chain(&manifest.layers)
            .zip(works(source.origin(), &manifest.layers))
            .zip(&manifest.layers)
            .zip(1..)
            .map(|(((id, work), descriptor), number)| Wanted {
                id,
                work,
                descriptor,
                number,
                of,
            })
            .collect();
        let mut top = None;
        let mut missing = wanted.as_slice();
        while let Some((last, below)) = missing.split_last() {
            top = store.layer(last.id).await;
            if top.is_some() {
                break;
            }
            missing = below;
        }
        // What is missing is above what is there.
        let missing = wanted.get(missing.len()..).unwrap_or_default();
        // Whatever ends this ends the threads that unpack.
        let stop = cancel.child_token();
        let _guard = stop.clone().drop_guard();
        let work = Work {
            installer: self,
            source,
            store,
            log,
            cancel: &stop,
            pulse: Pulse::default(),
        };
        let top = work.all(missing, top).await?;
        Ok(BaseImage {
            top,
            env: manifest.env,
            digest: manifest.digest,
        })
    }
}

/// One install.
struct Work<'a> {
    installer: &'a Installer,
    source: &'a dyn ImageSource,
    store: &'a Store,
    log: &'a StepLog,
    cancel: &'a CancellationToken,
    pulse: Pulse,
}

impl Work<'_> {
    async fn all(
        &self,
        missing: &[Wanted<'_>],
        mut base: Option<Layer>,
    ) -> Result<Option<Layer>, FetchError> {
        let (send, mut ways) = mpsc::unbounded_channel();
        // One is unpacked while the others come. Nothing may wait but for this, or those under way would stand still.
        let room = Arc::new(Semaphore::new(AHEAD + 1));
        let to_come: Vec<_> = missing
            .iter()
            .map(|wanted| self.way_with_room(wanted, room.clone()).boxed())
            .collect();
        let ahead = async {
            let mut found = futures::stream::iter(to_come).buffered(AHEAD);
            while let Some(way) = found.next().await {
                if send.send(way).is_err() {
                    break;
                }
            }
        };
        let in_order = async {
            for wanted in missing {
                let (way, _room) = match ways.recv().await {
                    Some(way) => way?,
                    None => return Err(FetchError::Cancelled),
                };
                base = Some(self.put(wanted, way, base.take()).await?);
            }
            Ok(base)
        };
        // Layers are unpacked to the end or to an error, never dropped halfway: a thread is at work in the tree.
        let mut in_order = std::pin::pin!(in_order);
        tokio::select! {
            biased;
            done = &mut in_order => done,
            () = ahead => in_order.await,
        }
    }

    /// A blob keeps its room until it is unpacked; what is no blob needs none.
    async fn way_with_room(
        &self,
        wanted: &Wanted<'_>,
        room: Arc<Semaphore>,
    ) -> Result<(Way, Option<OwnedSemaphorePermit>), FetchError> {
        let room = room.acquire_owned().await;
        let way = self.way(wanted).await?;
        let has_blob = matches!(way, Way::Make(..) | Way::Wait(_, Some(_)));
        let room = room.ok().filter(|_| has_blob);
        Ok((way, room))
    }

    async fn way(&self, wanted: &Wanted<'_>) -> Result<Way, FetchError> {
        if let Some(waiting) = self.installer.under_way.theirs(wanted.work) {
            return Ok(Way::Wait(waiting, None));
        }
        if let Some(layer) = self.store.layer(wanted.id).await {
            return Ok(Way::There(layer));
        }
        let blob = self.blob(wanted).await?;
        Ok(self.way_with(wanted, blob).await)
    }

    async fn blob(&self, wanted: &Wanted<'_>) -> Result<Blob, FetchError> {
        if self.cancel.is_cancelled() {
            return Err(FetchError::Cancelled);
        }
        let blob = self
            .source
            .blob(wanted.descriptor, self.log, self.cancel)
            .await?;
        self.pulse.beat();
        Ok(blob)
    }

    /// Layers are claimed when their bytes are here, so that nobody waits for somebody else's registry.
    async fn way_with(&self, wanted: &Wanted<'_>, blob: Blob) -> Way {
        let claim = self.installer.under_way.claim(wanted.work, &self.pulse);
        let lead = match claim {
            Claim::Theirs(waiting) => return Way::Wait(waiting, Some(blob)),
            Claim::Ours(lead) => lead,
        };
        // Others may have made it while the bytes came.
        match self.store.layer(wanted.id).await {
            Some(layer) => Way::There(layer),
            None => Way::Make(Some(lead), blob),
        }
    }

    async fn put(
        &self,
        wanted: &Wanted<'_>,
        mut way: Way,
        base: Option<Layer>,
    ) -> Result<Layer, FetchError> {
        loop {
            way = match way {
                Way::There(layer) => return Ok(layer),
                Way::Make(_lead, blob) => return self.make(wanted, blob, base.as_ref()).await,
                Way::Wait(waiting, blob) => {
                    match (self.wait(wanted, waiting).await?, blob) {
                        (true, Some(blob)) => self.way_with(wanted, blob).await,
                        (true, None) => self.way(wanted).await?,
                        // The store keeps the one that is whole first.
                        (false, Some(blob)) => Way::Make(None, blob),
                        (false, None) => Way::Make(None, self.blob(wanted).await?),
                    }
                }
            };
        }
    }

    /// Waits for another install: true if it is over, false if it stands still.
    async fn wait(&self, wanted: &Wanted<'_>, waiting: Waiting) -> Result<bool, FetchError> {
        let waited = self.cancel.run_until_cancelled(async {
            let mut over = std::pin::pin!(waiting.over(self.installer.patience));
            if let Ok(is_over) = timeout(REMARK, &mut over).await {
                return is_over;
            }
            self.tell(wanted, "waiting for another build that is unpacking it")
                .await;
            over.await
        });
        let is_over = waited.await.ok_or(FetchError::Cancelled)?;
        if !is_over {
            self.tell(
                wanted,
                "another build does not get on with it; unpacking it here, too",
            )
            .await;
        }
        Ok(is_over)
    }

    /// A log that cannot be written is told by whoever owns it.
    async fn tell(&self, wanted: &Wanted<'_>, what: &str) {
        let line = format!(
            "layer {}/{} sha256:{}: {what}\n",
            wanted.number,
            wanted.of,
            hex(&wanted.descriptor.digest).get(..12).unwrap_or_default(),
        );
        let _ = self.log.write(line.into_bytes()).await;
    }

    async fn make(
        &self,
        wanted: &Wanted<'_>,
        blob: Blob,
        base: Option<&Layer>,
    ) -> Result<Layer, FetchError> {
        let LayerDescriptor {
            digest, diff_id, ..
        } = *wanted.descriptor;
        let length = blob.range.end.saturating_sub(blob.range.start);
        self.tell(wanted, &Size(length).to_string()).await;
        let draft = self.store.begin(wanted.id, base).await?;
        let how = Unpack {
            expected: Expected {
                // An uncompressed layer has one digest under two names.
                digest: (!blob.verified && diff_id != Some(digest)).then_some(digest),
                diff_id,
            },
            limits: self.installer.limits,
            whiteouts: true,
        };
        let cancel = self.cancel.clone();
        let root = draft.rootfs().path().to_owned();
        let reader = self.pulse.hear(BlobReader::from(blob));
        let unpacked = draft
            .rootfs()
            .with(move |root| unpack_layer(root, reader, &how, &cancel))
            .await
            .map_err(StoreError::from)?;
        let unpacked = unpacked.map_err(|error| match error {
            UnpackError::Cancelled => FetchError::Cancelled,
            UnpackError::Io {
                action,
                path,
                source,
            } => FetchError::Store(StoreError::Io {
                action,
                path: root.join(&*path.to_string()),
                source,
            }),
            UnpackError::Digest { .. } | UnpackError::Read(_) => {
                FetchError::Source(wanted.blame(&error))
            }
            UnpackError::Damaged(_) | UnpackError::Refused(_) => {
                FetchError::Request(wanted.blame(&error))
            }
        });
        let unpacked = match unpacked {
            Ok(unpacked) => unpacked,
            Err(error) => {
                if matches!(&error, FetchError::Store(error) if error.is_full_disk()) {
                    // Whoever makes room and tries again needs that of this attempt, too.
                    draft.discard().await;
                }
                return Err(error);
            }
        };
        let origin = [
            ("kind", "image layer".to_owned()),
            ("digest", format!("sha256:{}", hex(&digest))),
            ("diff_id", format!("sha256:{}", hex(&unpacked.diff_id))),
        ];
        let meta = LayerMeta {
            env: Vec::new(),
            origin: origin
                .map(|(key, value)| (key.to_owned(), value))
                .into_iter()
                .collect::<BTreeMap<_, _>>(),
        };
        Ok(draft.commit(meta).await?)
    }
}

impl Wanted<'_> {
    fn blame(&self, error: &UnpackError) -> String {
        format!(
            "layer {} of {} (sha256:{}): {error}",
            self.number,
            self.of,
            hex(&self.descriptor.digest)
        )
    }
}

/// The ids of an image's layers: each a hash of the one below and of what its own tar is.
fn chain(layers: &[LayerDescriptor]) -> impl Iterator<Item = StepId> {
    layers
        .iter()
        .scan(None, |below: &mut Option<StepId>, layer| {
            let mut hash = Sha256::new();
            hash.update(DOMAIN);
            if let Some(below) = below {
                hash.update(below.as_bytes());
            }
            match layer.diff_id {
                Some(diff_id) => {
                    hash.update(b"diff");
                    hash.update(diff_id);
                }
                None => {
                    hash.update(b"blob");
                    hash.update(layer.digest);
                }
            }
            let id = StepId::from_bytes(hash.finalize().into());
            *below = Some(id);
            Some(id)
        })
}

/// What tells the work of making each layer apart: whose bytes, and which, up to it.
fn works(origin: &str, layers: &[LayerDescriptor]) -> impl Iterator<Item = StepId> {
    let origin: [u8; 32] = Sha256::digest(origin).into();
    layers.iter().scan(origin, |below, layer| {
        let mut hash = Sha256::new();
        hash.update(*below);
        hash.update(layer.digest);
        hash.update(layer.diff_id.unwrap_or_default());
        *below = hash.finalize().into();
        Some(StepId::from_bytes(*below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(digest: u8, diff_id: Option<u8>) -> LayerDescriptor {
        LayerDescriptor {
            digest: [digest; 32],
            size: None,
            diff_id: diff_id.map(|byte| [byte; 32]),
        }
    }

    #[test]
    fn layers_are_the_same_if_all_tars_below_are() {
        let ids = |layers: &[LayerDescriptor]| chain(layers).collect::<Vec<_>>();
        let one = ids(&[layer(1, Some(10)), layer(2, Some(20))]);
        // Compressed in another way, it is still the same tar.
        let two = ids(&[layer(7, Some(10)), layer(8, Some(30))]);
        assert_eq!(one[0], two[0]);
        assert_ne!(one[1], two[1]);
        let reversed = ids(&[layer(2, Some(20)), layer(1, Some(10))]);
        assert!(!one.contains(&reversed[0]) && !one.contains(&reversed[1]));
        // A digest is no diff id.
        assert_ne!(ids(&[layer(10, None)])[0], one[0]);
    }

    #[test]
    fn only_the_same_bytes_from_the_same_place_are_the_same_work() {
        let last = |origin: &str, layers: &[LayerDescriptor]| works(origin, layers).last();
        let image = [layer(1, Some(10)), layer(2, Some(20))];
        assert_eq!(last("a", &image), last("a", &image));
        assert_ne!(last("a", &image), last("b", &image));
        // The same layers, it says; but with bytes of its own below.
        let evil = [layer(6, Some(10)), layer(2, Some(20))];
        assert_eq!(chain(&image).last(), chain(&evil).last());
        assert_ne!(last("a", &image), last("a", &evil));
    }
}
