//! Removing directories, for caches and contexts alike. Never follows a link out of them.

use std::fs;
use std::io;
use std::path::Path;

/// Removes a directory and all in it; one that is not there is fine.
pub(crate) fn remove_dir_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Empties a directory without following links.
pub(crate) fn remove_content(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
