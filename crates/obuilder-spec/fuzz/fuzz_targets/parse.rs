//! Reading any bytes gives a spec or a bounded error, never a panic.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| ocluster_obuilder_spec::fuzzing::parse(data));
