//! A layer in somebody's hands.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bstr::BString;

use super::handle::Inner;
use super::meta::Facts;
use super::{LayerMeta, StoreError, layout};
use crate::{Rootfs, StepId};

/// A kept result, pinned for as long as this (or a clone) exists.
#[derive(Clone, Debug)]
pub struct Layer {
    pinned: Arc<Pinned>,
}

/// One pin.
#[derive(Debug)]
struct Pinned {
    store: Arc<Inner>,
    facts: Arc<Facts>,
    log: PathBuf,
}

impl Layer {
    /// Of a layer that was pinned in the index; the pin is taken back with the last clone.
    pub(super) fn of_pinned(store: Arc<Inner>, facts: Arc<Facts>) -> Self {
        let log = store.core.layout.layer(facts.id).join(layout::LOG);
        Self {
            pinned: Arc::new(Pinned { store, facts, log }),
        }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> StepId {
        self.pinned.facts.id
    }

    /// What is known of it.
    #[must_use]
    pub fn meta(&self) -> &LayerMeta {
        &self.pinned.facts.meta
    }

    /// The environment of the base image it is built on.
    #[must_use]
    pub fn base_env(&self) -> &[(BString, BString)] {
        &self.pinned.facts.base_env
    }

    /// The same, to be shared with layers above.
    pub(super) fn shared_base_env(&self) -> Arc<[(BString, BString)]> {
        self.pinned.facts.base_env.clone()
    }

    /// Its whole tree, to be read. What is given keeps the layer pinned through `self` only: keep the layer while it is used.
    ///
    /// # Errors
    /// The disk's.
    pub fn view(&self) -> Result<Rootfs, StoreError> {
        self.pinned.store.core.view(self.id())
    }

    /// Its log's file. It may be missing, if the step had no log.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.pinned.log
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.store.core.index().unpin(self.facts.id);
    }
}
