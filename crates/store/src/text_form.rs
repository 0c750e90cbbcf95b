//! How hashes and times look in text, such as an export: hexadecimal, and numbers that come back as they were.
//!
//! In rows, which are not text, they keep the form that serde gives them by itself.

/// SHA-256 hashes: 64 hexadecimal digits.
pub(crate) mod hash {
    use std::fmt::Write as _;

    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    pub(crate) fn to_text(hash: &[u8]) -> String {
        hash.iter().fold(String::new(), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ok = write!(text, "{byte:02x}");
            text
        })
    }

    fn from_text(text: &str) -> Option<[u8; 32]> {
        let mut hash = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        }
        Some(hash)
    }

    pub(crate) fn serialize<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() {
            to.serialize_str(&to_text(hash))
        } else {
            hash.serialize(to)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        if !from.is_human_readable() {
            return Deserialize::deserialize(from);
        }
        let text = String::deserialize(from)?;
        from_text(&text).ok_or_else(|| D::Error::custom("a hash has 64 hexadecimal digits"))
    }
}

/// As [`hash`], where there may be none.
pub(crate) mod optional_hash {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    struct Hash(#[serde(with = "super::hash")] [u8; 32]);

    pub(crate) fn serialize<S: Serializer>(
        hash: &Option<[u8; 32]>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        hash.map(Hash).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<[u8; 32]>, D::Error> {
        let hash: Option<Hash> = Deserialize::deserialize(from)?;
        Ok(hash.map(|Hash(hash)| hash))
    }
}

/// Numbers that may be infinite, which JSON has no number for.
pub(crate) mod number {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serialize as _, Serializer};

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(f64),
        Name(String),
    }

    pub(crate) fn serialize<S: Serializer>(number: &f64, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() && !number.is_finite() {
            to.serialize_str(&number.to_string())
        } else {
            number.serialize(to)
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
        if !from.is_human_readable() {
            return f64::deserialize(from);
        }
        match Form::deserialize(from)? {
            Form::Number(number) => Ok(number),
            Form::Name(name) => match name.as_str() {
                "inf" | "-inf" | "NaN" => name.parse().map_err(D::Error::custom),
                _ => Err(D::Error::custom("not a number")),
            },
        }
    }
}
