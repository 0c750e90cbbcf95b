//! A job as the scheduler sees it: `server` answers for it, `terms` is what was agreed about its life, `outcome` says how it ended,
//! `held` keeps those that outlive connections.

mod held;
mod outcome;
mod server;
mod terms;

pub(crate) use held::Held;
pub(crate) use outcome::{JobResult, one_line};
pub(crate) use server::{JobServer, Offered, offer};
pub(crate) use terms::{Control, Lease, Stopped};
