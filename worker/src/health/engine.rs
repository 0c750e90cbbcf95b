//! The real engine's examination: does it answer a ping, say what it is, and know its own state?

use super::check::Patient;
use crate::disk_care::Host;

impl Patient for Host {
    /// More than a ping, which an engine answers that has lost its storage.
    async fn examine(&self) -> Result<(), String> {
        let docker = self.docker();
        self.ask(async move {
            docker.health().await?;
            docker.root_dir().await
        })
        .await
        .map(drop)
    }
}
