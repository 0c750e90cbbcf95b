//! Sturdy refs and locations: what was read is the same after it was written and read again, and errors are short.

#![no_main]

use ocluster_vat::{Location, SturdyRef};

/// The most that an error may say.
const MAX_ERROR: usize = 512;

libfuzzer_sys::fuzz_target!(|text: &str| {
    match SturdyRef::parse(text) {
        Ok(found) => {
            let uri = found.to_uri();
            assert_eq!(SturdyRef::parse(&uri).as_ref().ok(), Some(&found), "{uri}");
            let secret = found.id.to_base64();
            // A shorter one can be part of a host's name.
            if secret.len() > 20 && !format!("{:?}", found.address).contains(&secret) {
                assert!(!format!("{found:?}").contains(&secret), "the secret shows");
            }
        }
        Err(error) => assert!(error.to_string().len() <= MAX_ERROR, "{error}"),
    }
    match text.parse::<Location>() {
        Ok(found) => assert_eq!(found.to_string().parse(), Ok(found)),
        Err(error) => assert!(error.to_string().len() <= MAX_ERROR, "{error}"),
    }
});
