//! `ROOT/format`: which kind of store a directory holds. What is not ours is not touched.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::layout::Layout;
use super::{Kind, StoreError};

/// The version that this program reads and writes. Goes up when an older program would misread a store.
const VERSION: u32 = 1;
const NAME: &str = "ocluster-obuilder";

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Saved {
    store: String,
    version: u32,
    kind: String,
}

/// What a directory is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing yet.
    Empty,
    /// A store of the right kind.
    Ours,
}

/// What may be in a directory that becomes a store.
const NOTHING: [&str; 3] = ["lost+found", "lock", "format.new"];

/// Whether this is the name of something that a filesystem was tried with, by a process that was killed then.
pub(super) fn is_probe(name: &str) -> bool {
    name.starts_with(".probe-")
}

fn is_empty_dir(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.is_dir())
        && fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

/// Looks what is in the directory, and changes nothing.
///
/// # Errors
/// It is something else: another kind of store, a newer one, OBuilder's, or no store at all.
pub(super) fn look(layout: &Layout, kind: Kind) -> Result<Found, StoreError> {
    let root = layout.root();
    let shown = root.display();
    // The modes of rsync can read each other's stores.
    let kind = kind.word();
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(root).map_err(StoreError::io("list", root))? {
        let entry = entry.map_err(StoreError::io("list", root))?;
        names.insert(entry.file_name().to_string_lossy().into_owned());
    }
    if names.contains("format") {
        let path = layout.format();
        let text = fs::read_to_string(&path).map_err(StoreError::io("read", &path))?;
        let saved = serde_json::from_str::<Saved>(&text)
            .ok()
            .filter(|saved| saved.store == NAME)
            .ok_or_else(|| {
                StoreError::Refused(format!(
                    "{shown} is no store of this program: its file `format` says something else; name an empty directory"
                ))
            })?;
        if saved.version > VERSION {
            return Err(StoreError::Refused(format!(
                "the store {shown} was made by a newer version of this program (its format is {}, and this one knows {VERSION}); \
                 use that version, or name an empty directory",
                saved.version
            )));
        }
        if saved.kind != kind {
            return Err(StoreError::Refused(format!(
                "{shown} is a store of the kind {}, not {kind}; open it as {}:{shown}, or name an empty directory",
                saved.kind, saved.kind
            )));
        }
        return Ok(Found::Ours);
    }
    // A new filesystem has a directory of its own; a store that was about to be made has its lock, and nothing in its directories yet.
    names.retain(|name| !NOTHING.contains(&name.as_str()) && !is_probe(name));
    let is_ours = |name: &String| {
        let path = root.join(name);
        layout.directories().contains(&path) && is_empty_dir(&path)
    };
    if names.iter().all(is_ours) {
        return Ok(Found::Empty);
    }
    let upstream = root.join("state/db/db.sqlite").exists()
        || (names.contains("result") && names.contains("state"));
    Err(StoreError::Refused(if upstream {
        format!(
            "{shown} is a store of the OCaml version of OBuilder, whose layout is different; name an empty directory, \
             and remove the old store when nobody uses it any more"
        )
    } else {
        format!("{shown} holds something else than a store; name an empty directory")
    }))
}

/// Makes an empty directory a store. It is one when the file is there, which is the last thing to be made.
///
/// # Errors
/// The disk's.
pub(super) fn mark(layout: &Layout, kind: Kind) -> Result<(), StoreError> {
    let path = layout.format();
    let saved = Saved {
        store: NAME.to_owned(),
        version: VERSION,
        kind: kind.word().to_owned(),
    };
    let text = serde_json::to_string(&saved)
        .map_err(io::Error::from)
        .map_err(StoreError::io("write", &path))?;
    replace(&path, format!("{text}\n").as_bytes()).map_err(StoreError::io("write", &path))
}

/// Replaces a small file by one that is on the disk.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent()
        .map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}
