//! Finding logs on disk, in whichever form they are there.
//!
//! A log's own file counts before an entry in a pack. One that has no header yet does not: a kill came between the making of the file
//! and the first write, and the log, if it was in a pack, is there still.

use std::fs::File;
use std::sync::Arc;

use crate::content::Content;
use crate::layout::Kind;
use crate::store::Shared;
use crate::{LogInfo, ReadError, file, layout, pack};

impl Shared {
    /// Finds a log. Its own file can be written if `write`.
    ///
    /// # Errors
    /// [`ReadError::NotFound`]; [`ReadError::Io`].
    pub(crate) fn find(&self, id: u64, write: bool) -> Result<(Content, LogInfo), ReadError> {
        let open = || {
            let (file, info) = file::open(&self.dir, id, write)?;
            Ok((file::is_begun(&file), Content::Own(Arc::new(file)), info))
        };
        let unbegun = match open() {
            Ok((true, content, info)) => return Ok((content, info)),
            Ok((false, content, info)) => Some((content, info)),
            Err(ReadError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let packed = self.packs.find(id);
        if let Some(found) = packed.map_err(|error| file::read_error(id, &error))? {
            return Ok(found);
        }
        match unbegun {
            Some(found) => Ok(found),
            // It may have been given a file of its own between the two looks.
            None => open().map(|(_, content, info)| (content, info)),
        }
    }

    /// What is known of every log on disk and of those that are being written to it, in the order of ids.
    pub(crate) fn list(&self) -> Vec<LogInfo> {
        let mut found: Vec<(LogInfo, u8)> = Vec::new();
        for path in layout::files(&self.dir) {
            match layout::kind(&path) {
                Some(Kind::Log(id)) => {
                    let Ok((file, info)) = file::open(&self.dir, id, false) else {
                        continue;
                    };
                    // Of two with one id, the first in order counts.
                    let order = if file::is_begun(&file) { 0 } else { 2 };
                    found.push((info, order));
                }
                Some(Kind::Pack(range)) => {
                    let file = File::open(layout::pack(&self.dir, range));
                    let logs = file.and_then(|file| pack::logs(&file, range));
                    let logs = logs.unwrap_or_default().into_values();
                    found.extend(logs.map(|info| (info, 1)));
                }
                None => {}
            }
        }
        found.sort_unstable_by_key(|(info, order)| (info.id, *order));
        found.dedup_by_key(|(info, _)| info.id);
        let now = |info: LogInfo| match self.in_memory(info.id) {
            Some(log) if log.state().live => log.info(),
            _ => info,
        };
        found.into_iter().map(|(info, _)| now(info)).collect()
    }
}
