//! Waiting until it is known what a capability leads to, as OCaml's programs do before they go on.

use capnp::capability::Client;

/// Waits until a capability is settled: no promise any more, but an object or an error. A cap that its connection took with it is
/// settled, too. Cancel safe.
///
/// It must have come in an answer: one that was only pipelined on an answer to come, as a fresh bootstrap is, may never settle.
///
/// capnp-rpc's own `when_resolved` never returns for a promise of a peer that had been resolved before the call, which happens
/// whenever the answer and its `Resolve` arrive together.
///
/// # Errors
/// What the capability is broken with, if that shows by itself. A capability for which this succeeds may be broken all the same:
/// then calls on it fail.
pub async fn settled(capability: &Client) -> capnp::Result<()> {
    let mut hook = capability.hook.add_ref();
    loop {
        if let Some(further) = hook.get_resolved() {
            hook = further;
        } else {
            match hook.when_more_resolved() {
                Some(more) => hook = more.await?,
                None => return Ok(()),
            }
        }
    }
}
