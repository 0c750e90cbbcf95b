//! The kinds of scenarios, one file each. A further one is a file here and a line in [`ALL`].

mod depth;
mod durable;
mod echo;
mod growth;
mod idle_fleet;
mod load;
mod logs;
mod queued_memory;
pub mod relay;
mod stress;

use super::measure::Kind;

/// All kinds.
pub const ALL: &[Kind] = &[
    Kind::of::<depth::Depth>(),
    Kind::of::<durable::Acceptance>(),
    Kind::of::<durable::Batches>(),
    Kind::of::<durable::OneByOne>(),
    Kind::of::<echo::Echo>(),
    Kind::of::<growth::Growth>(),
    Kind::of::<idle_fleet::IdleFleet>(),
    Kind::of::<load::Load>(),
    Kind::of::<logs::LogFanOut>(),
    Kind::of::<logs::LogStream>(),
    Kind::of::<queued_memory::QueuedMemory>(),
    Kind::of::<stress::Stress>(),
];
