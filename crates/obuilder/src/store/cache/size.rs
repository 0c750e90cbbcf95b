//! How much room a tree takes.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The bytes that the files of `tree` take on the disk, each counted once however many names it has. Blocks shared with other trees
/// count in full. What cannot be looked at counts as nothing.
pub(super) fn bytes_of(tree: &Path) -> u64 {
    let mut counted = HashSet::new();
    let mut bytes = 0_u64;
    let mut todo = vec![tree.to_owned()];
    while let Some(dir) = todo.pop() {
        if let Ok(found) = dir.symlink_metadata() {
            bytes = bytes.saturating_add(found.blocks().saturating_mul(512));
        }
        let Ok(entries) = std::fs::read_dir(&dir) else {
            continue;
        };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => todo.push(entry.path()),
                Ok(found) if found.nlink() == 1 || counted.insert((found.dev(), found.ino())) => {
                    bytes = bytes.saturating_add(found.blocks().saturating_mul(512));
                }
                _ => {}
            }
        }
    }
    bytes
}
