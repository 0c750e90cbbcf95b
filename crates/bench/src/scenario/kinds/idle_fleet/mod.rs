//! A large fleet that waits for jobs: `fleet` are the workers, `machine` is where each of them is, `storm` measures what they cost and how
//! they come back.

mod fleet;
mod machine;
mod storm;

pub(super) use storm::IdleFleet;
