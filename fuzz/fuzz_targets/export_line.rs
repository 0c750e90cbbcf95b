//! The lines of an export, one by one: what was read is the same after it was written and read again.

#![no_main]
#![allow(dead_code, reason = "only the decoders are wanted of these files")]

#[path = "../../crates/store/src/chores/line.rs"]
mod line;
#[path = "../../crates/store/src/text_form.rs"]
mod text_form;

// The names under which the two files know the store's types.
use ocluster_store::{Change, JobRecord, Pause};

use line::Line;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(found) = serde_json::from_slice::<Line>(data) else {
        return;
    };
    let written = serde_json::to_string(&found).unwrap();
    let again: Line = serde_json::from_str(&written).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), written);
    assert!(!written.contains('\n'), "a line is one line");
});
