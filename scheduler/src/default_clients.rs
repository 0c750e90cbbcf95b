//! `--default-clients`: clients that exist from the first start on, each with a `.cap` file.

use std::path::Path;

use anyhow::Context as _;
use ocluster_scheduling::ClientId;
use tracing::{info, warn};

use crate::rpc::ClientAccess;
use crate::state::Scheduler;

/// Makes sure that each client exists and that its `.cap` file does.
///
/// A client whose file was lost gets a new secret and a new file; its old secret stays valid, because somebody may be using it.
///
/// # Errors
/// If a secret cannot be made or written.
pub(crate) async fn ensure(
    scheduler: &Scheduler,
    access: &ClientAccess,
    secrets_dir: &Path,
    names: &[String],
) -> anyhow::Result<()> {
    for name in names {
        let file = secrets_dir.join(format!("submit-{name}.cap"));
        if file
            .try_exists()
            .with_context(|| format!("cannot look for {}", file.display()))?
        {
            continue;
        }
        let client = ClientId::from(name.as_str());
        if scheduler.clients().is_registered(&client) {
            warn!(
                "Client \"{client}\" is registered, but \"{}\" is missing: adding a new secret. The old one stays valid; \
                 if it may have been stolen, remove and add the client",
                file.display()
            );
        }
        let id = access.grant(&client).await?;
        access.sturdy_ref(&id).save(&file)?;
        info!("Wrote capability reference to \"{}\"", file.display());
    }
    Ok(())
}
