//! Whose fault it is when a runtime could not start a step: the step's, or the machine's. The log has the runtime's words in either case.

use bstr::ByteSlice as _;

/// Why a step was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The image or the command: a program, a directory, a target that is not what it should be. It would fail on any machine.
    Step,
    /// There is no room on the disk.
    FullDisk,
    /// Anything else.
    Machine,
}

/// What runtimes say of a full disk. The second is what a full quota gives.
const FULL: [&str; 2] = ["no space left on device", "disk quota exceeded"];

/// What runtimes say of control groups, which steps have no say in.
const MACHINE: [&str; 1] = ["cgroup configuration"];

/// What runc, crun and youki say of commands that cannot be run and places that cannot be used. A step finds a read-only file system
/// where a link of the image leads to one of the container's own.
const STEP: [&str; 17] = [
    "exec: \"",
    "exec format error",
    "executable file",
    "executable '",
    "chdir to cwd",
    "mkdir cwd",
    "set cwd",
    "not a directory",
    "is a directory",
    "file name too long",
    "read-only file system",
    "too many levels of symbolic links",
    "argument list too long",
    "cannot be mounted because",
    "must be mounted on ordinary directory",
    "outside of rootfs",
    "outside rootfs",
];

/// Who is to blame for what a runtime said before it gave up.
pub(super) fn fault(said: &[u8]) -> Fault {
    let said = said.to_str_lossy().to_lowercase().replace('\\', "");
    if FULL.iter().any(|words| said.contains(words)) {
        Fault::FullDisk
    } else if MACHINE.iter().any(|words| said.contains(words)) {
        Fault::Machine
    } else if STEP.iter().any(|words| said.contains(words)) {
        Fault::Step
    } else {
        Fault::Machine
    }
}

/// What a runtime said, without where on the machine the trees of the step are: that is nobody's business but the operator's.
pub(super) fn without_places(said: &[u8], places: &[String]) -> String {
    let mut said = said.trim().to_str_lossy().into_owned();
    for place in places.iter().filter(|place| place.len() > 1) {
        said = said.replace(place, "");
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_that_are_not_in_the_image_are_the_steps_fault() {
        for said in [
            r#"time="2026-01-01T00:00:00Z" level=error msg="runc run failed: unable to start container process: exec: \"bash\": executable file not found in $PATH""#,
            r#"time="2026-01-01T00:00:00Z" level=error msg="runc run failed: unable to start container process: exec: \"/bin/sh\": stat /bin/sh: no such file or directory""#,
            "executable file `nope` not found in $PATH: No such file or directory",
            "exec container process `/x`: Exec format error",
            r#"level=error msg="runc run failed: unable to start container process: chdir to cwd (\"/x\") set in config.json failed: not a directory""#,
            r#"level=error msg="runc run failed: unable to start container process: error during container init: error mounting \"/c\" to rootfs at \"/s/x\": mkdir /r/sys/x: read-only file system""#,
            r#"level=error msg="runc run failed: unable to start container process: error during container init: error mounting \"/c\" to rootfs at \"/a\": mkdir /r/a: file name too long""#,
            r#"level=error msg="runc run failed: unable to start container process: error during container init: error mounting \"/s\" to rootfs at \"/a\": open /r/a: is a directory""#,
        ] {
            assert_eq!(fault(said.as_bytes()), Fault::Step, "{said}");
        }
    }

    #[test]
    fn places_of_the_store_are_not_told() {
        let places = ["/store/step/rootfs".to_owned(), "/store/cache/c".to_owned()];
        assert_eq!(
            without_places(
                br#"error mounting "/store/cache/c" to rootfs at "/a": mkdir /store/step/rootfs/a: it broke"#,
                &places
            ),
            r#"error mounting "" to rootfs at "/a": mkdir /a: it broke"#
        );
    }

    #[test]
    fn a_full_disk_is_told_apart_from_other_trouble() {
        assert_eq!(
            fault(b"error mounting: open /x: No space left on device"),
            Fault::FullDisk
        );
        assert_eq!(
            fault(b"unable to apply cgroup configuration: mkdir /sys/fs/cgroup: read-only file system"),
            Fault::Machine
        );
        assert_eq!(fault(b""), Fault::Machine);
        assert_eq!(fault(b"\xff\xfe"), Fault::Machine);
    }
}
