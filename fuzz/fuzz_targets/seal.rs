//! Sealed descriptions: nothing opens but what was sealed for that job, and that opens as it was.

#![no_main]
#![allow(dead_code, reason = "only the decoder is wanted of this file")]

#[path = "../../scheduler/src/seal.rs"]
mod seal;

use std::sync::LazyLock;

use ocluster_store::JobId;
use ocluster_vat::SecretKey;
use seal::{Seal, SealError};

static SEAL: LazyLock<Seal> = LazyLock::new(|| {
    let pem = include_bytes!("../../crates/vat/tests/vat/fixtures/keys/p256-pkcs8.pem");
    Seal::derive(&SecretKey::from_pem(pem).unwrap())
});

libfuzzer_sys::fuzz_target!(|data: (u64, u16, u8, &[u8])| {
    let (number, at, change, bytes) = data;
    let job = JobId::new(number);
    SEAL.open(job, bytes).unwrap_err();
    let sealed = SEAL.seal(job, bytes).unwrap();
    // The right beginning, so that the rest is looked at.
    let begun = [&sealed[..5], bytes].concat();
    assert_eq!(SEAL.open(job, &begun), Err(SealError::Damaged { job }));
    assert_eq!(*SEAL.open(job, &sealed).unwrap(), bytes);

    let at = usize::from(at) % sealed.len();
    assert_eq!(
        SEAL.open(job, &sealed[..at]),
        Err(SealError::Damaged { job })
    );
    let other = JobId::new(number ^ 1);
    assert_eq!(
        SEAL.open(other, &sealed),
        Err(SealError::Damaged { job: other })
    );
    let mut changed = sealed;
    changed[at] ^= change.max(1);
    SEAL.open(job, &changed).unwrap_err();
});
