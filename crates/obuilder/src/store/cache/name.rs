//! What the directory of a cache is called. Names come from specs: no name may lead out of the directory of caches, and no two names
//! may share one.

use std::fmt::Write as _;

use bstr::BStr;
use sha2::{Digest, Sha256};

/// The longest directory name that is the cache's own, in bytes; longer ones are cut and told apart by their digest.
const LONGEST: usize = 200;

/// How much of a name that is cut is kept for people to recognise, in bytes.
const RECOGNISABLE: usize = 100;

/// The name's directory: `c-`, then ASCII letters, digits, `.`, `_` and `-` as they are, and every other byte as `%` and its
/// hexadecimal digits without padding, as OBuilder writes them. Where that is too long, or a byte has one digit only (`%ab` would be one
/// byte or two), it is cut, and `%-` and the name's SHA-256 follow.
pub(super) fn directory_name(name: &BStr) -> String {
    let mut escaped = String::from("c-");
    for byte in name.iter() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-') {
            escaped.push(char::from(*byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(escaped, "%{byte:x}");
        }
    }
    if escaped.len() > LONGEST || name.iter().any(|byte| *byte < 0x10) {
        escaped.truncate(RECOGNISABLE);
        let digest = Sha256::digest(name);
        let _ = write!(escaped, "%-{digest:x}");
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn of(name: impl AsRef<[u8]>) -> String {
        directory_name(BStr::new(name.as_ref()))
    }

    #[test]
    fn names_are_escaped_as_obuilder_does() {
        for (name, escaped) in [
            ("ok", "c-ok"),
            ("", "c-"),
            ("123", "c-123"),
            ("a/1", "c-a%2f1"),
            (".", "c-."),
            ("..", "c-.."),
            ("%20", "c-%2520"),
            ("foo:bar", "c-foo%3abar"),
            ("../result/evil", "c-..%2fresult%2fevil"),
            ("Az09._-", "c-Az09._-"),
            ("\u{e9} ", "c-%c3%a9%20"),
        ] {
            assert_eq!(of(name), escaped);
        }
    }

    #[test]
    fn every_name_is_one_directory_of_its_own() {
        let mut names: Vec<Vec<u8>> = (0..=255_u8).map(|byte| vec![byte]).collect();
        names.extend((0..=255_u8).map(|byte| vec![byte, b'b']));
        for length in [196, 197, 198, 199, 200, 255, 256, 5000] {
            names.push(vec![b'a'; length]);
            names.push(vec![b'/'; length]);
            names.push([vec![b'a'; length], vec![b'b']].concat());
        }
        names.push(b"\n\xab".to_vec());
        names.push(b"c-x".to_vec());
        let names: BTreeSet<Vec<u8>> = names.into_iter().collect();
        let directories: BTreeSet<String> = names.iter().map(of).collect();
        assert_eq!(directories.len(), names.len());
        for directory in directories {
            assert!(directory.starts_with("c-") && directory.len() <= LONGEST);
            assert!(!directory.contains(['/', '\0']), "{directory}");
        }
    }
}
