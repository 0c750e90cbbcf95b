//! Control groups: where the machine has them, one for each step, and what is left of earlier ones.

mod group;
mod hierarchies;
mod removal;

pub(super) use group::Group;
pub(super) use hierarchies::Cgroups;
