//! The kinds of scenarios, one file each. A further one is a file here and a line in [`ALL`].

mod depth;
mod durable;
mod idle_fleet;
mod load;
mod logs;
pub mod relay;

use super::measure::Kind;

/// All kinds.
pub const ALL: &[Kind] = &[
    Kind::of::<load::Load>(),
    Kind::of::<durable::OneByOne>(),
    Kind::of::<durable::Batches>(),
    Kind::of::<durable::Acceptance>(),
    Kind::of::<depth::Depth>(),
    Kind::of::<logs::LogStream>(),
    Kind::of::<logs::LogFanOut>(),
    Kind::of::<idle_fleet::IdleFleet>(),
];
