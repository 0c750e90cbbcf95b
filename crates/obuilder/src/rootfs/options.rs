//! What is asked of this kernel's overlayfs. Kernels refuse options that they do not know, so only those that they know are named.

use std::path::Path;
use std::sync::OnceLock;

/// Where the kernel has one file for each option that it knows a default of.
const PARAMETERS: &str = "/sys/module/overlay/parameters";

/// Options, the parameter that shows that the kernel knows them, and the first version that does. All layers of a store are made and
/// read with the same ones, whatever the machine's defaults are: what one mount writes, the next must understand.
const OPTIONS: [(&str, &str, (u32, u32)); 5] = [
    // A renamed directory of a lower layer is not copied.
    ("redirect_dir=on", "redirect_dir", (4, 10)),
    // Layers are read by other mounts than those that wrote them.
    ("index=off", "index", (4, 13)),
    ("nfs_export=off", "nfs_export", (4, 16)),
    // All layers are on one filesystem, so inode numbers need no marks.
    ("xino=off", "xino_auto", (4, 17)),
    // A changed mode must not leave a layer with half a file.
    ("metacopy=off", "metacopy", (4, 19)),
];

/// The first version that knows `volatile`.
const VOLATILE: (u32, u32) = (5, 10);

/// The options for each overlay, each with a comma before it.
pub(super) fn common() -> &'static str {
    static COMMON: OnceLock<String> = OnceLock::new();
    COMMON.get_or_init(|| {
        let version = kernel_version();
        OPTIONS
            .iter()
            .filter(|(_, parameter, since)| {
                version >= *since || Path::new(PARAMETERS).join(parameter).exists()
            })
            .flat_map(|(option, ..)| [",", option])
            .collect()
    })
}

/// Whether an overlay can be told not to write anything through to the disk at its end. A step's tree is of no use after the machine
/// crashed, so waiting for the whole disk at the end of each step would be for nothing.
pub(super) fn has_volatile() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| kernel_version() >= VOLATILE)
}

fn kernel_version() -> (u32, u32) {
    // Where even this cannot be read, only what the parameters tell is used.
    parse_version(&std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
}

/// The first two numbers of a version; zeros where there are none.
fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_kernels_are_understood() {
        assert_eq!(parse_version("6.1.0-18-amd64"), (6, 1));
        assert_eq!(parse_version("4.18.0-553.el8_10.x86_64"), (4, 18));
        assert_eq!(parse_version("7"), (7, 0));
        assert_eq!(parse_version("strange"), (0, 0));
    }

    #[test]
    fn directories_are_always_redirected() {
        assert!(common().contains(",redirect_dir=on"));
        assert!(common().contains(",metacopy=off"));
    }
}
