//! Who the user of a step is, in numbers: names are looked up in the image, as its own programs would. Links in the image are followed
//! inside the image and never out of it, and nothing in it is believed to be small.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;

use bstr::{BStr, BString, ByteSlice as _};
use ocluster_obuilder_spec::User;
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use crate::{MountError, Rootfs};

/// The most that is read of an image's list of users, in bytes. Beyond it nobody is found.
const MOST: u64 = 16 << 20;

/// Nobody knows who a step's user is.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// A number that no user has.
    #[error("{kind} {number} cannot be: user and group ids go from 0 to 4294967294")]
    Number {
        /// `uid` or `gid`.
        kind: &'static str,
        /// What was asked for.
        number: i64,
    },
    /// The image has no such user.
    #[error(
        "the image's /etc/passwd has no user {0:?}; name one of its users, or give numbers: (user (uid 1000) (gid 1000))"
    )]
    NoUser(BString),
    /// The image has no such group.
    #[error(
        "the image's /etc/group has no group {0:?}; name one of its groups, or give numbers: (user (uid 1000) (gid 1000))"
    )]
    NoGroup(BString),
    /// The image has no list of users, or one that cannot be read.
    #[error(
        "cannot look up {name:?} in the image: {file}: {source}; give numbers instead: (user (uid 1000) (gid 1000))"
    )]
    List {
        /// Who was looked up.
        name: BString,
        /// Where.
        file: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The image cannot be seen.
    #[error(transparent)]
    Mount(#[from] MountError),
}

/// The uid and gid of `user` in the image `rootfs`. A name may be a number, and a group may follow after a colon, as in Docker: without
/// one, the group is that of the image's list, or 0 for a number that is not in it.
///
/// # Errors
/// Numbers out of range, names that the image does not know, an image without a list or that cannot be seen.
pub async fn resolve(user: &User, rootfs: &Rootfs) -> Result<(u32, u32), UserError> {
    match user {
        User::Unix { uid, gid } => Ok((number("uid", *uid)?, number("gid", *gid)?)),
        User::Named(name) => {
            let name = name.clone();
            rootfs.with(move |root| named(name.as_bstr(), root)).await?
        }
    }
}

fn number(kind: &'static str, number: i64) -> Result<u32, UserError> {
    u32::try_from(number)
        .ok()
        .filter(|id| *id != u32::MAX)
        .ok_or(UserError::Number { kind, number })
}

fn named(name: &BStr, root: &Path) -> Result<(u32, u32), UserError> {
    let (user, group) = match name.split_once_str(":") {
        Some((user, group)) => (user.as_bstr(), Some(group.as_bstr())),
        None => (name, None),
    };
    let by_number = id(user);
    let list = read(root, "etc/passwd").map_err(|source| (source, "/etc/passwd"));
    let found = match &list {
        Ok(list) => find_user(list, user, by_number),
        Err(_) => None,
    };
    let (uid, own_group) = match (found, by_number, list) {
        (Some(ids), ..) => ids,
        (None, Some(uid), _) => (uid, 0),
        (None, None, Ok(_)) => return Err(UserError::NoUser(user.into())),
        (None, None, Err((source, file))) => {
            let name = user.into();
            return Err(UserError::List { name, file, source });
        }
    };
    let Some(group) = group else {
        return Ok((uid, own_group));
    };
    let by_number = id(group);
    match read(root, "etc/group") {
        Ok(list) => find_group(&list, group)
            .or(by_number)
            .ok_or_else(|| UserError::NoGroup(group.into())),
        Err(source) => by_number.ok_or_else(|| UserError::List {
            name: group.into(),
            file: "/etc/group",
            source,
        }),
    }
    .map(|gid| (uid, gid))
}

/// `NAME:PASSWORD:UID:GID:...`, by name, or else by number.
fn find_user(list: &[u8], name: &BStr, number: Option<u32>) -> Option<(u32, u32)> {
    let mut same_number = None;
    for line in list.lines() {
        let mut fields = line.split_str(":");
        let (Some(entry), Some(_), Some(uid), Some(gid)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (Some(uid), Some(gid)) = (id(uid.as_bstr()), id(gid.as_bstr())) else {
            continue;
        };
        if entry == &**name {
            return Some((uid, gid));
        }
        if Some(uid) == number && same_number.is_none() {
            same_number = Some((uid, gid));
        }
    }
    same_number
}

/// `NAME:PASSWORD:GID:...`.
fn find_group(list: &[u8], name: &BStr) -> Option<u32> {
    list.lines().find_map(|line| {
        let mut fields = line.split_str(":");
        let (entry, _, gid) = (fields.next()?, fields.next()?, fields.next()?);
        (entry == &**name).then(|| id(gid.as_bstr())).flatten()
    })
}

fn id(text: &BStr) -> Option<u32> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let number: u32 = text.to_str().ok().filter(|_| digits)?.parse().ok()?;
    (number != u32::MAX).then_some(number)
}

fn read(root: &Path, file: &str) -> io::Result<Vec<u8>> {
    let root = openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    // Not opened yet, only held: steps can make devices, and opening one of the machine's can do anything.
    let held = openat2(
        root,
        file,
        OFlags::PATH | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS,
    )?;
    if FileType::from_raw_mode(fstat(&held)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::other("it is not a regular file"));
    }
    let file = File::open(format!("/proc/self/fd/{}", held.as_raw_fd()))?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn image(passwd: &str, group: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        fs::write(root.path().join("etc/group"), group).unwrap();
        root
    }

    fn look_up(name: &str, root: &Path) -> Result<(u32, u32), String> {
        named(name.into(), root).map_err(|error| error.to_string())
    }

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nopam:x:1000:1001:,,,:/home/opam:/bin/bash\n7:x:70:71::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:opam\n";

    #[test]
    fn names_are_those_of_the_image() {
        let root = image(PASSWD, GROUP);
        assert_eq!(look_up("opam", root.path()), Ok((1000, 1001)));
        assert_eq!(look_up("opam:wheel", root.path()), Ok((1000, 10)));
        assert_eq!(look_up("opam:55", root.path()), Ok((1000, 55)));
    }

    #[test]
    fn a_name_may_be_a_number() {
        let root = image(PASSWD, GROUP);
        assert_eq!(look_up("1000", root.path()), Ok((1000, 1001)));
        assert_eq!(look_up("4242", root.path()), Ok((4242, 0)));
        assert_eq!(look_up("4242:wheel", root.path()), Ok((4242, 10)));
        // A user may have a number for a name.
        assert_eq!(look_up("7", root.path()), Ok((70, 71)));
    }

    #[test]
    fn unknown_names_are_named() {
        let root = image(PASSWD, GROUP);
        let error = look_up("nobody", root.path()).unwrap_err();
        assert!(error.contains("no user \"nobody\""), "{error}");
        let error = look_up("opam:staff", root.path()).unwrap_err();
        assert!(error.contains("no group \"staff\""), "{error}");
        assert!(look_up("", root.path()).is_err());
        assert!(look_up("-1", root.path()).is_err());
        assert!(look_up("4294967295", root.path()).is_err());
    }

    #[test]
    fn an_image_without_users_says_so_and_takes_numbers() {
        let root = tempfile::tempdir().unwrap();
        let error = look_up("opam", root.path()).unwrap_err();
        assert!(error.contains("/etc/passwd: No such file"), "{error}");
        assert_eq!(look_up("1000:1000", root.path()), Ok((1000, 1000)));
        let error = look_up("1000:wheel", root.path()).unwrap_err();
        assert!(error.contains("/etc/group: No such file"), "{error}");
    }

    #[test]
    fn links_stay_in_the_image() {
        let root = image(PASSWD, GROUP);
        let passwd = root.path().join("etc/passwd");
        fs::write(root.path().join("users"), "inside:x:5:6::/:/bin/sh\n").unwrap();
        for target in ["/users", "../users", "../../../../../../users"] {
            fs::remove_file(&passwd).unwrap();
            symlink(target, &passwd).unwrap();
            assert_eq!(look_up("inside", root.path()), Ok((5, 6)), "{target}");
        }
        // The machine has root; the image has no such file.
        fs::remove_file(&passwd).unwrap();
        symlink("/etc/../../etc/passwd-of-the-machine", &passwd).unwrap();
        assert!(look_up("root", root.path()).is_err());
    }

    #[test]
    fn a_pipe_for_a_list_keeps_nobody_waiting() {
        let root = image(PASSWD, GROUP);
        let passwd = root.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        rustix::fs::mkfifoat(CWD, &passwd, Mode::RWXU).unwrap();
        let error = look_up("opam", root.path()).unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[test]
    fn a_device_for_a_list_is_not_opened() {
        let root = image(PASSWD, GROUP);
        let passwd = root.path().join("etc/passwd");
        fs::remove_file(&passwd).unwrap();
        // Nobody has this one: to open it is an error of another kind.
        let device = rustix::fs::makedev(240, 7);
        rustix::fs::mknodat(CWD, &passwd, FileType::CharacterDevice, Mode::RWXU, device)
            .expect("only root can make devices, and this test must");
        let error = look_up("opam", root.path()).unwrap_err();
        assert!(error.contains("not a regular file"), "{error}");
    }

    #[tokio::test]
    async fn numbers_are_checked() {
        let rootfs = Rootfs::Plain("/nowhere".into());
        let unix = |uid, gid| User::Unix { uid, gid };
        assert_eq!(
            resolve(&unix(1000, 2000), &rootfs).await.unwrap(),
            (1000, 2000)
        );
        for (user, text) in [
            (unix(-1, 0), "uid -1 cannot be"),
            (unix(0, 1 << 32), "gid 4294967296 cannot be"),
            (unix(4_294_967_295, 0), "uid 4294967295 cannot be"),
        ] {
            let error = resolve(&user, &rootfs).await.unwrap_err().to_string();
            assert!(error.starts_with(text), "{error}");
        }
    }
}
