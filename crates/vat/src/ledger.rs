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
    #[error("more than {0} calls withdrawn before their answer (max_withdrawn_calls)")]
    Withdrawn(usize),
    #[error("more than {0} bytes waiting to be read by the peer (max_outgoing_bytes)")]
    Outgoing(usize),
}

/// What the peer has begun and holds.
#[derive(Default)]
pub(crate) struct Ledger {
    /// By question id: calls which the peer has not finished, answered or not.
    calls: HashMap<u32, Call>,
    /// By export id: what the peer holds.
    exports: HashMap<u32, Export>,
    /// How many calls the peer has withdrawn before they were answered.
    withdrawn: usize,
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
        if no_finish {
            self.calls.remove(&question);
        }
    }

    /// The peer sends `Finish`. For a call not yet answered this withdraws it: capnp-rpc drops the
    /// handler and sends no `Return`, but its table of answers keeps a small entry for ever.
    pub(crate) fn call_finishes(
        &mut self,
        question: u32,
        release_result_caps: bool,
        withdrawn_limit: usize,
    ) -> Result<(), Overrun> {
        let Some(call) = self.calls.remove(&question) else {
            return Ok(());
        };
        if !call.returned {
            self.withdrawn += 1;
            if self.withdrawn > withdrawn_limit {
                return Err(Overrun::Withdrawn(withdrawn_limit));
            }
        }
        if release_result_caps {
            for export in call.result_exports {
                self.released(export, 1);
            }
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_until_it_is_finished() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.call_begins(1, 1), Ok(()));
        assert!(ledger.has_unanswered());
        ledger.call_returns(1, vec![], false);
        assert!(!ledger.has_unanswered());
        assert_eq!(ledger.call_begins(2, 1), Err(Overrun::Calls(1)));
        assert_eq!(ledger.call_finishes(1, true, 0), Ok(()));
        assert_eq!(ledger.calls_in_flight(), 1);
        // An answer without capabilities needs no finish, and a late one changes nothing.
        ledger.call_returns(2, vec![], true);
        assert_eq!(ledger.call_finishes(2, true, 0), Ok(()));
        assert_eq!(ledger.calls_in_flight(), 0);
    }

    #[test]
    fn withdrawn_calls_are_counted_apart() {
        let mut ledger = Ledger::default();
        for question in 0..2 {
            assert_eq!(ledger.call_begins(question, 1), Ok(()));
            let withdrawn = ledger.call_finishes(question, true, 1);
            let expected = if question == 0 {
                Ok(())
            } else {
                Err(Overrun::Withdrawn(1))
            };
            assert_eq!(withdrawn, expected);
        }
    }

    #[test]
    fn an_export_is_held_until_every_reference_is_released() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.exported(7, true, 1), Ok(true));
        assert_eq!(ledger.exported(7, false, 1), Ok(true), "still a promise");
        assert_eq!(ledger.exported(8, false, 1), Err(Overrun::Exports(1)));
        ledger.released(8, 1);
        ledger.released(7, 1);
        assert_eq!(ledger.exports_held(), 1);
        ledger.released(7, 1);
        assert_eq!(ledger.exports_held(), 0);
        assert_eq!(ledger.exported(7, false, 1), Ok(false), "another object");
    }
}
