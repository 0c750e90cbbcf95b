//! Keys and values of the store's rows, of every version: what was read is the same after it was written and read again.

#![no_main]
#![allow(dead_code, reason = "only the decoders are wanted of these files")]

#[path = "../../crates/store/src/sled/rows.rs"]
mod rows;
#[path = "../../crates/store/src/sled/values.rs"]
mod values;

// The names under which the two files know the store's types.
use ocluster_store::{Cause, JobId, JobKind, JobRecord, JobState, JobTimes, Pause};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The value is read in its newest form, which is the same from then on. Numbers that are none equal nothing, so bytes
/// are compared.
fn settled<T: Serialize>(found: &T, read: impl Fn(&[u8]) -> Option<T>) {
    let written = values::value(found).unwrap();
    assert_eq!(written[0], values::VERSION);
    let again = values::value(&read(&written).unwrap()).unwrap();
    assert_eq!(written, again);
}

fn same_form<T: Serialize + DeserializeOwned>(bytes: &[u8]) {
    let read = |bytes: &[u8]| values::read_value::<T>(bytes).ok();
    if let Some(found) = read(bytes) {
        settled(&found, read);
    }
}

fn key<const N: usize>(bytes: &[u8]) {
    let Some(names) = rows::names::<N>(bytes) else {
        return;
    };
    let key = rows::Key::new(bytes[0]);
    let key = names.iter().fold(key, |key, name| key.text(name));
    assert_eq!(key.done(), bytes);
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(record) = values::read_record(data) {
        settled::<JobRecord>(&record, |bytes| values::read_record(bytes).ok());
    }
    if let Ok((paused, pause)) = values::read_worker(data) {
        let written = values::worker_value(paused, pause.as_ref()).unwrap();
        assert_eq!(values::read_worker(&written), Ok((paused, pause)));
    }
    same_form::<rows::Meta>(data);
    same_form::<u32>(data);
    same_form::<f64>(data);
    same_form::<(String, u32)>(data);
    same_form::<JobId>(data);

    let (name, content) = data.split_at(data.len() / 2);
    assert!(data.is_empty() || values::read_description(name, data).is_err() || data.len() > 8);
    let written = values::description_value(name, content);
    assert_eq!(values::read_description(name, &written), Ok(content));
    assert!(values::read_description(name, &written[..written.len() - 1]).is_err());

    key::<2>(data);
    key::<3>(data);
    if let Some(id) = rows::id_of(data) {
        assert_eq!(rows::job_key(data[0], id), data);
    }
});
