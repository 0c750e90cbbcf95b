//! S-expressions: OBuilder's syntax, before it means anything.

mod atom;
mod mach;

pub(crate) use mach::{Mach, Sink};
