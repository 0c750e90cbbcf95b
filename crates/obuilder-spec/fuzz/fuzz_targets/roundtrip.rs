//! What was read is the same after it was printed and read again.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ocluster_obuilder_spec::fuzzing::roundtrip(data));
