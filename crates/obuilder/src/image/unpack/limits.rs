//! What a layer may be at most, and what it has to be.

/// Bounds of one layer. What goes beyond them is refused, whatever the digests say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Bytes of the tar, once it is decompressed.
    pub bytes: u64,
    /// Entries of the tar.
    pub entries: u64,
    /// Bytes of the names of its directories, all together: they are kept until the end, for the sake of their times.
    pub directory_names: u64,
}

impl Default for UnpackLimits {
    /// 64 GiB, 4 million entries, 256 MiB of directories' names.
    fn default() -> Self {
        Self {
            bytes: 64 << 30,
            entries: 4_000_000,
            directory_names: 256 << 20,
        }
    }
}

/// The digests that a layer must have. What is not given is not compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// The SHA-256 of the bytes as they are.
    pub digest: Option<[u8; 32]>,
    /// The SHA-256 of the tar within.
    pub diff_id: Option<[u8; 32]>,
}

/// How to unpack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unpack {
    /// What must come out.
    pub expected: Expected,
    /// What is too much.
    pub limits: UnpackLimits,
    /// Whether names that start with `.wh.` remove something, as in layers, or are names like any other.
    pub whiteouts: bool,
}

impl Default for Unpack {
    fn default() -> Self {
        Self {
            expected: Expected::default(),
            limits: UnpackLimits::default(),
            whiteouts: true,
        }
    }
}
