//! `install` and `remove`, by which OCluster's scheduler and worker become Windows services: refused here in OCluster's words.

use std::ffi::OsString;

use clap::Command;

use crate::args::Ended;

/// The refusal, if the first argument asks for it and the program is one that could be a service: one that runs without subcommand.
pub(crate) fn refusal(command: &Command, args: &[OsString]) -> Option<Ended> {
    if command.is_subcommand_required_set() {
        return None;
    }
    let word = args.get(1)?.to_str()?;
    matches!(word, "install" | "remove").then(|| {
        let program = command.get_name();
        Ended::Unable(format!(
            "{program}: Cannot {word} a service on non-Windows systems."
        ))
    })
}
