//! How one atom is written: when it needs quotes, and how bytes are escaped inside them.
//!
//! Byte for byte OBuilder's (sexplib's) rules: ids depend on them, so they must never change.

use bstr::{BString, ByteSlice as _};

/// Whether the reader would take these bytes for anything else than this one atom if they stood there without quotes.
pub(crate) fn needs_quotes(atom: &[u8]) -> bool {
    let special = |&byte: &u8| {
        byte <= b' ' || byte >= 0x7f || matches!(byte, b'"' | b'(' | b')' | b';' | b'\\')
    };
    atom.is_empty()
        || atom.iter().any(special)
        || atom.contains_str("#|")
        || atom.contains_str("|#")
}

/// The atom as it is written on one line: as it is, or quoted.
pub(crate) fn one_line(atom: &[u8]) -> BString {
    if needs_quotes(atom) {
        quoted(atom)
    } else {
        atom.into()
    }
}

/// The atom in quotes, whether it needs them or not. This is OCaml's `%S`, too.
pub(crate) fn quoted(atom: &[u8]) -> BString {
    let mut out = BString::from("\"");
    escape_into(atom, &mut out);
    out.push(b'"');
    out
}

/// Appends what stands between the quotes.
pub(crate) fn escape_into(atom: &[u8], out: &mut BString) {
    for &byte in atom {
        match byte {
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\t' => out.extend_from_slice(b"\\t"),
            b'\r' => out.extend_from_slice(b"\\r"),
            0x08 => out.extend_from_slice(b"\\b"),
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\{byte:03}").as_bytes()),
        }
    }
}
