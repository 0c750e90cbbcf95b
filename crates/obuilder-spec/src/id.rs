//! Ids of steps: what makes two steps the same. Byte for byte OBuilder's, so that they agree between workers of both kinds:
//! not a byte of what is hashed here may ever change.

use std::fmt;
use std::slice;
use std::str::FromStr;

use bstr::BString;
use sha2::{Digest as _, Sha256};

use crate::User;
use crate::sexp::{Mach, Sink};

/// What identifies a step and its result: a SHA-256 over everything that the step depends on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId([u8; 32]);

/// What is not the id of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the id of a step: expected 64 digits of 0-9 and a-f")]
pub struct InvalidStepId;

/// What a `run` depends on. Caches are not among it; values of secrets are.
#[derive(Clone)]
pub struct RunKey<'a> {
    /// The step before.
    pub base: StepId,
    /// The working directory.
    pub workdir: &'a BString,
    /// Who runs it.
    pub user: &'a User,
    /// The environment, newest entry first.
    pub env: &'a [(BString, BString)],
    /// The command.
    pub command: &'a BString,
    /// The shell.
    pub shell: &'a [BString],
    /// The networks.
    pub network: &'a [BString],
    /// Value and target of each secret, in reverse order of the spec's.
    pub secrets: &'a [(BString, BString)],
}

/// What a `copy` depends on.
#[derive(Clone, Debug)]
pub struct CopyKey<'a> {
    /// The step before.
    pub base: StepId,
    /// Who will own the files.
    pub user: &'a User,
    /// What is copied.
    pub items: &'a [Manifest],
    /// The destination, joined to the working directory and otherwise as written.
    pub dst: &'a BString,
    /// Whether the destination is a directory to copy into (it ends with a slash), or the one item itself.
    pub into_directory: bool,
}

/// What there is to copy, by content.
///
/// Whoever makes one bounds how deep directories nest: dropping it takes stack for each level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifest {
    /// A regular file.
    File {
        /// Relative to the source's root.
        path: BString,
        /// Of its content.
        sha256: [u8; 32],
        /// Whether anybody may execute it. An extension to OBuilder's ids: a file without this has the same id there.
        executable: bool,
    },
    /// A symbolic link, never followed.
    Symlink {
        /// Relative to the source's root.
        path: BString,
        /// What it holds.
        target: BString,
    },
    /// A directory.
    Dir {
        /// Relative to the source's root; empty for the root itself.
        path: BString,
        /// Sorted by the bytes of their paths.
        entries: Vec<Manifest>,
    },
}

impl StepId {
    /// The id with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Of `from`: the SHA-256 of the base image's name as written.
    #[must_use]
    pub fn of_base(name: &[u8]) -> Self {
        Self(Sha256::digest(name).into())
    }

    /// The SHA-256 of what is written by the function.
    fn of_text(write: impl FnOnce(&mut Mach<Sha256>)) -> Self {
        let mut text = Mach::new(Sha256::new());
        write(&mut text);
        Self(text.finish().finalize().into())
    }
}

impl RunKey<'_> {
    /// The step's id.
    #[must_use]
    pub fn id(&self) -> StepId {
        StepId::of_text(|text| self.write(text))
    }

    fn write<S: Sink>(&self, text: &mut Mach<S>) {
        text.open().pair(b"base", self.base.to_string().as_bytes());
        text.pair(b"workdir", self.workdir);
        write_user(text, self.user);
        text.open().atom(b"env").open();
        for (name, value) in self.env {
            text.pair(name, value);
        }
        text.close().close();
        text.pair(b"cmd", self.command);
        text.named_list(b"shell", self.shell);
        text.named_list(b"network", self.network);
        text.open().atom(b"mount_secrets").open();
        for (value, target) in self.secrets {
            text.open().pair(b"value", value);
            text.pair(b"target", target).close();
        }
        text.close().close().close();
    }
}

impl CopyKey<'_> {
    /// The step's id.
    #[must_use]
    pub fn id(&self) -> StepId {
        StepId::of_text(|text| self.write(text))
    }

    /// Without `into_directory` there is one item; any others are hashed all the same, so that no two keys share an id.
    fn write<S: Sink>(&self, text: &mut Mach<S>) {
        text.open().pair(b"base", self.base.to_string().as_bytes());
        write_user(text, self.user);
        text.open().atom(b"op").open();
        if self.into_directory {
            text.atom(b"Copy_items").open().open();
            write_manifests(text, self.items);
            text.close();
        } else {
            text.atom(b"Copy_item").open();
            write_manifests(text, self.items);
        }
        text.atom(self.dst).close().close().close().close();
    }
}

impl Manifest {
    /// As it stands in the text that ids are made of.
    #[must_use]
    pub fn to_mach(&self) -> BString {
        let mut text = Mach::new(BString::default());
        write_manifests(&mut text, slice::from_ref(self));
        text.finish()
    }
}

