//! Where everything is within a store's directory.

use std::path::{Path, PathBuf};

use crate::StepId;

/// The paths of one store.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    root: PathBuf,
}

/// What is kept of a layer besides its tree.
pub(super) const META: &str = "meta.json";
/// A layer's tree, or what is different from its parent's.
pub(super) const FS: &str = "fs";
/// What the layer's step printed.
pub(super) const LOG: &str = "log";
/// The layer's tree as a whole, for those whose chain is long.
pub(super) const FLAT: &str = "flat";

impl Layout {
    /// Of the store in `root`, which is absolute and has no symbolic links.
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Held while the store is open.
    pub(super) fn lock(&self) -> PathBuf {
        self.root.join("lock")
    }

    /// Which kind of store this is.
    pub(super) fn format(&self) -> PathBuf {
        self.root.join("format")
    }

    /// Which layers are certainly on the disk.
    pub(super) fn synced(&self) -> PathBuf {
        self.root.join("synced")
    }

    pub(super) fn layers(&self) -> PathBuf {
        self.root.join("layers")
    }

    pub(super) fn layer(&self, id: StepId) -> PathBuf {
        self.layers().join(id.to_string())
    }

    pub(super) fn caches(&self) -> PathBuf {
        self.root.join("caches")
    }

    pub(super) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("state")
    }

    /// Mount points of drafts, and of layers that are read.
    pub(super) fn mounts(&self) -> PathBuf {
        self.root.join("mnt")
    }

    /// Short names of the layers' trees, so that hundreds of them fit into one page of mount options.
    pub(super) fn links(&self) -> PathBuf {
        self.root.join("l")
    }

    /// The directories that every store has.
    pub(super) fn directories(&self) -> [PathBuf; 6] {
        [
            self.layers(),
            self.caches(),
            self.tmp(),
            self.state(),
            self.mounts(),
            self.links(),
        ]
    }

    /// A new place below `tmp/` for `what`; nothing is made.
    pub(super) fn stage(&self, what: &str) -> PathBuf {
        self.tmp()
            .join(format!("{what}-{:016x}", rand::random::<u64>()))
    }
}

/// The short name of the layer with this number.
pub(super) fn link_name(seq: u64) -> String {
    const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    let mut name = String::new();
    let mut rest = seq;
    loop {
        let digit = usize::try_from(rest % 36).ok().and_then(|n| DIGITS.get(n));
        name.insert(0, digit.copied().map_or('0', char::from));
        rest /= 36;
        if rest == 0 {
            return name;
        }
    }
}

/// The short name of its whole tree. No other short name has a capital letter.
pub(super) fn flat_link_name(seq: u64) -> String {
    format!("F{}", link_name(seq))
}

/// What a short name stands for, seen from the directory of short names.
pub(super) fn link_target(id: StepId, tree: &str) -> PathBuf {
    PathBuf::from(format!("../layers/{id}/{tree}"))
}

/// The id that a directory's name stands for: 64 hexadecimal digits, small ones.
pub(super) fn parse_id(name: &str) -> Option<StepId> {
    let digits = name.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = hex(*high)? << 4 | hex(*low)?;
    }
    Some(StepId::from_bytes(bytes))
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_as_they_are_printed() {
        let id = StepId::from_bytes(std::array::from_fn(|n| (n * 37 % 256) as u8));
        assert_eq!(parse_id(&id.to_string()), Some(id));
        assert_eq!(parse_id(&id.to_string().to_uppercase()), None);
        assert_eq!(parse_id("lost+found"), None);
        assert_eq!(parse_id(&"g".repeat(64)), None);
    }

    #[test]
    fn short_names_are_short_and_differ() {
        assert_eq!(link_name(0), "0");
        assert_eq!(link_name(35), "z");
        assert_eq!(link_name(36), "10");
        assert_eq!(link_name(36_u64.pow(4) - 1), "zzzz");
        assert_eq!(link_name(u64::MAX).len(), 13);
        assert_eq!(flat_link_name(36), "F10");
    }
}
