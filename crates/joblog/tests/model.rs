//! Random appends and reads, compared with a plain vector of bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{logs, read_all, soon};
use ocluster_joblog::{End, LogReader, ReadError};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Follow,
    Read { from: i64, max: usize },
    Written,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop_oneof![0usize..50, 1000usize..40_000, Just(300_000)].prop_map(Step::Append),
        1 => Just(Step::Follow),
        4 => (-400_000i64..400_000, 1usize..200_000).prop_map(|(from, max)| Step::Read { from, max }),
        1 => Just(Step::Written),
    ]
}

/// What the next bytes look like: no two places alike for a long way.
fn text(from: usize, length: usize) -> Vec<u8> {
    (from..from + length)
        .map(|place| u8::try_from((place * 31 + place / 251) % 251).unwrap())
        .collect()
}

/// A read as the model has it: the bytes from `start` on, cut at what one read may give. `None`: it would wait.
async fn check_read(reader: &LogReader, model: &[u8], from: i64, max: usize) {
    let length = i64::try_from(model.len()).unwrap();
    let start = if from < 0 {
        (length + from).max(0)
    } else {
        from
    };
    if start == length {
        return; // It would wait.
    }
    let read = soon(reader.read(from, max)).await;
    if start > length {
        assert!(matches!(read, Err(ReadError::PastEnd { .. })), "{read:?}");
        return;
    }
    let chunk = read.unwrap();
    let start = usize::try_from(start).unwrap();
    let next = usize::try_from(chunk.next).unwrap();
    assert!(!chunk.data.is_empty() && chunk.data.len() <= max);
    assert_eq!(next, start + chunk.data.len());
    assert!(chunk.data == model[start..next], "other bytes at {start}");
}

async fn play(steps: Vec<Step>, broken: bool) {
    let logs = logs();
    let mut writer = logs.store.create(1).unwrap();
    let mut model = Vec::new();
    let mut followers = Vec::new();
    let reader = writer.reader();
    for step in steps {
        match step {
            Step::Append(length) => {
                let piece = text(model.len(), length);
                model.extend_from_slice(&piece);
                soon(writer.append(Bytes::from(piece))).await.unwrap();
            }
            Step::Follow => {
                let reader = writer.reader();
                followers.push(tokio::spawn(async move { read_all(&reader).await }));
            }
            Step::Read { from, max } => check_read(&reader, &model, from, max).await,
            Step::Written => tokio::time::sleep(std::time::Duration::from_millis(11)).await,
        }
    }
    let (end, expected) = if broken {
        let reason = "lost".to_owned();
        (
            End::Broken {
                reason: reason.clone(),
            },
            Err(ReadError::Broken { reason }),
        )
    } else {
        (End::Closed, Ok(()))
    };
    let info = soon(writer.finish(end)).await.unwrap();
    assert_eq!(info.length, model.len() as u64);
    drop(reader);
    let late = logs.store.reader(1).await.unwrap();
    followers.push(tokio::spawn(async move { read_all(&late).await }));
    for follower in followers {
        let (data, end) = soon(follower).await.unwrap();
        assert_eq!(end, expected);
        assert!(data == model, "a follower got other bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_reader_sees_what_was_appended(
        steps in prop::collection::vec(step(), 0..30),
        broken: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(play(steps, broken));
    }
}
