//! Texts that stand for jobs: whole ids, and prefixes whose ranges leave no id out.

#![no_main]

use ocluster_store::JobId;

fn whole(text: &str) {
    let normal = JobId::normalise(text);
    assert_eq!(JobId::normalise(&normal), normal);
    match text.parse::<JobId>() {
        Ok(id) => {
            assert_eq!(id.to_string(), normal);
            assert!(covered(text, id));
        }
        Err(error) => assert!(error.to_string().len() <= 512, "{error}"),
    }
}

/// Whether one of the ranges of this prefix holds the id. They are few, in order, and do not overlap.
fn covered(prefix: &str, id: JobId) -> bool {
    let Ok(ranges) = JobId::prefix_ranges(prefix) else {
        return false;
    };
    assert!(ranges.len() <= 15, "{} ranges", ranges.len());
    assert!(ranges.iter().all(|(first, last)| first <= last));
    assert!(
        ranges.windows(2).all(|pair| pair[0].1 < pair[1].0),
        "{prefix:?}: {ranges:?}"
    );
    ranges
        .iter()
        .any(|(first, last)| (*first..=*last).contains(&id))
}

libfuzzer_sys::fuzz_target!(|data: (u64, u8, &str)| {
    let (number, length, text) = data;
    whole(text);
    let id = JobId::new(number);
    covered(text, id);
    let printed = id.to_string();
    assert_eq!(printed.parse(), Ok(id));
    whole(&printed.to_uppercase());
    // The letter and at least one digit.
    let length = 2 + usize::from(length) % (printed.len() - 1);
    assert!(
        covered(&printed[..length], id),
        "{printed} by {length} letters"
    );
});
