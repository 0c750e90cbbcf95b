//! Reading a key file gives a key, the same each time, or an error that shows nothing of it.

#![no_main]

use base64::Engine as _;
use ocluster_vat::SecretKey;

/// The most that an error may say.
const MAX_ERROR: usize = 512;

fn read(pem: &[u8]) {
    match SecretKey::from_pem(pem) {
        Ok(key) => {
            let again = SecretKey::from_pem(pem).unwrap();
            assert!(key.digest().is_secure());
            assert_eq!(key.digest(), again.digest());
            assert_eq!(key.derived_id("a"), again.derived_id("a"));
            assert_ne!(key.derived_id("a"), key.derived_id("b"));
            assert_eq!(format!("{key:?}"), format!("SecretKey({})", key.digest()));
        }
        Err(error) => {
            let error = error.to_string();
            assert!(error.len() <= MAX_ERROR, "{error}");
            // A line of a key file's base64 is this long, and one word.
            let lines = pem.split(|byte| byte.is_ascii_whitespace());
            for line in lines.filter(|line| line.len() >= 64) {
                assert!(!error.as_bytes().windows(line.len()).any(|at| at == line));
            }
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    read(data);
    // What is inside the envelope is hardly ever reached by changing base64.
    let content = base64::engine::general_purpose::STANDARD.encode(data);
    for kind in ["PRIVATE KEY", "EC PRIVATE KEY", "RSA PRIVATE KEY"] {
        let pem = format!("-----BEGIN {kind}-----\n{content}\n-----END {kind}-----\n");
        read(pem.as_bytes());
    }
});
