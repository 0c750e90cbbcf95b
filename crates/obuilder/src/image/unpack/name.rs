//! Where in the tree an entry belongs.

use bstr::{BStr, BString, ByteSlice};

use super::UnpackError;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// What a filesystem of old (aufs) kept for itself starts with this.
const META: &[u8] = b".wh..wh.";
/// Longer names no filesystem has.
const LONGEST_NAME: usize = 255;
/// Longer paths the kernel refuses.
const LONGEST_PATH: usize = 4095;

/// A place in the tree: components without `.` and `..`, without a slash at either end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    path: BString,
    /// Where its last component starts.
    last: usize,
}

/// What an entry's name asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The tree's top directory.
    Root,
    /// Something there.
    Make(Place),
    /// Nothing there of the layers below.
    Remove(Place),
    /// Nothing in that directory of the layers below.
    RemoveAll(BString),
    /// Nothing of interest.
    Nothing,
}

impl Place {
    /// The place that `path` names, or `None` for the top. A slash at the start means nothing.
    pub(super) fn parse(path: &BStr) -> Result<Option<Self>, UnpackError> {
        let mut clean = BString::default();
        let mut last = 0;
        for component in path.split_str("/") {
            match component {
                b"" | b"." => continue,
                b".." => {
                    return Err(UnpackError::Refused(format!(
                        "the name \"{path}\" contains \"..\""
                    )));
                }
                _ if component.len() > LONGEST_NAME => {
                    return Err(UnpackError::Refused(format!(
                        "a name has more than {LONGEST_NAME} bytes: \"{path}\""
                    )));
                }
                _ => {}
            }
            if !clean.is_empty() {
                clean.push(b'/');
            }
            last = clean.len();
            clean.extend_from_slice(component);
        }
        if clean.len() > LONGEST_PATH {
            return Err(UnpackError::Refused(format!(
                "a path has more than {LONGEST_PATH} bytes"
            )));
        }
        Ok((!clean.is_empty()).then_some(Self { path: clean, last }))
    }

    pub(super) fn path(&self) -> &BStr {
        self.path.as_bstr()
    }

    /// The directory it is in; empty for the top.
    pub(super) fn parent(&self) -> &BStr {
        let end = self.last.saturating_sub(1);
        self.path.get(..end).unwrap_or_default().as_bstr()
    }

    pub(super) fn name(&self) -> &BStr {
        self.path.get(self.last..).unwrap_or_default().as_bstr()
    }
}

/// What an entry of this name asks for.
pub(super) fn meaning(path: &BStr, whiteouts: bool) -> Result<Meaning, UnpackError> {
    let Some(place) = Place::parse(path)? else {
        return Ok(Meaning::Root);
    };
    if !whiteouts {
        return Ok(Meaning::Make(place));
    }
    if place.name() == OPAQUE {
        return Ok(Meaning::RemoveAll(place.parent().to_owned()));
    }
    if place
        .path()
        .split_str("/")
        .any(|component| component.starts_with(META))
    {
        return Ok(Meaning::Nothing);
    }
    let Some(hidden) = place.name().strip_prefix(WHITEOUT) else {
        return Ok(Meaning::Make(place));
    };
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(UnpackError::Refused(format!(
            "\"{path}\" is to remove something that has no name"
        )));
    }
    let mut hidden_path = place.parent().to_owned();
    if !hidden_path.is_empty() {
        hidden_path.push(b'/');
    }
    let last = hidden_path.len();
    hidden_path.extend_from_slice(hidden);
    Ok(Meaning::Remove(Place {
        path: hidden_path,
        last,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(path: &str) -> Place {
        Place::parse(path.into()).unwrap().unwrap()
    }

    #[test]
    fn names_are_relative_to_the_top_however_they_are_written() {
        for same in ["a/b", "/a/b", "./a/b", "a//b", "//a/./b/", "a/b/."] {
            let place = place(same);
            assert_eq!(
                (place.parent(), place.name()),
                ("a".into(), "b".into()),
                "{same}"
            );
        }
        for top in ["", "/", ".", "./", "//."] {
            assert_eq!(meaning(top.into(), true).unwrap(), Meaning::Root, "{top}");
        }
        assert_eq!(place("a").parent(), "");
        assert_eq!(place("...").name(), "...");
    }

    #[test]
    fn dot_dot_and_endless_names_are_refused() {
        let long = "x".repeat(256);
        let deep = "x/".repeat(2500);
        for wrong in ["..", "../a", "a/../b", "/..", "a/..", &long, &deep] {
            assert!(Place::parse(wrong.into()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn whiteouts_name_what_they_remove() {
        assert_eq!(
            meaning("a/.wh.b".into(), true).unwrap(),
            Meaning::Remove(place("a/b"))
        );
        assert_eq!(
            meaning(".wh..x".into(), true).unwrap(),
            Meaning::Remove(place(".x"))
        );
        assert_eq!(
            meaning("a/.wh..wh..opq".into(), true).unwrap(),
            Meaning::RemoveAll("a".into())
        );
        assert_eq!(
            meaning(".wh..wh.plnk/1.2".into(), true).unwrap(),
            Meaning::Nothing
        );
        for wrong in [".wh.", ".wh..", ".wh...", "a/.wh..."] {
            assert!(meaning(wrong.into(), true).is_err(), "{wrong}");
        }
        assert_eq!(
            meaning(".wh.b".into(), false).unwrap(),
            Meaning::Make(place(".wh.b"))
        );
    }
}
