//! When the worker prunes Docker, and what it may remove then.

use clap::Args;

use crate::disk_care::{DiskLimit, FreePercent, ImagesSize, PruneScope};

#[derive(Clone, Debug, Args)]
pub(super) struct DiskArgs {
    /// Prune Docker when less than this share of the space or of the inodes below its root directory is free: 0 to 100.
    #[arg(long, value_name = "PCT")]
    prune_threshold: Option<FreePercent>,

    /// Prune Docker when its images take more than this many GB. Not used with --prune-threshold.
    #[arg(long, value_name = "GB")]
    docker_max_df_size: Option<ImagesSize>,

    /// What a prune may remove: "own" images that workers have built, and build cache; "all" also what others have left, if that was
    /// not enough.
    #[arg(long, value_name = "WHAT", default_value_t = PruneScope::All)]
    prune_scope: PruneScope,
}

impl DiskArgs {
    /// When to prune, if ever: the threshold comes before the size of images.
    pub(super) fn limit(&self) -> Option<DiskLimit> {
        match (self.prune_threshold, self.docker_max_df_size) {
            (Some(free), _) => Some(DiskLimit::Free(free)),
            (None, size) => size.map(DiskLimit::Images),
        }
    }

    /// What to prune.
    pub(super) fn scope(&self) -> PruneScope {
        self.prune_scope
    }
}
