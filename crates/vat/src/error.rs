//! Failed calls as a person should read them, and the errors a server method may answer with.
//!
//! capnp-rpc marks every exception it receives with "remote exception: "; nothing here ever shows
//! or forwards that mark.

use capnp::ErrorKind;
use thiserror::Error;

/// The mark which capnp-rpc puts before the reason of a received exception.
const REMOTE_MARK: &str = "remote exception: ";

/// A failed call, by the four exception types of the Cap'n Proto RPC protocol. Printed as OCaml's
/// programs print it: `Failed: reason`.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RpcError {
    /// The other side refused or could not do it.
    #[error("Failed: {0}")]
    Failed(String),
    /// The other side has too much to do; trying again later may help.
    #[error("Overloaded: {0}")]
    Overloaded(String),
    /// The connection to the object's vat was lost; connecting again may help.
    #[error("Disconnected: {0}")]
    Disconnected(String),
    /// The other side does not know this method.
    #[error("Unimplemented: {0}")]
    Unimplemented(String),
}

impl RpcError {
    /// The reason alone, without the type.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self {
            Self::Failed(reason)
            | Self::Overloaded(reason)
            | Self::Disconnected(reason)
            | Self::Unimplemented(reason) => reason,
        }
    }

    /// Whether the connection was lost.
    #[must_use]
    pub fn is_disconnected(&self) -> bool {
        matches!(self, Self::Disconnected(_))
    }
}

impl From<&capnp::Error> for RpcError {
    fn from(error: &capnp::Error) -> Self {
        let reason = || strip_remote_mark(&error.extra).to_owned();
        match error.kind {
            ErrorKind::Failed => Self::Failed(reason()),
            ErrorKind::Overloaded => Self::Overloaded(reason()),
            ErrorKind::Disconnected => Self::Disconnected(reason()),
            ErrorKind::Unimplemented => Self::Unimplemented(reason()),
            _ => Self::Failed(error.to_string()),
        }
    }
}

impl From<capnp::Error> for RpcError {
    fn from(error: capnp::Error) -> Self {
        Self::from(&error)
    }
}

impl From<RpcError> for capnp::Error {
    fn from(error: RpcError) -> Self {
        match error {
            RpcError::Failed(reason) => Self::failed(reason),
            RpcError::Overloaded(reason) => Self::overloaded(reason),
            RpcError::Disconnected(reason) => Self::disconnected(reason),
            RpcError::Unimplemented(reason) => Self::unimplemented(reason),
        }
    }
}

/// An exception of type `failed`, the type of all of OCluster's application errors.
pub fn failed(reason: impl Into<String>) -> capnp::Error {
    capnp::Error::failed(reason.into())
}

/// An exception of type `overloaded`.
pub fn overloaded(reason: impl Into<String>) -> capnp::Error {
    capnp::Error::overloaded(reason.into())
}

/// An exception of type `disconnected`: only for lost connections, since clients reconnect on it.
pub fn disconnected(reason: impl Into<String>) -> capnp::Error {
    capnp::Error::disconnected(reason.into())
}

/// An exception of type `unimplemented`.
pub fn unimplemented(reason: impl Into<String>) -> capnp::Error {
    capnp::Error::unimplemented(reason.into())
}

/// Removes every leading mark: one is added per hop by peers which do not remove it.
pub(crate) fn strip_remote_mark(mut reason: &str) -> &str {
    while let Some(rest) = reason.strip_prefix(REMOTE_MARK) {
        reason = rest;
    }
    reason
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn errors_print_as_ocaml_prints_them() {
        let error = RpcError::from(capnp::Error::failed(
            "remote exception: Build failed.".into(),
        ));
        assert_eq!(error.to_string(), "Failed: Build failed.");
        let error = RpcError::from(disconnected("remote exception: remote exception: gone"));
        assert_eq!(error.to_string(), "Disconnected: gone");
        assert!(error.is_disconnected());
        assert_eq!(RpcError::from(overloaded("x")).to_string(), "Overloaded: x");
        assert_eq!(RpcError::from(unimplemented("x")).reason(), "x");
    }

    #[test]
    fn every_other_kind_is_a_failure_with_its_text() {
        let error = RpcError::from(capnp::Error::from_kind(ErrorKind::MessageTooLarge(9)));
        assert!(
            matches!(&error, RpcError::Failed(reason) if !reason.is_empty()),
            "{error}"
        );
    }

    #[test]
    fn converting_forth_and_back_changes_nothing() {
        let error = RpcError::Overloaded("later".to_owned());
        assert_eq!(RpcError::from(capnp::Error::from(error.clone())), error);
    }
}
