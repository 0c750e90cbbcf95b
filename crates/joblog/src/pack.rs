//! The packs of a store: whole small logs of one range of ids, written together into one file.
//!
//! To make a file for each tiny log costs more than all else that is done for it. What is appended, marked and removed goes through one
//! lock, so that nothing is written into a pack that is not there any more; readers take a look without it. Of the packs used last, a
//! few are known here by their logs' places: nothing here grows with the number of logs.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::LogInfo;
use crate::content::Content;
use crate::entry::{self, Entries, Entry, Rest, Whole};
use crate::layout;

/// Packs whose logs' places are known: some 50 KiB each at most.
const MAX_KNOWN: usize = 8;
/// A pack that is as large as this takes no more. Only ids that are removed and used again get that far.
const FULL: u64 = layout::PER_RANGE * entry::LARGEST;

/// The packs of one directory of logs.
#[derive(Debug)]
pub(crate) struct Packs {
    dir: PathBuf,
    /// The one used last comes first.
    known: Mutex<Vec<Pack>>,
}

#[derive(Debug)]
struct Pack {
    range: u64,
    file: Arc<File>,
    /// Where the next entry goes. `None`: it holds something strange, and is left as it is.
    end: Option<u64>,
    /// Where the entries lie of the logs that are there.
    places: HashMap<u64, u64>,
    /// Logs of the range that had files of their own when this was loaded, or were given some since. They may be gone again.
    files: HashSet<u64>,
}

impl Pack {
    /// Finds out what is in a pack that will be appended to.
    fn load(dir: &Path, range: u64, file: File) -> io::Result<Self> {
        let mut entries = Entries::new(&file, range)?;
        let mut places = HashMap::new();
        while let Some((place, entry)) = entries.advance()? {
            if entry.kept {
                places.insert(entry.id, place);
            } else {
                places.remove(&entry.id);
            }
        }
        let end = entries.end();
        let end = match entries.rest() {
            Rest::Nothing => Some(end),
            Rest::Torn => {
                file.set_len(end)?;
                Some(end)
            }
            Rest::Strange => {
                tracing::warn!(
                    pack = range,
                    place = end,
                    "A pack of logs is damaged: what comes behind this place is not read, and nothing more is put there"
                );
                None
            }
        };
        Ok(Self {
            range,
            file: Arc::new(file),
            end,
            places,
            files: layout::logs(dir, range).collect(),
        })
    }

    /// Whether there is a log with this id, in this pack or beside it.
    fn has(&self, dir: &Path, id: u64) -> bool {
        self.places.contains_key(&id) || self.files.contains(&id) && layout::log(dir, id).exists()
    }

    /// Whether its file is as it was left: whoever looks after this directory may have removed or cut it.
    fn is_there(&self) -> bool {
        let end = self.end;
        self.file.metadata().is_ok_and(|metadata| {
            metadata.nlink() > 0 && end.is_none_or(|end| metadata.len() == end)
        })
    }
}

