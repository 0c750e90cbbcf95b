//! `--default-clients`: clients that exist from the first start on, each with a `.cap` file.

use std::path::Path;

use anyhow::Context as _;
use ocluster_cli::logging::APPLICATION;
use ocluster_scheduling::ClientId;
use ocluster_vat::SturdyRef;
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
        let client = ClientId::from(name.as_str());
        let file = secrets_dir.join(format!("submit-{name}.cap"));
        if file
            .try_exists()
            .with_context(|| format!("cannot look for {}", file.display()))?
        {
            check(scheduler, &client, &file);
            continue;
        }
        if scheduler.clients().is_registered(&client) {
            warn!(
                "Client \"{client}\" is registered, but \"{}\" is missing: adding a new secret. The old one stays valid; \
                 if it may have been stolen, remove and add the client",
                file.display()
            );
        }
        let id = access.grant(&client).await?;
        access.sturdy_ref(&id).save(&file)?;
        info!(target: APPLICATION, "Wrote capability reference to \"{}\"", file.display());
    }
    Ok(())
}

/// Says so if the file does not give the client access: it is from another key or state directory, or the client was removed.
fn check(scheduler: &Scheduler, client: &ClientId, file: &Path) {
    let owner = SturdyRef::load(file)
        .ok()
        .and_then(|sturdy_ref| scheduler.clients().owner(&sturdy_ref.id.hash()));
    if owner.as_ref() != Some(client) {
        warn!(
            "\"{}\" gives no access: remove it to have a new one made for client \"{client}\"",
            file.display()
        );
    }
}
