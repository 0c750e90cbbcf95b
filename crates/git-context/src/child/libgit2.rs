//! The global options of libgit2, set once before anything else is done with it.
//!
//! The one place of this crate with `unsafe`: these options are plain globals of a C library.

use std::time::Duration;

use git2::{ConfigLevel, Error, opts};

/// Takes libgit2 away from the configuration of the user and the machine, so that the same commit gives the same files
/// on each worker, and makes it give up on a server that is silent for `silence_limit`.
#[expect(
    unsafe_code,
    reason = "the options are globals of libgit2 without a lock"
)]
pub(super) fn configure(silence_limit: Duration) -> Result<(), Error> {
    let millis = libc_int(silence_limit);
    // SAFETY: the process has one thread so far, and nothing has used libgit2 yet.
    unsafe {
        for level in [
            ConfigLevel::System,
            ConfigLevel::Global,
            ConfigLevel::XDG,
            ConfigLevel::ProgramData,
        ] {
            opts::set_search_path(level, "")?;
        }
        opts::set_server_connect_timeout_in_milliseconds(millis)?;
        opts::set_server_timeout_in_milliseconds(millis)?;
    }
    Ok(())
}

fn libc_int(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}
