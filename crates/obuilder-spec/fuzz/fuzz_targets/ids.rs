//! Ids are the hashes of what they describe, and differ when that does.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ocluster_obuilder_spec::fuzzing::ids(data));
