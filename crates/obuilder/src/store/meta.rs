//! `meta.json`: the truth about a layer. Written once, before the layer appears. The one thing that changes later, when the layer was
//! last used, is the file's modification time, so that a hit costs one system call.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bstr::BString;
use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT};
use serde::{Deserialize, Serialize};

use super::layout::parse_id;
use crate::StepId;

/// What is known of a layer besides its files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerMeta {
    /// Of a base image: its environment. Empty for others, which inherit it.
    pub env: Vec<(BString, BString)>,
    /// Of a base image: where it came from and what that resolved to, such as `name` and `digest`.
    pub origin: BTreeMap<String, String>,
}

/// What never changes about a layer, as it is kept in memory.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) id: StepId,
    pub(super) parent: Option<StepId>,
    /// Layers are numbered in the order in which they were made.
    pub(super) seq: u64,
    pub(super) created: Timestamp,
    pub(super) meta: LayerMeta,
    /// The environment of the base image below, or its own.
    pub(super) base_env: Arc<[(BString, BString)]>,
}

/// The file's content.
#[derive(Serialize, Deserialize)]
struct Saved {
    id: String,
    parent: Option<String>,
    seq: u64,
    created: String,
    /// Which run of the machine it was written in.
    boot: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    env: Vec<(Text, Text)>,
    /// Left out where it is `env`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base_env: Option<Vec<(Text, Text)>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    origin: BTreeMap<String, String>,
}

/// Bytes that are mostly text: a string where they are, numbers where not.
struct Text(BString);

/// What a file told.
pub(super) struct Loaded {
    pub(super) facts: Facts,
    pub(super) used: Timestamp,
    pub(super) boot: String,
}

impl Facts {
    /// Writes the file, which does not exist.
    pub(super) fn write(&self, path: &Path, boot: &str) -> io::Result<()> {
        let inherited = *self.base_env != *self.meta.env;
        let saved = Saved {
            id: self.id.to_string(),
            parent: self.parent.map(|id| id.to_string()),
            seq: self.seq,
            created: self.created.to_string(),
            boot: boot.to_owned(),
            env: texts(&self.meta.env),
            base_env: inherited.then(|| texts(&self.base_env)),
            origin: self.meta.origin.clone(),
        };
        let mut bytes = serde_json::to_vec(&saved)?;
        bytes.push(b'\n');
        let mut file = File::create_new(path)?;
        file.write_all(&bytes)?;
        file.set_modified(self.created.into())
    }

    /// Reads the file of the layer `id`. One that is half there, or another's, is an error.
    pub(super) fn read(path: &Path, id: StepId) -> io::Result<Loaded> {
        // A handful of variables: whoever has more than this was not written by us.
        const LONGEST: u64 = 16 << 20;
        let file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() || about.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let saved: Saved = serde_json::from_reader(io::BufReader::new(&file))?;
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        if saved.id != id.to_string() {
            return Err(invalid());
        }
        let parent = match saved.parent {
            Some(name) => Some(parse_id(&name).ok_or_else(invalid)?),
            None => None,
        };
        let created = saved.created.parse().map_err(|_| invalid())?;
        let env = bytes(saved.env);
        let base_env = saved
            .base_env
            .map_or_else(|| env.clone().into(), |texts| bytes(texts).into());
        Ok(Loaded {
            facts: Facts {
                id,
                parent,
                seq: saved.seq,
                created,
                meta: LayerMeta {
                    env,
                    origin: saved.origin,
                },
                base_env,
            },
            used: timestamp(about.modified()?).unwrap_or(created),
            boot: saved.boot,
        })
    }
}

/// Remembers in the file that its layer was used.
pub(super) fn touch(path: &Path, used: Timestamp) -> io::Result<()> {
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: used.as_second(),
            tv_nsec: used.subsec_nanosecond().into(),
        },
    };
    Ok(rustix::fs::utimensat(
        CWD,
        path,
        &times,
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

/// Which run of the machine this is. What was written in this run is as it was written; what was written in an earlier one and never
/// brought to the disk may not be.
pub(super) fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

fn timestamp(time: SystemTime) -> Option<Timestamp> {
    Timestamp::try_from(time).ok()
}

fn texts(env: &[(BString, BString)]) -> Vec<(Text, Text)> {
    env.iter()
        .map(|(name, value)| (Text(name.clone()), Text(value.clone())))
        .collect()
}

fn bytes(env: Vec<(Text, Text)>) -> Vec<(BString, BString)> {
    env.into_iter()
        .map(|(name, value)| (name.0, value.0))
        .collect()
}

impl Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.serialize_bytes(&self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        BString::deserialize(deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            id: StepId::from_bytes([7; 32]),
            parent: Some(StepId::from_bytes([6; 32])),
            seq: 12,
            created: "2026-01-02T03:04:05.678901234Z".parse().unwrap(),
            meta: LayerMeta {
                env: vec![
                    ("PATH".into(), "/bin\n\"".into()),
                    ("X".into(), b"\xff\xfe"[..].into()),
                ],
                origin: BTreeMap::from([("name".into(), "busybox".into())]),
            },
            base_env: Arc::from([("A".into(), "b".into())]),
        }
    }

    #[test]
    fn what_is_written_is_read_bytes_that_are_no_text_too() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(super::super::layout::META);
        let facts = facts();
        facts.write(&path, "this run").unwrap();
        let used = "2026-05-05T05:05:05.000000123Z".parse().unwrap();
        touch(&path, used).unwrap();
        let loaded = Facts::read(&path, facts.id).unwrap();
        assert_eq!(format!("{:?}", loaded.facts), format!("{facts:?}"));
        assert_eq!(loaded.used, used);
        assert_eq!(loaded.boot, "this run");
    }

    #[test]
    fn a_file_that_is_half_there_or_anothers_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(super::super::layout::META);
        let facts = facts();
        facts.write(&path, "").unwrap();
        assert!(Facts::read(&path, StepId::from_bytes([8; 32])).is_err());
        let whole = std::fs::read(&path).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 2] {
            std::fs::write(&path, &whole[..length]).unwrap();
            assert!(Facts::read(&path, facts.id).is_err(), "{length}");
        }
        std::fs::write(&path, vec![0; whole.len()]).unwrap();
        assert!(Facts::read(&path, facts.id).is_err());
    }
}