impl Packs {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            known: Mutex::default(),
        }
    }

    fn known(&self) -> MutexGuard<'_, Vec<Pack>> {
        // Nothing panics while it holds the lock.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pack of this range, if it is there or shall be made.
    fn open<'a>(
        &self,
        known: &'a mut Vec<Pack>,
        range: u64,
        make: bool,
    ) -> io::Result<Option<&'a mut Pack>> {
        let at = known.iter().position(|pack| pack.range == range);
        let found = at.map(|at| known.remove(at));
        let pack = match found.filter(Pack::is_there) {
            Some(pack) => pack,
            None => {
                let path = layout::pack(&self.dir, range);
                let opened = if make {
                    layout::open_or_create(&path)
                } else {
                    File::options().read(true).write(true).open(&path)
                };
                match opened {
                    Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                    opened => Pack::load(&self.dir, range, opened?)?,
                }
            }
        };
        known.truncate(MAX_KNOWN - 1);
        known.insert(0, pack);
        Ok(known.first_mut())
    }

    /// Removes the file of a pack.
    fn discard(&self, known: &mut Vec<Pack>, range: u64) -> io::Result<()> {
        known.retain(|pack| pack.range != range);
        std::fs::remove_file(layout::pack(&self.dir, range))
    }

    /// Appends whole logs of this range, in one write. Gives where each is now, or `None` for one whose id another log has. `None` in
    /// place of all: the pack takes no more.
    ///
    /// # Errors
    /// The system's error. Then none of them is there.
    pub(crate) fn append(
        &self,
        range: u64,
        logs: &[Whole<'_>],
        buffer: &mut Vec<u8>,
    ) -> io::Result<Option<Vec<Option<Content>>>> {
        let mut known = self.known();
        let Some(pack) = self.open(&mut known, range, true)? else {
            return Ok(None);
        };
        let Some(end) = pack.end.filter(|end| *end < FULL) else {
            return Ok(None);
        };
        buffer.clear();
        let mut places = Vec::with_capacity(logs.len());
        for log in logs {
            let id = log.entry.id;
            let taken = pack.has(&self.dir, id);
            places.push((!taken).then_some(end + buffer.len() as u64));
            if !taken {
                log.write(buffer);
            }
        }
        let written = pack.file.write_all_at(buffer, end);
        let file = Arc::clone(&pack.file);
        if written.is_ok() {
            let ids = logs.iter().map(|log| log.entry.id).zip(&places);
            let added = ids.filter_map(|(id, place)| Some((id, (*place)?)));
            pack.places.extend(added);
            pack.end = Some(end + buffer.len() as u64);
        } else {
            // What remains if this fails too is no more than a kill could have left.
            let _cut_off = file.set_len(end);
            known.retain(|pack| pack.range != range);
        }
        if end == 0 && (written.is_err() || buffer.is_empty()) {
            // It was made for nothing.
            let _best_effort = self.discard(&mut known, range);
        }
        written?;
        let content = |place| Content::Packed(Arc::clone(&file), place + entry::HEADER);
        Ok(Some(
            places.into_iter().map(|place| place.map(content)).collect(),
        ))
    }

    /// Takes note that a log is about to get a file of its own. False: there is one with its id in a pack.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn note_file(&self, id: u64) -> io::Result<bool> {
        let mut known = self.known();
        let Some(pack) = self.open(&mut known, layout::range(id), false)? else {
            return Ok(true);
        };
        pack.files.insert(id);
        Ok(!pack.places.contains_key(&id))
    }

    /// Finds a log in its pack.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn find(&self, id: u64) -> io::Result<Option<(Content, LogInfo)>> {
        let range = layout::range(id);
        let known = self.known();
        let pack = known.iter().find(|pack| pack.range == range);
        let known_place = pack.filter(|pack| pack.is_there()).map(|pack| {
            let place = pack.places.get(&id);
            place.map(|place| (Arc::clone(&pack.file), *place))
        });
        drop(known);
        let place = match known_place {
            Some(place) => place,
            None => search(&layout::pack(&self.dir, range), id)?,
        };
        let Some((file, place)) = place else {
            return Ok(None);
        };
        let entry = Entry::read(&file, place)?;
        if !entry.kept {
            return Ok(None);
        }
        let info = entry.info(&file, place)?;
        Ok(Some((Content::Packed(file, place + entry::HEADER), info)))
    }

    /// Removes a log from its pack, and the pack with its last log. False: it was not there.
    ///
    /// # Errors
    /// The system's error. Then it is still there.
    pub(crate) fn remove(&self, id: u64) -> io::Result<bool> {
        let range = layout::range(id);
        let mut known = self.known();
        let Some(pack) = self.open(&mut known, range, false)? else {
            return Ok(false);
        };
        let Some(place) = pack.places.get(&id).copied() else {
            return Ok(false);
        };
        if pack.places.len() == 1 && pack.end.is_some() {
            self.discard(&mut known, range)?;
            return Ok(true);
        }
        pack.file
            .write_all_at(&[entry::REMOVED], place + entry::SIGN)?;
        pack.places.remove(&id);
        Ok(true)
    }

    /// Removes a whole pack, if it has this size still and nobody uses it. Gives how many logs went with it.
    ///
    /// # Errors
    /// The system's error.
    pub(crate) fn remove_all(
        &self,
        range: u64,
        size: u64,
        in_use: impl FnOnce() -> bool,
    ) -> io::Result<Option<u64>> {
        let mut known = self.known();
        let file = File::open(layout::pack(&self.dir, range))?;
        // Under the lock, so that nothing is appended between this look and the removal.
        if file.metadata()?.len() != size || in_use() {
            return Ok(None);
        }
        let logs = logs(&file, range)?.len() as u64;
        self.discard(&mut known, range)?;
        Ok(Some(logs))
    }

    /// Lets go of all files.
    pub(crate) fn close(&self) {
        self.known().clear();
    }
}

