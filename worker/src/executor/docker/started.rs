//! What a build has started, for the case that it is cancelled: the job has not ended before that has.

use super::buildkit;
use super::classic;

/// What runs on behalf of one job.
#[derive(Default)]
pub(super) struct Started {
    /// A build with the classic builder.
    pub(super) classic: classic::Started,
    /// A build with BuildKit, as long as it runs.
    pub(super) buildkit: Option<buildkit::Running>,
}

impl Started {
    /// After a cancel: waits until what was started has ended. Takes a few seconds at most.
    pub(super) async fn wait_until_gone(self) {
        if let Some(build) = self.buildkit {
            build.cancel().await;
        }
        self.classic.wait_until_gone().await;
    }
}
