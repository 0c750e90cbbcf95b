//! Random batches on sled, with restarts in between, compared with the memory store.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{accepted, client, debt, ended, hint, job, keyed, open, rate, recorded, worker};
use ocluster_store::{Change, JobId, JobMatch, JobState, MemoryStore, Store};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<Change>),
    Prune(usize, u64),
    Restart,
}

fn name() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["", "a", "ab", "b\0", "é"]).prop_map(str::to_owned)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        1 => (name(), name(), any::<bool>()).prop_map(|(p, n, paused)| worker(&p, &n, paused)),
        1 => (name(), name()).prop_map(|(pool, name)| Change::WorkerForgotten { pool, name }),
        4 => (name(), name(), 0u32..6).prop_map(|(h, w, day)| hint(&h, &w, day)),
        1 => (name(), name()).prop_map(|(hint, worker)| Change::HintDropped {
            pool: "p".to_owned(),
            hint,
            worker
        }),
        1 => (0u32..6).prop_map(|day| Change::HintsDroppedBefore { day }),
        1 => (name(), name(), 1u8..9).prop_map(|(p, c, r)| rate(&p, &c, f64::from(r))),
        1 => (name(), name()).prop_map(|(pool, client)| Change::RateDropped { pool, client }),
        2 => (name(), 0u8..6).prop_map(|(c, h)| client(&c, h)),
        1 => name().prop_map(|client| Change::ClientRemoved { client }),
        2 => (1u64..20).prop_map(|id| recorded(job(id))),
        3 => (1u64..20, 0u64..9000).prop_map(|(id, took)| recorded(ended(id, id * 1000 + took))),
        3 => (1u64..20).prop_map(accepted),
        2 => (1u64..20, name()).prop_map(|(id, key)| recorded(keyed(job(id), &key))),
        2 => (1u64..20, name()).prop_map(|(id, key)| recorded(keyed(ended(id, id * 1000 + 1), &key))),
        1 => (name(), name(), 0u8..9).prop_map(|(p, c, at)| debt(&p, &c, f64::from(at))),
        1 => (1u64..20).prop_map(|id| Change::JobDropped { id: JobId::new(id) }),
        1 => (0u64..100).prop_map(|next| Change::JobIdsReserved { next }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(change(), 0..8).prop_map(Step::Apply),
        1 => (0usize..6, 0u64..25_000).prop_map(|(keep, before)| Step::Prune(keep, before)),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn sled_holds_what_memory_holds(steps in prop::collection::vec(step(), 1..20)) {
        let dir = tempfile::tempdir().unwrap();
        let mut sled = open(dir.path());
        let memory = MemoryStore::new();
        for step in steps {
            match step {
                Step::Apply(batch) => {
                    sled.apply(&batch).unwrap();
                    memory.apply(&batch).unwrap();
                }
                Step::Prune(keep, before) => prop_assert_eq!(
                    sled.prune_jobs(keep, before).unwrap(),
                    memory.prune_jobs(keep, before).unwrap()
                ),
                Step::Restart => {
                    drop(sled);
                    sled = open(dir.path());
                }
            }
            for min_day in [0, 3] {
                prop_assert_eq!(sled.load(min_day).unwrap(), memory.load(min_day).unwrap());
            }
            for id in (1..20).map(JobId::new) {
                prop_assert_eq!(sled.description(id).unwrap(), memory.description(id).unwrap());
            }
            for key in ["", "a", "ab", "b\0", "é"] {
                prop_assert_eq!(
                    sled.job_by_key("alice", key).unwrap(),
                    memory.job_by_key("alice", key).unwrap()
                );
            }
            let filter = JobMatch {
                states: vec![JobState::Passed],
                ids: Some((JobId::new(3), JobId::new(15))),
                ..JobMatch::default()
            };
            for filter in [filter, JobMatch::default()] {
                let mut before = None;
                loop {
                    let page = sled.jobs_matching(&filter, before, 2, 3).unwrap();
                    prop_assert_eq!(&page, &memory.jobs_matching(&filter, before, 2, 3).unwrap());
                    before = page.next;
                    if before.is_none() {
                        break;
                    }
                }
            }
            prop_assert_eq!(sled.jobs(None, 50).unwrap(), memory.jobs(None, 50).unwrap());
        }
    }
}
