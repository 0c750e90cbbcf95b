//! Strings as OCaml's `%S` prints them, which is how OCluster's client has always shown a job's result.

use std::fmt::Write as _;

/// `bytes` between double quotes, with everything that is not printable ASCII escaped (`\n`, `\"`, `\195`).
#[must_use]
pub fn ocaml_string(bytes: &[u8]) -> String {
    let mut quoted = String::with_capacity(bytes.len() + 2);
    quoted.push('"');
    for &byte in bytes {
        match byte {
            b'"' => quoted.push_str("\\\""),
            b'\\' => quoted.push_str("\\\\"),
            b'\n' => quoted.push_str("\\n"),
            b'\t' => quoted.push_str("\\t"),
            b'\r' => quoted.push_str("\\r"),
            0x08 => quoted.push_str("\\b"),
            b' '..=b'~' => quoted.push(char::from(byte)),
            // Decimal, always three digits; writing to a string does not fail.
            _ => drop(write!(quoted, "\\{byte:03}")),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(
            ocaml_string(b"team/app@sha256:12ab"),
            r#""team/app@sha256:12ab""#
        );
    }

    #[test]
    fn the_rest_is_escaped_as_ocaml_does() {
        assert_eq!(
            ocaml_string("a\"b\\c\n\t\r\u{8}\u{1}é\u{7f}".as_bytes()),
            r#""a\"b\\c\n\t\r\b\001\195\169\127""#
        );
    }
}
