//! The books of one connection: what the peer has asked for and holds, against its limits.
//!
//! Pure counting over the messages that pass; it never sends, reads or closes anything itself.

use std::collections::HashMap;

use thiserror::Error;

/// A limit the peer has broken. `Display` is the reason of the `Abort` it gets.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub(crate) enum Overrun {
    #[error("more than {0} calls in flight (max_calls_in_flight)")]
    Calls(usize),
    #[error("more than {0} bytes of calls and answers in flight (max_bytes_in_flight)")]
    Bytes(usize),
    #[error("more than {0} capabilities held (max_exports)")]
    Exports(usize),
    #[error("more than {0} bytes waiting to be read by the peer (max_outgoing_bytes)")]
    Outgoing(usize),
}

/// What the peer has begun and holds.
#[derive(Default)]
pub(crate) struct Ledger {
    /// By question id: calls which lack our `Return`, the peer's `Finish`, or both.
    calls: HashMap<u32, Call>,
    /// By export id: what the peer holds.
    exports: HashMap<u32, Export>,
}

#[derive(Default)]
struct Export {
    references: u64,
    /// It was sent as a promise.
    is_promise: bool,
}

#[derive(Default)]
struct Call {
    returned: bool,
    finished: bool,
    /// Capabilities sent in the results, released by a `Finish` which says so.
    result_exports: Vec<u32>,
}

impl Ledger {
    /// The peer sends a call or a bootstrap.
    pub(crate) fn call_begins(&mut self, question: u32, limit: usize) -> Result<(), Overrun> {
        // A question id used twice is a protocol error which the RPC system reports.
        self.calls.entry(question).or_default();
        if self.calls.len() > limit {
            return Err(Overrun::Calls(limit));
        }
        Ok(())
    }

    /// We send the answer.
    pub(crate) fn call_returns(&mut self, question: u32, exports: Vec<u32>, no_finish: bool) {
        let Some(call) = self.calls.get_mut(&question) else {
            return;
        };
        call.returned = true;
        call.result_exports = exports;
        if call.finished || no_finish {
            self.calls.remove(&question);
        }
    }

    /// The peer sends `Finish`.
    pub(crate) fn call_finishes(&mut self, question: u32, release_result_caps: bool) {
        let Some(call) = self.calls.get_mut(&question) else {
            return;
        };
        call.finished = true;
        let exports = std::mem::take(&mut call.result_exports);
        if call.returned {
            self.calls.remove(&question);
        }
        if release_result_caps {
            for export in exports {
                self.released(export, 1);
            }
        }
    }

    /// We send a capability of ours. Tells whether the peer knows it as a promise.
    pub(crate) fn exported(
        &mut self,
        export: u32,
        is_promise: bool,
        limit: usize,
    ) -> Result<bool, Overrun> {
        let entry = self.exports.entry(export).or_default();
        entry.references += 1;
        entry.is_promise |= is_promise;
        let is_promise = entry.is_promise;
        if self.exports.len() > limit {
            return Err(Overrun::Exports(limit));
        }
        Ok(is_promise)
    }

    /// The peer drops references to one.
    pub(crate) fn released(&mut self, export: u32, references: u32) {
        if let Some(entry) = self.exports.get_mut(&export) {
            entry.references = entry.references.saturating_sub(u64::from(references));
            if entry.references == 0 {
                self.exports.remove(&export);
            }
        }
    }

    /// Calls which the peer has begun and not finished.
    pub(crate) fn calls_in_flight(&self) -> usize {
        self.calls.len()
    }

    /// Whether some call has not been answered yet.
    pub(crate) fn has_unanswered(&self) -> bool {
        self.calls.values().any(|call| !call.returned)
    }

    /// Capabilities of ours which the peer holds.
    pub(crate) fn exports_held(&self) -> usize {
        self.exports.len()
    }
}
