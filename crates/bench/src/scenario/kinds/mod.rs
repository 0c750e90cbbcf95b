//! The kinds of scenarios, one file each. A further one is a file here and a line in [`ALL`].

mod load;

use super::measure::Kind;

/// All kinds.
pub const ALL: &[Kind] = &[Kind::of::<load::Load>()];
