//! Durable jobs, as the program submits and follows them.
//!
//! The job outlives the program. A lost connection is made anew, and the log goes on at the byte where it stopped; what an interrupt
//! does is the user's choice.

mod accept;
mod asking;
mod follow;
mod interrupted;
mod run;
mod waiting;

pub(crate) use follow::{Followed, follow_log};
pub(crate) use run::run;
