//! How one atom is written: when it needs quotes, and how bytes are escaped inside them.
//!
//! Byte for byte OBuilder's (sexplib's) rules: ids depend on them, so they must never change.

use bstr::BString;

/// Whether the reader would take these bytes for anything else than this one atom if they stood there without quotes.
pub(crate) fn needs_quotes(atom: &[u8]) -> bool {
    let special = |&byte: &u8| {
        byte <= b' ' || byte >= 0x7f || matches!(byte, b'"' | b'(' | b')' | b';' | b'\\')
    };
    let comment = |pair: &[u8]| matches!(pair, b"#|" | b"|#");
    atom.is_empty() || atom.iter().any(special) || atom.windows(2).any(comment)
}

/// The atom as it is written on one line: as it is, or quoted.
pub(crate) fn one_line(atom: &[u8]) -> BString {
    if needs_quotes(atom) {
        quoted(atom)
    } else {
        atom.into()
    }
}

/// The atom in quotes, whether it needs them or not: printable ASCII on one line, with all other bytes escaped, so that nothing in a
/// name can break a log. This is OCaml's `%S`, too, which OBuilder's messages are full of.
#[must_use]
pub fn quoted(atom: &[u8]) -> BString {
    let mut out = BString::from("\"");
    escape(atom, |piece| out.extend_from_slice(piece));
    out.push(b'"');
    out
}

/// Gives what stands between the quotes, in pieces.
pub(crate) fn escape(atom: &[u8], mut put: impl FnMut(&[u8])) {
    for &byte in atom {
        match byte {
            b'\n' => put(b"\\n"),
            b'\t' => put(b"\\t"),
            b'\r' => put(b"\\r"),
            0x08 => put(b"\\b"),
            b'"' | b'\\' => put(&[b'\\', byte]),
            b' '..=b'~' => put(&[byte]),
            _ => {
                let digit = |value: u8| b'0' + value % 10;
                put(&[b'\\', digit(byte / 100), digit(byte / 10), digit(byte)]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn atoms_of_any_bytes_become_one_line_of_ascii() {
        assert_eq!(quoted(b"a b"), r#""a b""#);
        assert_eq!(
            quoted(b"q\"\\\n\t\x01\xc3\xa9\x7f"),
            r#""q\"\\\n\t\001\195\169\127""#
        );
    }
}