fn write_user<S: Sink>(text: &mut Mach<S>, user: &User) {
    text.open().atom(b"user").open();
    match user {
        User::Unix { uid, gid } => {
            text.pair(b"uid", uid.to_string().as_bytes());
            text.pair(b"gid", gid.to_string().as_bytes());
        }
        User::Named(name) => {
            text.pair(b"name", name);
        }
    }
    text.close().close();
}

/// Keeps its own stack, as directories may be nested deeper than ours is.
fn write_manifests<S: Sink>(text: &mut Mach<S>, manifests: &[Manifest]) {
    let mut directories = vec![manifests.iter()];
    while let Some(entries) = directories.last_mut() {
        match entries.next() {
            Some(Manifest::File {
                path,
                sha256,
                executable,
            }) => {
                text.open().atom(b"File").open().atom(path);
                text.atom(StepId(*sha256).to_string().as_bytes());
                if *executable {
                    text.atom(b"x");
                }
                text.close().close();
            }
            Some(Manifest::Symlink { path, target }) => {
                text.open().atom(b"Symlink").pair(path, target).close();
            }
            Some(Manifest::Dir { path, entries }) => {
                text.open().atom(b"Dir").open().atom(path).open();
                directories.push(entries.iter());
            }
            None => {
                directories.pop();
                if !directories.is_empty() {
                    text.close().close().close();
                }
            }
        }
    }
}

impl FromStr for StepId {
    type Err = InvalidStepId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |byte: u8| match byte {
            b'0'..=b'9' => Ok(byte - b'0'),
            b'a'..=b'f' => Ok(byte - b'a' + 10),
            _ => Err(InvalidStepId),
        };
        let digits: &[u8; 64] = text.as_bytes().try_into().map_err(|_| InvalidStepId)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else {
                return Err(InvalidStepId);
            };
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUSYBOX: &str = "9d75f0d7c398df565d7ac04c6819b62d6d8f9560f5eb4672596ecd8f7e96ae91";

    fn root() -> User {
        User::Unix { uid: 0, gid: 0 }
    }

    #[test]
    fn the_id_of_busybox_is_the_one_in_upstreams_notes() {
        assert_eq!(StepId::of_base(b"busybox").to_string(), BUSYBOX);
    }

    #[test]
    fn the_id_of_the_health_check_is_the_one_in_upstreams_notes() {
        let key = RunKey {
            base: StepId::of_base(b"busybox"),
            workdir: &"/".into(),
            user: &root(),
            env: &[],
            command: &"echo healthcheck".into(),
            shell: &["/bin/sh".into(), "-c".into()],
            network: &[],
            secrets: &[],
        };
        assert_eq!(
            key.id().to_string(),
            "522fb2a0e81ba278bc1ae7314bd754201505e6493f4f2f40a166c416624a4005"
        );
    }

    #[test]
    fn an_id_is_read_back_from_its_text() {
        let id: StepId = BUSYBOX.parse().unwrap();
        assert_eq!(id, StepId::of_base(b"busybox"));
    }

    #[test]
    fn only_64_lowercase_digits_are_an_id() {
        let upper = BUSYBOX.to_uppercase();
        let long = format!("{BUSYBOX}0");
        let not_hex = BUSYBOX.replace('9', "g");
        let wide = format!("{}\u{e9}", &BUSYBOX[..62]);
        for text in ["", &BUSYBOX[1..], &long, &upper, &not_hex, &wide] {
            assert_eq!(text.parse::<StepId>(), Err(InvalidStepId), "{text:?}");
        }
    }

    #[test]
    fn only_an_executable_file_is_printed_otherwise_than_upstream_does() {
        let file = |executable| Manifest::File {
            path: "a b".into(),
            sha256: [0xab; 32],
            executable,
        };
        let digest = "ab".repeat(32);
        assert_eq!(
            file(false).to_mach(),
            format!("(File(\"a b\"{digest}))").as_str()
        );
        assert_eq!(
            file(true).to_mach(),
            format!("(File(\"a b\"{digest} x))").as_str()
        );
    }

    #[test]
    fn making_a_file_executable_changes_the_id() {
        let id = |executable| {
            let items = [Manifest::File {
                path: "a".into(),
                sha256: [1; 32],
                executable,
            }];
            CopyKey {
                base: StepId::of_base(b"busybox"),
                user: &root(),
                items: &items,
                dst: &"/".into(),
                into_directory: true,
            }
            .id()
        };
        assert_ne!(id(true), id(false));
    }

    #[test]
    fn deep_directories_are_printed_without_deep_recursion() {
        let mut tree = Manifest::Symlink {
            path: "l".into(),
            target: "t".into(),
        };
        for _ in 0..1500 {
            tree = Manifest::Dir {
                path: "d".into(),
                entries: vec![tree],
            };
        }
        let text = tree.to_mach();
        assert_eq!(
            text.len(),
            1500 * "(Dir(d()))".len() + "(Symlink(l t))".len()
        );
    }
}
