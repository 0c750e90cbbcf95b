//! The secret by which a scheduler knows this worker again: who brings it takes the place of an older connection of the same name.
//!
//! It is made once and kept in the state directory. It must never reach a log, an error or a command line. A worker that has lost it is
//! a stranger until its older connection is found dead, and nothing worse.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::Context as _;
use ocluster_api::SecretBytes;
use rand::TryRngCore as _;
use tracing::warn;

/// How many bytes it has.
const LENGTH: usize = 32;

/// The worker's secret.
#[derive(Debug)]
pub(crate) struct Identity(SecretBytes);

impl Identity {
    /// Reads it from `path`, or makes one and keeps it there. What is there and is none is replaced, which the log says.
    ///
    /// Blocks on the disk.
    ///
    /// # Errors
    /// If the file cannot be read or written, or the system has no randomness.
    pub(crate) fn load_or_make(path: &Path) -> anyhow::Result<Self> {
        let shown = path.display();
        match read(path) {
            Ok(Some(identity)) => return Ok(identity),
            Ok(None) => warn!(
                "The file {shown} is damaged: making a new identity, so that the scheduler may take this worker for a new one"
            ),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| {
                    format!("cannot read the worker's identity in {shown}: make it readable for the worker's user, or remove it")
                });
            }
        }
        make(path).with_context(|| format!("cannot keep the worker's identity in {shown}"))
    }

    /// The secret itself, for the one call that needs it.
    pub(crate) fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

/// The identity in this file; `None` if it holds something else.
fn read(path: &Path) -> io::Result<Option<Identity>> {
    let file = File::open(path)?;
    let mode = file.metadata()?.permissions().mode();
    if mode & 0o077 != 0 {
        warn!(
            "Others could read the worker's identity in {}: from now on they cannot",
            path.display()
        );
        file.set_permissions(Permissions::from_mode(0o600))?;
    }
    // Room for one byte too many, so that the buffer never moves.
    let mut bytes = Vec::with_capacity(LENGTH + 1);
    file.take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
    let whole = bytes.len() == LENGTH;
    let secret = SecretBytes::new(bytes);
    Ok(whole.then_some(Identity(secret)))
}

/// Makes an identity; it is in the file whole or not at all.
fn make(path: &Path) -> anyhow::Result<Identity> {
    let mut bytes = vec![0; LENGTH];
    rand::rngs::OsRng
        .try_fill_bytes(&mut bytes)
        .context("the system has no randomness")?;
    let identity = Identity(SecretBytes::new(bytes));
    let new = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(identity.expose())?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    Ok(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn it_is_made_once_and_is_nobody_else_s() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        let made = Identity::load_or_make(&path).unwrap();
        assert_eq!(made.expose().len(), LENGTH);
        assert_eq!(mode(&path), 0o600);
        let read = Identity::load_or_make(&path).unwrap();
        assert_eq!(read.expose(), made.expose());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        let other = Identity::load_or_make(&dir.path().join("other")).unwrap();
        assert_ne!(other.expose(), made.expose());
        assert!(!format!("{made:?}").contains("0x") && format!("{made:?}").len() < 40);
    }

    #[test]
    fn a_damaged_one_is_replaced_and_one_that_others_could_read_is_closed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        for damaged in [0, LENGTH - 1, LENGTH + 1, 100_000] {
            std::fs::write(&path, vec![7; damaged]).unwrap();
            let made = Identity::load_or_make(&path).unwrap();
            assert_eq!(std::fs::read(&path).unwrap(), made.expose());
            assert_ne!(made.expose(), [7; LENGTH]);
            assert_eq!(mode(&path), 0o600);
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let before = std::fs::read(&path).unwrap();
        assert_eq!(Identity::load_or_make(&path).unwrap().expose(), before);
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn one_that_cannot_be_read_is_an_error_with_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity");
        std::fs::create_dir(&path).unwrap();
        let error = Identity::load_or_make(&path).unwrap_err();
        assert!(format!("{error:#}").contains("identity"), "{error:#}");
        assert!(path.is_dir());
    }
}
