//! Flags of OCluster's worker that mean something elsewhere: they are known, so that whoever brings an old command line is told what
//! to leave out, and taken for nothing else.

use clap::Args;

/// Why a flag cannot be used.
const QEMU: &str = "QEMU is not offered";
const MACOS: &str = "it is for macOS";

/// What is not offered here.
#[derive(Debug, Args)]
pub(super) struct ElsewhereArgs {
    #[arg(long, hide = true, value_name = "N")]
    qemu_cpus: Option<String>,
    #[arg(long, hide = true, value_name = "GB")]
    qemu_memory: Option<String>,
    #[arg(long, hide = true, value_name = "OS")]
    qemu_guest_os: Option<String>,
    #[arg(long, hide = true, value_name = "ARCH")]
    qemu_guest_arch: Option<String>,
    #[arg(long, hide = true, value_name = "SECONDS")]
    qemu_boot_time: Option<String>,
    #[arg(long, hide = true, value_name = "UID")]
    uid: Option<String>,
    #[arg(long, hide = true, value_name = "PATH")]
    brew_path: Option<String>,
}

impl ElsewhereArgs {
    /// Refuses the first flag that was given.
    ///
    /// # Errors
    /// Which one, why, and what to do.
    pub(super) fn refuse(&self) -> Result<(), String> {
        let given = [
            ("qemu-cpus", self.qemu_cpus.is_some(), QEMU),
            ("qemu-memory", self.qemu_memory.is_some(), QEMU),
            ("qemu-guest-os", self.qemu_guest_os.is_some(), QEMU),
            ("qemu-guest-arch", self.qemu_guest_arch.is_some(), QEMU),
            ("qemu-boot-time", self.qemu_boot_time.is_some(), QEMU),
            ("uid", self.uid.is_some(), MACOS),
            ("brew-path", self.brew_path.is_some(), MACOS),
        ];
        match given.into_iter().find(|(_, given, _)| *given) {
            Some((flag, _, why)) => Err(format!(
                "option '--{flag}': {why}. Leave it out (docs/migrating.md tells more)."
            )),
            None => Ok(()),
        }
    }
}
