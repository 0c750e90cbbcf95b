//! key errors
use thiserror::Error;
/// Why a key could not be had.
#[derive(Debug, Error)]
pub enum KeyError {
    /// placeholder
    #[error("x")]
    X,
}