/// Looks for a log in a pack that is not known.
fn search(path: &Path, id: u64) -> io::Result<Option<(Arc<File>, u64)>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut entries = Entries::new(&file, layout::range(id))?;
    let mut found = None;
    while let Some((place, entry)) = entries.advance()? {
        if entry.id == id {
            found = entry.kept.then_some(place);
        }
    }
    Ok(found.map(|place| (Arc::new(file), place)))
}

/// What is known of the logs in a pack, by their ids.
///
/// # Errors
/// The system's error.
pub(crate) fn logs(pack: &File, range: u64) -> io::Result<HashMap<u64, LogInfo>> {
    let mut entries = Entries::new(pack, range)?;
    let mut found = HashMap::new();
    while let Some((place, entry)) = entries.advance()? {
        if entry.kept {
            found.insert(entry.id, entry.info(pack, place)?);
        } else {
            found.remove(&entry.id);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::End;

    fn append(packs: &Packs, id: u64, piece: &[Bytes]) -> Option<Content> {
        let end = End::Closed;
        let whole = Whole::new(id, piece, 0, &end).unwrap();
        let appended = packs.append(layout::range(id), &[whole], &mut Vec::new());
        appended.unwrap().map(|mut contents| contents.remove(0))?
    }

    #[test]
    fn a_pack_that_has_grown_since_it_was_found_old_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::new(dir.path().to_owned());
        append(&packs, 1, &[]).unwrap();
        let size = layout::pack(dir.path(), 0).metadata().unwrap().len();
        append(&packs, 2, &[]).unwrap();
        assert_eq!(packs.remove_all(0, size, || false).unwrap(), None);
        assert_eq!(packs.remove_all(0, 2 * size, || true).unwrap(), None);
        assert!(packs.find(1).unwrap().is_some());
        assert_eq!(packs.remove_all(0, 2 * size, || false).unwrap(), Some(2));
        assert!(packs.find(1).unwrap().is_none());
        assert!(packs.remove_all(0, 2 * size, || false).is_err());
    }

    #[test]
    fn an_id_used_again_and_again_does_not_make_a_pack_grow_without_end() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::new(dir.path().to_owned());
        append(&packs, 0, &[]).unwrap();
        let piece = [Bytes::from(vec![b'x'; 4000])];
        let mut rounds = 0;
        while append(&packs, 1, &piece).is_some() {
            assert!(packs.remove(1).unwrap());
            rounds += 1;
        }
        let size = layout::pack(dir.path(), 0).metadata().unwrap().len();
        assert!(rounds > 1000);
        assert!((FULL..FULL + entry::LARGEST).contains(&size), "{size}");
        assert!(packs.find(0).unwrap().is_some());
    }

    #[test]
    fn few_packs_are_known_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let packs = Packs::new(dir.path().to_owned());
        for range in 0..100 {
            append(&packs, range * layout::PER_RANGE, &[]).unwrap();
        }
        assert_eq!(packs.known().len(), MAX_KNOWN);
        packs.close();
        assert_eq!(packs.known().len(), 0);
        assert!(packs.find(0).unwrap().is_some());
    }
}
