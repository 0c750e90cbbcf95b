//! Job descriptions from peers and from the store: kept whole, and read as jobs that can be written again.

#![no_main]

use capnp::message::ReaderOptions;
use ocluster_api::cluster_capnp::job_descr;
use ocluster_api::{Action, Descriptor, JobSpec, read_test_job};

/// A small message may be read this far, as the vat has it.
const TRAVERSAL_WORDS: usize = 128 * 1024;

/// What was kept can be kept again, from its bytes and from its message, and is the same.
fn kept(descriptor: &Descriptor) {
    let bytes = descriptor.as_bytes();
    assert_eq!(bytes.len(), descriptor.size_in_bytes());
    assert_eq!(Descriptor::from_bytes(bytes).unwrap().as_bytes(), bytes);
    let message = descriptor.message();
    let copy = Descriptor::copy_of(message.get().unwrap()).unwrap();
    assert_eq!(copy.as_bytes(), bytes);
}

/// A job that was read is the same after it was written and read again.
fn read(descr: job_descr::Reader<'_>) -> Option<JobSpec> {
    let spec = JobSpec::read(descr).ok()?;
    let written = spec.to_descriptor().unwrap();
    kept(&written);
    assert_eq!(
        JobSpec::read(written.message().get().unwrap()).unwrap(),
        spec
    );
    if let Action::Custom(job) = &spec.action {
        let _text = job.payload_text();
        let _steps = read_test_job(job);
    }
    Some(spec)
}

fn from_store(bytes: &[u8]) {
    let Ok(descriptor) = Descriptor::from_bytes(bytes) else {
        return;
    };
    assert_eq!(descriptor.as_bytes(), bytes);
    let message = descriptor.message();
    // Its pointers may lie in any order, and a copy has them in one.
    if let Ok(copy) = Descriptor::copy_of(message.get().unwrap()) {
        kept(&copy);
    }
    read(message.get().unwrap());
}

fn from_peer(bytes: &[u8]) {
    let options = *ReaderOptions::new().traversal_limit_in_words(Some(TRAVERSAL_WORDS));
    let Ok(message) = capnp::serialize::read_message(bytes, options) else {
        return;
    };
    let Ok(descr) = message.get_root::<job_descr::Reader<'_>>() else {
        return;
    };
    let Ok(copy) = Descriptor::copy_of(descr) else {
        return;
    };
    kept(&copy);
    let of_copy = read(copy.message().get().unwrap());
    // Reading it a second time can be more than one message's limit allows.
    if let Some(spec) = read(descr) {
        assert_eq!(Some(spec), of_copy);
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    from_store(data);
    from_peer(data);
});
