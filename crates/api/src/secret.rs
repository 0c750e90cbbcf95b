//! Values that must not be seen: they are wiped when dropped, and no formatting shows them.

use std::fmt;

use zeroize::Zeroizing;

/// Bytes that must never reach a log, an error, `show`, a command line or an unencrypted disk.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// Takes `bytes` into custody.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The value itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(..)")
    }
}

/// A secret of a job: build steps may ask for it by its id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The name by which build steps ask for it.
    pub id: String,
    /// What they get.
    pub value: SecretBytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_value() {
        let secret = Secret {
            id: "token".into(),
            value: SecretBytes::new(b"hunter2".to_vec()),
        };
        let shown = format!("{secret:?}");
        assert!(shown.contains("token"), "{shown}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("104"),
            "{shown}"
        );
    }
}
