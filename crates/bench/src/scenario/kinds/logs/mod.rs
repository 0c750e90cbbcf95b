//! Logs: `stream` is one that goes to one client, `fan_out` one that goes to many, `source` is the worker they come from, `pattern`
//! what is in them.

mod fan_out;
mod pattern;
mod source;
mod stream;

pub(super) use fan_out::LogFanOut;
pub(super) use stream::LogStream;
