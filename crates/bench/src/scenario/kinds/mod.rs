//! The kinds of scenarios, one file each. A further one is a file here and a line in [`ALL`].

mod echo;
mod growth;
mod load;
mod queued_memory;
mod stress;

use super::measure::Kind;

/// All kinds.
pub const ALL: &[Kind] = &[
    Kind::of::<echo::Echo>(),
    Kind::of::<growth::Growth>(),
    Kind::of::<load::Load>(),
    Kind::of::<queued_memory::QueuedMemory>(),
    Kind::of::<stress::Stress>(),
];
