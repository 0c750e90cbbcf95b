//! What is mounted below a directory, as this process sees it. A store of ours mounts nothing where others see it; something else may
//! have, or an administrator.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::mount::UnmountFlags;

/// Mount points below `root`, which is absolute and has no symbolic links; those mounted last come first.
///
/// # Errors
/// There is no `/proc`.
pub(super) fn below(root: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut found = mount_points(&table)
        .filter(|at| at != root && at.starts_with(root))
        .collect::<Vec<_>>();
    found.reverse();
    Ok(found)
}

/// Takes away what is mounted below `root`; whoever still uses it keeps it until then.
///
/// # Errors
/// The kernel's.
pub(super) fn detach_below(root: &Path) -> io::Result<()> {
    for at in below(root)? {
        tracing::warn!(path = %at.display(), "unmounting what was left mounted in the store");
        match rustix::mount::unmount(&at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            // It went with what it was mounted on.
            Ok(()) | Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => (),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The fifth field of each line.
fn mount_points(table: &[u8]) -> impl Iterator<Item = PathBuf> {
    table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(|field| PathBuf::from(OsString::from_vec(unescape(field))))
}

/// Spaces and the like are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let code = match after {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if *first == b'\\' => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = after
            .get(if code.is_some() { 3 } else { 0 }..)
            .unwrap_or_default();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_read_with_their_escapes() {
        let table = b"22 1 0:21 / /proc rw - proc proc rw\n30 22 0:3 / /s/a\\040b\\134c\\011 rw shared:1 - overlay x rw\nodd\n";
        let found = mount_points(table).collect::<Vec<_>>();
        assert_eq!(
            found,
            [PathBuf::from("/proc"), PathBuf::from("/s/a b\\c\t")]
        );
        assert_eq!(unescape(b"\\04"), b"\\04");
    }
}
