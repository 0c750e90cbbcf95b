//! `from`: which layer a base image's name stands for.
//!
//! A name's first image is under the id that OBuilder gives the name, whatever its digest, so that ids agree between workers. Only when a
//! later look finds that the name has come to mean something else does the new image get an id of name and digest; what was built on the
//! former one stays valid, and is found again should the name turn back. Layers tell what they came from; a small file per name tells
//! which of them is current, and when that was last looked up. Losing it costs a look.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bstr::{BString, ByteSlice};
use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::BuildError;
use super::engine::{Engine, Work};
use super::fault::Fault;
use super::feed::Publisher;
use crate::image::{FetchError, PullPolicy};
use crate::store::{Layer, LayerMeta, Store, StoreError};
use crate::{StepId, StepLog};

/// Of a base layer's origin: the image's name as in the spec, its digest, and when that was so.
const NAME: &str = "name";
const DIGEST: &str = "digest";
const RESOLVED: &str = "resolved";

/// Which layer to use.
pub(super) struct Choice {
    /// Its id; it may have to be fetched.
    pub(super) id: StepId,
    /// The image's digest, if the id is made with it.
    pub(super) digest: Option<String>,
    /// What to use instead if it cannot be fetched. Held, so that it stays.
    pub(super) instead: Option<Layer>,
    /// Whether the name was looked up, which is to be remembered once the layer is there.
    pub(super) looked_up: bool,
    /// What the user should know.
    pub(super) note: Option<String>,
}

/// What is remembered of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    name: String,
    /// The digest that the current layer's id is made with; `None` for the layer with the name's own id.
    digest: Option<String>,
    /// When it was last looked up (RFC 3339).
    checked: String,
}

/// Decides which layer `name` stands for, looking it up if the policy says so.
pub(super) async fn choose(
    engine: &Engine,
    name: &BString,
    cancel: &CancellationToken,
) -> Result<Choice, BuildError> {
    let plain = StepId::of_base(name);
    let store = &engine.store;
    let record = Record::load(store, name).await;
    let mut current = None;
    let mut lost = false;
    if let Some(digest) = record.as_ref().and_then(|record| record.digest.as_ref()) {
        current = store.layer(id_with(name, digest)).await;
        lost = current.is_none();
    }
    if current.is_none() {
        current = store.layer(plain).await;
    }
    let Some(current) = current else {
        return Ok(Choice::of(plain));
    };
    let checked = record
        .as_ref()
        .map(|record| &record.checked)
        .or_else(|| current.meta().origin.get(RESOLVED))
        .and_then(|time| time.parse().ok())
        // What was found then is not there any more; what the name meant before must not take its place.
        .filter(|_| !lost);
    if !is_due(engine.options.pull, checked, Timestamp::now()) {
        return Ok(Choice::of(current.id()).pinning(current));
    }
    match engine.fetcher.resolve(name.as_bstr(), cancel).await {
        Err(FetchError::Cancelled) => Err(BuildError::Cancelled),
        Err(error) => {
            let mut choice = Choice::of(current.id()).pinning(current);
            choice.note = Some(away(name, &error));
            Ok(choice)
        }
        Ok(Some(digest)) if current.meta().origin.get(DIGEST) != Some(&digest) => {
            let turned_back = match store.layer(plain).await {
                Some(first) => first.meta().origin.get(DIGEST) == Some(&digest),
                None => false,
            };
            let mut choice = if turned_back {
                Choice::of(plain)
            } else {
                Choice::of(id_with(name, &digest))
            };
            choice.looked_up = true;
            choice.note = Some(format!("{name} is now {digest}"));
            choice.digest = (!turned_back).then_some(digest);
            Ok(choice.pinning(current))
        }
        Ok(_) => {
            let mut choice = Choice::of(current.id());
            choice.looked_up = true;
            Ok(choice.pinning(current))
        }
    }
}

/// What is said when a registry does not answer, and something is in the store.
pub(super) fn away(name: &BString, error: &dyn std::fmt::Display) -> String {
    format!("cannot look up what {name} is now, using what is in the store: {error}")
}

/// The id of an image that a name came to mean. No name that can be fetched has a zero byte, so it is nobody else's.
fn id_with(name: &BString, digest: &str) -> StepId {
    let mut key = name.clone();
    key.push(0);
    key.extend_from_slice(digest.as_bytes());
    StepId::of_base(&key)
}

fn is_due(policy: PullPolicy, checked: Option<Timestamp>, now: Timestamp) -> bool {
    match (policy, checked) {
        (PullPolicy::Missing, _) => false,
        (PullPolicy::Always, _) | (PullPolicy::After(_), None) => true,
        (PullPolicy::After(age), Some(checked)) => {
            // A clock that was set back makes it due.
            let since = Duration::try_from(now.duration_since(checked));
            since.map_or(true, |since| since > age)
        }
    }
}

impl Choice {
    fn of(id: StepId) -> Self {
        Self {
            id,
            digest: None,
            instead: None,
            looked_up: false,
            note: None,
        }
    }

    fn pinning(mut self, layer: Layer) -> Self {
        self.instead = Some(layer);
        self
    }
}

impl Record {
    /// That `name` was just found to stand for `layer`.
    pub(super) fn of(name: &BString, layer: &Layer) -> Self {
        let derived = layer.id() != StepId::of_base(name);
        let digest = layer.meta().origin.get(DIGEST);
        Self {
            name: name.to_string(),
            digest: digest.filter(|_| derived).cloned(),
            checked: Timestamp::now().to_string(),
        }
    }

