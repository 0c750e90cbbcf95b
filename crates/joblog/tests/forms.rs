//! Random lives of logs in both forms on disk, compared with a plain map of texts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use common::{Logs, logs, soon};
use ocluster_joblog::{End, LogInfo, WriteError};
use proptest::prelude::*;

/// Ids that are used: some of two ranges.
const IDS: [u64; 4] = [0, 1, 1023, 1024];

#[derive(Debug, Clone)]
enum Step {
    /// Writes a log whole.
    Write(u64, usize),
    /// Writes some, waits until that is stored, and then the rest.
    Grow(u64, usize),
    /// Writes many at once.
    Together(usize),
    /// Goes on with a log at a part of it, in hundredths.
    Reopen(u64, usize, usize),
    Remove(u64),
    Restart,
    /// A kill in the middle of an append to a pack.
    Tear(u64, usize),
    /// Makes room for nothing.
    PruneAll,
}

fn step() -> impl Strategy<Value = Step> {
    let id = || prop::sample::select(&IDS[..]);
    let length = || prop_oneof![4 => 0usize..200, 1 => 3900usize..4300];
    prop_oneof![
        6 => (id(), length()).prop_map(|(id, length)| Step::Write(id, length)),
        3 => (id(), length()).prop_map(|(id, length)| Step::Grow(id, length)),
        1 => length().prop_map(Step::Together),
        3 => (id(), 0usize..=100, length()).prop_map(|(id, part, more)| Step::Reopen(id, part, more)),
        4 => id().prop_map(Step::Remove),
        2 => Just(Step::Restart),
        2 => (0u64..2, 0usize..160).prop_map(|(range, length)| Step::Tear(range, length)),
        1 => Just(Step::PruneAll),
    ]
}

/// What a log says that is this long; no two like it.
fn text(salt: usize, length: usize) -> String {
    (0..length)
        .map(|place| char::from(b'a' + u8::try_from((place * 7 + place / 26 + salt) % 26).unwrap()))
        .collect()
}

/// Writes a log, if there is none with its id yet.
async fn write(logs: &Logs, id: u64, parts: [String; 2], model: &mut BTreeMap<u64, String>) {
    let mut writer = logs.store.create(id).unwrap();
    let stored = writer.reader().of_what_is_stored();
    let [first, second] = parts;
    let mut told = writer.append(Bytes::from(first.clone())).await.map(drop);
    if !second.is_empty() && !first.is_empty() {
        // It is on disk, or refused.
        let _either = soon(stored.read(0, 1)).await;
        told = writer.append(Bytes::from(second.clone())).await.map(drop);
    }
    drop(stored);
    let finished = soon(writer.finish(End::Closed))
        .await
        .map(|info: LogInfo| info.length);
    let told = told.and(finished);
    if model.contains_key(&id) {
        assert_eq!(told, Err(WriteError::Exists { id }));
        soon(async {
            while logs.store.live_reader(id).is_some() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        return;
    }
    let whole = if first.is_empty() {
        first
    } else {
        first + &second
    };
    assert_eq!(told, Ok(whole.len() as u64));
    model.insert(id, whole);
}

async fn reopen(
    logs: &Logs,
    id: u64,
    part: usize,
    more: String,
    model: &mut BTreeMap<u64, String>,
) {
    let Some(kept) = model.get_mut(&id) else {
        let refused = logs.store.reopen_within(id, 0, None).await.unwrap_err();
        assert_eq!(refused, WriteError::NotFound { id });
        return;
    };
    kept.truncate(kept.len() * part / 100);
    let at = kept.len() as u64;
    let mut writer = soon(logs.store.reopen_within(id, at, None)).await.unwrap();
    writer.append(Bytes::from(more.clone())).await.unwrap();
    soon(writer.finish(End::Closed)).await.unwrap();
    kept.push_str(&more);
}

async fn play(steps: Vec<Step>) {
    let mut logs = logs();
    let mut model = BTreeMap::new();
    for (salt, step) in steps.into_iter().enumerate() {
        match step {
            Step::Write(id, length) => {
                let parts = [text(salt, length), String::new()];
                write(&logs, id, parts, &mut model).await;
            }
            Step::Grow(id, length) => {
                let parts = [text(salt, length), text(salt, 10)];
                write(&logs, id, parts, &mut model).await;
            }
            Step::Together(length) => {
                let free = IDS.into_iter().filter(|id| !model.contains_key(id));
                let mut ends = Vec::new();
                for id in free.collect::<Vec<_>>() {
                    let mut writer = logs.store.create(id).unwrap();
                    let text = text(salt, length);
                    writer.append(Bytes::from(text.clone())).await.unwrap();
                    ends.push(writer.finish_unhurried(End::Closed));
                    model.insert(id, text);
                }
                for end in ends {
                    soon(end).await.unwrap();
                }
            }
            Step::Reopen(id, part, more) => {
                reopen(&logs, id, part, text(salt, more), &mut model).await;
            }
            Step::Remove(id) => {
                assert_eq!(logs.store.remove(id).await, model.remove(&id).is_some());
            }
            Step::Restart => logs = logs.reopen().await,
            Step::Tear(range, length) => {
                logs.store.clone().close().await;
                if let Ok(mut pack) = std::fs::read(logs.pack(range)) {
                    let torn = format!(
                        "ocluster-packed 1 + closed {:020} {:05} {:020} {:04}\n{}\n",
                        range * 1024 + 7,
                        100,
                        0,
                        0,
                        "x".repeat(100)
                    );
                    pack.extend_from_slice(&torn.as_bytes()[..length]);
                    std::fs::write(logs.pack(range), pack).unwrap();
                }
                logs = logs.reopen().await;
            }
            Step::PruneAll => {
                let later = SystemTime::now() + Duration::from_secs(100);
                let age = Duration::from_secs(1);
                let pruned = logs.store.prune(later, Some(age), None).await;
                assert_eq!((pruned.logs, pruned.failed), (model.len() as u64, 0));
                assert_eq!(pruned.bytes_left, 0);
                model.clear();
            }
        }
        let listed = logs.store.list().await.into_iter();
        let listed: Vec<_> = listed
            .map(|info| (info.id, info.length, info.end))
            .collect();
        let expected = model.iter();
        let expected: Vec<_> = expected
            .map(|(id, text)| (*id, text.len() as u64, Some(End::Closed)))
            .collect();
        assert_eq!(listed, expected);
        for (id, text) in &model {
            assert!(
                logs.text(*id).await == *text,
                "log {id} says something else"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn logs_are_what_was_written_in_whichever_form_they_lie(
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps));
    }
}
