//! Shows names in messages.

use std::fmt::Write as _;

/// `name` in quotes, with everything but printable ASCII escaped: OBuilder's (OCaml's) way in messages. Nothing in a name can then
/// break a log.
pub(super) fn quoted(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for &byte in name {
        match byte {
            b'"' => text.push_str("\\\""),
            b'\\' => text.push_str("\\\\"),
            b'\n' => text.push_str("\\n"),
            b'\t' => text.push_str("\\t"),
            b'\r' => text.push_str("\\r"),
            8 => text.push_str("\\b"),
            b' '..=b'~' => text.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(text, "\\{byte:03}")),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn names_of_any_bytes_become_one_line_of_ascii() {
        assert_eq!(quoted(b"a b"), r#""a b""#);
        assert_eq!(
            quoted(b"q\"\\\n\t\x01\xc3\xa9\x7f"),
            r#""q\"\\\n\t\001\195\169\127""#
        );
    }
}
