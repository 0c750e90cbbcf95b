//! S-expressions: OBuilder's syntax, before it means anything.

pub(crate) mod atom;
mod lexer;
mod mach;
mod reader;
mod value;

pub use atom::quoted;
pub(crate) use mach::{Mach, Sink};
pub use reader::{MAX_DEPTH, MAX_TEXT};
pub use value::{Position, Sexp, Value};
pub(crate) use value::{Visit, walk};
