//! Which store a command is about.

use clap::Args;
use ocluster_cli::Failure;
use ocluster_obuilder::store::{Location, RsyncMode};

use super::PROGRAM;

/// Which store.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Store")]
pub(crate) struct StoreArgs {
    /// Where results are kept: overlayfs:/path, btrfs:/path, xfs:/path or rsync:/path, or just /path.
    #[arg(long, value_name = "STORE")]
    store: Location,
    /// How an rsync store keeps files that a step did not change: "copy", "hardlink", or "hardlink_unsafe" (which trusts sizes and times).
    #[arg(long, value_name = "MODE")]
    rsync_mode: Option<RsyncMode>,
}

impl StoreArgs {
    /// Which store is meant.
    ///
    /// # Errors
    /// The mode and the kind of store do not go together.
    pub(crate) fn location(&self) -> Result<Location, Failure> {
        let location = self.store.clone().with_rsync_mode(self.rsync_mode);
        location.map_err(|error| Failure::usage(PROGRAM, error.to_string()))
    }
}
