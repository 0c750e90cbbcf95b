//! Durable jobs: `acceptance` is how they are taken in and found again after a restart, `one_by_one` and `batches` their whole life,
//! `straight` the reference for both: the same records written straight into the store.

mod acceptance;
mod batches;
mod one_by_one;
mod straight;

pub(super) use acceptance::Acceptance;
pub(super) use acceptance::{ms, open_loop};
pub(super) use batches::Batches;
pub(super) use one_by_one::OneByOne;
