//! One pool: its state and the decisions taken on it, one file for each kind of event.

mod admin;
mod assign;
mod avoid;
mod clients;
mod durations;
mod explain;
mod hints;
mod index;
mod job;
mod lifecycle;
mod look;
mod out;
mod pop;
mod quota;
mod recent;
mod requeue;
mod state;
mod submit;
mod worker;

pub(crate) use out::Out;
pub(crate) use requeue::Accepted;
pub(crate) use state::Pool;
