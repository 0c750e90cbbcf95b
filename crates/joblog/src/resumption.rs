//! Going on with a log that is on disk: cuts it where its writer says, and takes its end back.
//!
//! Does it in such an order that a kill at any moment leaves the log as it was, or as it is to be gone on with.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::content::Content;
use crate::live::Stored;
use crate::store::Shared;
use crate::{LogInfo, ReadError, WriteError, file, layout};

/// How a log is gone on with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resumption {
    pub(crate) id: u64,
    /// The first byte that is not kept.
    pub(crate) at: u64,
    /// How long it may grow; 0 for any length.
    pub(crate) limit: u64,
    /// Even if it has ended.
    pub(crate) though_ended: bool,
}

/// A log that can be gone on with.
pub(crate) struct Resumed {
    pub(crate) info: LogInfo,
    pub(crate) stored: Stored,
    pub(crate) file: Arc<File>,
}

impl Resumption {
    /// The error of whoever wants this and cannot have it.
    pub(crate) fn refuse(&self, why: &str) -> WriteError {
        WriteError::Resume {
            id: self.id,
            at: self.at,
            why: why.to_owned(),
        }
    }

    fn failed(&self, error: &dyn std::fmt::Display) -> WriteError {
        WriteError::Io {
            id: self.id,
            why: error.to_string(),
        }
    }

    /// Prepares the log's own file. Waits for the disk.
    ///
    /// # Errors
    /// Those of [`LogStore::resume`](crate::LogStore::resume).
    pub(crate) fn prepare(&self, shared: &Shared) -> Result<Resumed, WriteError> {
        let found = shared.find(self.id, true).map_err(|error| match error {
            ReadError::NotFound { id } => WriteError::NotFound { id },
            other => self.failed(&other),
        });
        let (content, mut info) = found?;
        if info.end.take().is_some() && !self.though_ended {
            return Err(self.refuse("it has ended"));
        }
        if info.length < self.at {
            return Err(self.refuse(&format!("only {} bytes are stored", info.length)));
        }
        info.length = self.at;
        let header = file::header(None, 0, info.dropped);
        let file = match content {
            Content::Own(file) => file
                .set_len(file::HEADER + self.at)
                .and_then(|()| file.write_all_at(header.as_bytes(), 0))
                .map(|()| file),
            packed @ Content::Packed(..) => self.move_out(shared, &packed, header),
        };
        let file = file.map_err(|error| self.failed(&error))?;
        // The file counts now. What is left of it in a pack must not come back when that is removed.
        let packs = &shared.packs;
        let left = packs.note_file(self.id).and_then(|_| packs.remove(self.id));
        if let Err(error) = left {
            tracing::warn!(log = self.id, %error, "A log which is gone on with stays in its pack, too");
        }
        let stored = Content::Own(Arc::clone(&file)).reread(self.at, self.limit);
        Ok(Resumed {
            info,
            stored: stored.map_err(|error| self.failed(&error))?,
            file,
        })
    }

    /// Gives a packed log a file of its own. That counts from its header on, which comes with all else in one write within the first
    /// page, so that no kill can come between.
    fn move_out(
        &self,
        shared: &Shared,
        packed: &Content,
        header: String,
    ) -> std::io::Result<Arc<File>> {
        let mut whole = header.into_bytes();
        // It is a page at most, or it would not be in a pack.
        whole.extend(packed.read(0, usize::try_from(self.at).unwrap_or(usize::MAX))?);
        let file = layout::open_or_create(&layout::log(&shared.dir, self.id))?;
        file.set_len(0)?;
        file.write_all_at(&whole, 0)?;
        Ok(Arc::new(file))
    }
}
