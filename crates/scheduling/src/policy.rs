//! How a pool decides.

/// How a pool decides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// OCluster's own.
    Upstream,
    /// Ours.
    #[default]
    Balanced,
}