    async fn load(store: &Store, name: &BString) -> Option<Self> {
        let path = Self::path(store, name).ok()?;
        let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
        serde_json::from_slice(&read.ok()?.ok()?).ok()
    }

    /// Remembers it. That it cannot be is no error: another look will do.
    pub(super) async fn save(self, store: &Store, name: &BString) {
        let saved = match Self::path(store, name) {
            Ok(path) => self.write(path).await,
            Err(error) => Err(std::io::Error::other(error)),
        };
        if let Err(error) = saved {
            tracing::warn!(image = %name, %error, "cannot remember when the image was looked up");
        }
    }

    async fn write(self, path: PathBuf) -> std::io::Result<()> {
        let bytes = serde_json::to_vec(&self)?;
        let written = tokio::task::spawn_blocking(move || {
            let dir = path.parent().unwrap_or(&path);
            let mut file = tempfile::NamedTempFile::new_in(dir)?;
            std::io::Write::write_all(&mut file, &bytes)?;
            file.persist(path)?;
            Ok(())
        });
        written.await.unwrap_or_else(|error| Err(error.into()))
    }

    fn path(store: &Store, name: &BString) -> Result<PathBuf, StoreError> {
        let file = format!("{}.json", StepId::of_base(name));
        Ok(store.state_dir("bases")?.join(file))
    }
}

/// Brings an image into the store.
pub(super) struct Fetch {
    pub(super) id: StepId,
    pub(super) name: BString,
    /// The image's digest, if the id is made with it.
    pub(super) digest: Option<String>,
}

/// Where an image goes that was fetched.
enum Goal {
    /// Nowhere: it is there.
    There(Layer),
    /// To the layer with this id.
    Make(StepId),
}

impl Fetch {
    async fn fetch(
        &self,
        engine: &Engine,
        publisher: &Publisher,
        cancel: &CancellationToken,
    ) -> Result<Layer, Fault> {
        let told = |error: std::io::Error| Fault::io("write the log of a fetch", &error);
        let store = &engine.store;
        // Which layer the image's own is above is known only when it was fetched, so until then the log has no place yet.
        let log = StepLog::unnamed(&store.state_dir("fetching")?)
            .await
            .map_err(told)?;
        publisher.live(&log);
        let image = engine
            .fetcher
            .fetch(self.name.as_bstr(), store, &log, cancel)
            .await?;
        if let Some(digest) = &image.digest {
            let line = format!("{} is {digest}\n", self.name);
            log.write(line).await.map_err(told)?;
        }
        log.close();
        let id = match self.goal(store, image.digest.as_ref()).await? {
            Goal::There(layer) => return Ok(layer),
            Goal::Make(id) => id,
        };
        let draft = store.begin(id, image.top.as_ref()).await?;
        let kept = StepLog::create(draft.log_path()).await.map_err(told)?;
        let mut lines = log.reader();
        while let Some(bytes) = lines.next().await.map_err(told)? {
            kept.write(bytes).await.map_err(told)?;
        }
        kept.close();
        let mut origin = BTreeMap::from([
            (NAME.to_owned(), self.name.to_string()),
            (RESOLVED.to_owned(), Timestamp::now().to_string()),
        ]);
        if let Some(digest) = image.digest {
            origin.insert(DIGEST.to_owned(), digest);
        }
        let meta = LayerMeta {
            env: image.env,
            origin,
        };
        Ok(draft.commit(meta).await?)
    }

    /// Where the image with the digest `found` goes. The name may have come to mean something else again since it was looked up: an id
    /// that is made with a digest must never be that of another image, so the image that came goes where it belongs.
    async fn goal(&self, store: &Store, found: Option<&String>) -> Result<Goal, Fault> {
        let name = &self.name;
        let Some(chosen) = self.digest.as_ref().filter(|&chosen| found != Some(chosen)) else {
            return Ok(Goal::Make(self.id));
        };
        let Some(found) = found else {
            let text = format!("{name} was {chosen} a moment ago, and what came has no digest");
            return Err(BuildError::Source(text).into());
        };
        let derived = id_with(name, found);
        for id in [StepId::of_base(name), derived] {
            if let Some(layer) = store.layer(id).await
                && layer.meta().origin.get(DIGEST) == Some(found)
            {
                return Ok(Goal::There(layer));
            }
        }
        Ok(Goal::Make(derived))
    }
}

impl Work for Fetch {
    fn attempt<'a>(
        &'a self,
        engine: &'a Engine,
        publisher: &'a Publisher,
        cancel: &'a CancellationToken,
    ) -> BoxFuture<'a, Result<Layer, Fault>> {
        self.fetch(engine, publisher, cancel).boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_is_due_when_the_policy_says_so() {
        let now: Timestamp = "2030-01-01T12:00:00Z".parse().unwrap();
        let before: Timestamp = "2030-01-01T11:00:00Z".parse().unwrap();
        let hours = |hours: u64| PullPolicy::After(Duration::from_secs(3600 * hours));
        assert!(!is_due(PullPolicy::Missing, None, now));
        assert!(is_due(PullPolicy::Always, Some(now), now));
        assert!(is_due(hours(2), None, now));
        assert!(!is_due(hours(2), Some(before), now));
        assert!(is_due(
            PullPolicy::After(Duration::from_secs(3599)),
            Some(before),
            now
        ));
        // The clock was set back.
        assert!(is_due(hours(2), Some(now), before));
    }
}
