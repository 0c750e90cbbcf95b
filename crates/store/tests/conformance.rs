//! One suite of stories, run on every adapter. A new adapter is done when it passes here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{
    accepted, client, debt, durable, ended, hint, job, keyed, rate, recorded, sealed, worker,
};
use ocluster_store::{
    Attempt, Cause, Change, Hint, JobId, JobMatch, JobRecord, JobState, KnownWorker, MemoryStore,
    Pause, Snapshot, Store, TimeLimits,
};

/// Runs every story on a store of its own.
fn suite(make: &dyn Fn() -> Box<dyn Store>) {
    a_new_store_is_empty(make().as_ref());
    workers_are_known_with_their_pause_until_forgotten(make().as_ref());
    hints_keep_their_last_day(make().as_ref());
    old_hints_are_neither_loaded_nor_kept(make().as_ref());
    hints_that_move_in_one_batch_are_not_lost(make().as_ref());
    rates_are_set_and_dropped(make().as_ref());
    a_removed_client_takes_its_refs_and_rates_along(make().as_ref());
    names_of_any_kind_come_back(make().as_ref());
    a_batch_takes_effect_in_order(make().as_ref());
    job_records_are_found_by_id_and_replaced(make().as_ref());
    jobs_are_listed_newest_first_page_by_page(make().as_ref());
    only_open_jobs_are_loaded(make().as_ref());
    ended_jobs_are_pruned_by_age_and_number(make().as_ref());
    job_ids_are_never_taken_back(make().as_ref());
    a_pause_comes_back_with_who_and_why(make().as_ref());
    debts_are_kept_until_their_client_is_removed(make().as_ref());
    a_description_stays_as_long_as_its_job_is_open(make().as_ref());
    every_field_of_a_record_comes_back(make().as_ref());
    a_client_finds_its_job_by_its_key(make().as_ref());
    a_key_goes_with_its_record(make().as_ref());
    searches_give_what_matches_page_by_page(make().as_ref());
    searches_look_at_a_bounded_number_of_records(make().as_ref());
    open_jobs_far_apart_are_all_loaded_in_order(make().as_ref());
    settings_are_loaded_without_jobs(make().as_ref());
}

#[test]
fn memory_conforms() {
    suite(&|| Box::new(MemoryStore::new()));
}

#[test]
fn sled_conforms() {
    // The directories live as long as the test.
    let root = tempfile::tempdir().unwrap();
    let next = std::cell::Cell::new(0);
    suite(&|| {
        next.set(next.get() + 1);
        Box::new(common::open(&root.path().join(next.get().to_string())))
    });
}

fn load(store: &dyn Store) -> Snapshot {
    store.load(0).unwrap()
}

fn a_new_store_is_empty(store: &dyn Store) {
    let found = load(store);
    let expected = Snapshot {
        next_job_id: JobId::new(1),
        ..Snapshot::default()
    };
    assert_eq!(found, expected);
    assert_eq!(store.job(JobId::new(1)).unwrap(), None);
    assert_eq!(store.jobs(None, 10).unwrap(), []);
    assert_eq!(store.health(), Ok(()));
}

fn workers_are_known_with_their_pause_until_forgotten(store: &dyn Store) {
    store
        .apply(&[
            worker("b", "w2", false),
            worker("a", "w1", true),
            worker("b", "w1", false),
        ])
        .unwrap();
    store.apply(&[worker("b", "w2", true)]).unwrap();
    let known = |pool: &str, name: &str, paused| KnownWorker {
        pool: pool.to_owned(),
        name: name.to_owned(),
        paused,
        pause: None,
    };
    assert_eq!(
        load(store).workers,
        [
            known("a", "w1", true),
            known("b", "w1", false),
            known("b", "w2", true)
        ]
    );
    let forget = Change::WorkerForgotten {
        pool: "b".to_owned(),
        name: "w1".to_owned(),
    };
    store.apply(std::slice::from_ref(&forget)).unwrap();
    store.apply(&[forget]).unwrap();
    assert_eq!(
        load(store).workers,
        [known("a", "w1", true), known("b", "w2", true)]
    );
}

fn days(store: &dyn Store, min_day: u32) -> Vec<(String, String, u32)> {
    let hints = store.load(min_day).unwrap().hints;
    hints
        .into_iter()
        .map(
            |Hint {
                 hint, worker, day, ..
             }| (hint, worker, day),
        )
        .collect()
}

fn found(hint: &str, worker: &str, day: u32) -> (String, String, u32) {
    (hint.to_owned(), worker.to_owned(), day)
}

fn hints_keep_their_last_day(store: &dyn Store) {
    store
        .apply(&[hint("h", "w1", 5), hint("h", "w2", 6)])
        .unwrap();
    store.apply(&[hint("h", "w1", 5)]).unwrap();
    store.apply(&[hint("h", "w1", 9)]).unwrap();
    assert_eq!(days(store, 0), [found("h", "w1", 9), found("h", "w2", 6)]);
    let drop = Change::HintDropped {
        pool: "p".to_owned(),
        hint: "h".to_owned(),
        worker: "w2".to_owned(),
    };
    store.apply(&[drop]).unwrap();
    assert_eq!(days(store, 0), [found("h", "w1", 9)]);
}

fn old_hints_are_neither_loaded_nor_kept(store: &dyn Store) {
    let cached: Vec<_> = (0..300)
        .map(|day| hint(&format!("h{day:03}"), "w", day))
        .collect();
    store.apply(&cached).unwrap();
    // One of the old ones was used again since.
    store.apply(&[hint("h007", "w", 299)]).unwrap();
    assert_eq!(
        days(store, 299),
        [found("h007", "w", 299), found("h299", "w", 299)]
    );
    store
        .apply(&[Change::HintsDroppedBefore { day: 298 }])
        .unwrap();
    assert_eq!(
        days(store, 0),
        [
            found("h007", "w", 299),
            found("h298", "w", 298),
            found("h299", "w", 299)
        ]
    );
}

fn hints_that_move_in_one_batch_are_not_lost(store: &dyn Store) {
    store.apply(&[hint("old", "w", 1)]).unwrap();
    store
        .apply(&[
            hint("old", "w", 9),
            hint("new", "w", 2),
            Change::HintsDroppedBefore { day: 5 },
            hint("new", "w", 3),
        ])
        .unwrap();
    assert_eq!(days(store, 0), [found("new", "w", 3), found("old", "w", 9)]);
    store
        .apply(&[Change::HintsDroppedBefore { day: 9 }])
        .unwrap();
    assert_eq!(days(store, 0), [found("old", "w", 9)]);
}

fn rates(store: &dyn Store) -> Vec<(String, String, f64)> {
    let rates = load(store).rates;
    rates
        .into_iter()
        .map(|r| (r.pool, r.client, r.rate))
        .collect()
}

fn rates_are_set_and_dropped(store: &dyn Store) {
    store
        .apply(&[rate("p", "bob", 2.0), rate("p", "alice", 0.1 + 0.2)])
        .unwrap();
    store.apply(&[rate("p", "bob", 4.5)]).unwrap();
    let alice = ("p".to_owned(), "alice".to_owned(), 0.1 + 0.2);
    let bob = ("p".to_owned(), "bob".to_owned(), 4.5);
    assert_eq!(rates(store), [alice, bob.clone()]);
    let drop = Change::RateDropped {
        pool: "p".to_owned(),
        client: "alice".to_owned(),
    };
    store.apply(&[drop]).unwrap();
    assert_eq!(rates(store), [bob]);
}

fn a_removed_client_takes_its_refs_and_rates_along(store: &dyn Store) {
    store
        .apply(&[
            client("alice", 1),
            client("alice", 2),
            client("bob", 3),
            rate("p", "alice", 1.0),
            rate("q", "alice", 2.0),
            rate("q", "bob", 3.0),
            recorded(job(7)),
        ])
        .unwrap();
    let remove = Change::ClientRemoved {
        client: "alice".to_owned(),
    };
    // Also what the same batch has just added.
    store
        .apply(&[client("alice", 4), rate("r", "alice", 1.0), remove.clone()])
        .unwrap();
    let left = load(store);
    assert_eq!(left.clients.len(), 1);
    assert_eq!(
        (left.clients[0].client.as_str(), left.clients[0].hash),
        ("bob", [3; 32])
    );
    assert_eq!(left.clients[0].created_day, 20_000);
    assert_eq!(rates(store), [("q".to_owned(), "bob".to_owned(), 3.0)]);
    assert!(
        store.job(JobId::new(7)).unwrap().is_some(),
        "its jobs' records stay"
    );
    // The same name can come back with another secret.
    store.apply(&[remove, client("alice", 9)]).unwrap();
    assert_eq!(load(store).clients.len(), 2);
}

fn names_of_any_kind_come_back(store: &dyn Store) {
    let odd = ["", "\0", "a\0b", "é/ü", "a", "aa", "\u{10ffff}", "w"];
    let mut batch = Vec::new();
    for pool in odd {
        for name in odd {
            batch.push(worker(pool, name, false));
            batch.push(rate(pool, name, 1.0));
        }
    }
    let long = "x".repeat(100_000);
    batch.push(hint(&long, "w", 1));
    store.apply(&batch).unwrap();
    let found = load(store);
    assert_eq!(found.workers.len(), odd.len() * odd.len());
    assert_eq!(found.rates.len(), odd.len() * odd.len());
    assert_eq!(found.hints[0].hint, long);
    assert!(
        found
            .workers
            .iter()
            .any(|w| w.pool == "a\0b" && w.name == "\0")
    );
}

fn a_batch_takes_effect_in_order(store: &dyn Store) {
    store
        .apply(&[
            worker("p", "w", true),
            Change::WorkerForgotten {
                pool: "p".to_owned(),
                name: "w".to_owned(),
            },
            worker("p", "w", false),
            recorded(job(1)),
            Change::JobDropped { id: JobId::new(1) },
        ])
        .unwrap();
    let found = load(store);
    assert_eq!(found.workers.len(), 1);
    assert!(!found.workers[0].paused);
    assert_eq!(found.open_jobs, []);
    store.apply(&[]).unwrap();
}

fn job_records_are_found_by_id_and_replaced(store: &dyn Store) {
    let mut record = job(5);
    store.apply(&[recorded(record.clone())]).unwrap();
    assert_eq!(store.job(record.id).unwrap(), Some(record.clone()));
    record.state = JobState::Running;
    record.worker = Some("w1".to_owned());
    record.attempt = 1;
    record.times.started = Some(6000);
    store.apply(&[recorded(record.clone())]).unwrap();
    assert_eq!(store.job(record.id).unwrap(), Some(record.clone()));
    record.state = JobState::Failed;
    record.cause = Some(Cause {
        code: "exit".to_owned(),
        sentence: "the build exited with 2".to_owned(),
    });
    record.times.ended = Some(7000);
    record.log_length = 1 << 40;
    store.apply(&[recorded(record.clone())]).unwrap();
    assert_eq!(store.job(record.id).unwrap(), Some(record.clone()));
    assert_eq!(store.jobs(None, 10).unwrap(), [record.clone()]);
    store
        .apply(&[Change::JobDropped { id: record.id }])
        .unwrap();
    assert_eq!(store.job(record.id).unwrap(), None);
    assert_eq!(store.jobs(None, 10).unwrap(), []);
}

fn jobs_are_listed_newest_first_page_by_page(store: &dyn Store) {
    // Ended and open ones mixed, and ids whose bytes would sort wrongly as text.
    let ids = [1, 2, 255, 256, 257, 65_536, 1 << 40];
    for id in ids {
        let record = if id % 2 == 0 {
            job(id)
        } else {
            ended(id, id * 1000 + 1)
        };
        store.apply(&[recorded(record)]).unwrap();
    }
    let list = |before: Option<u64>, limit| -> Vec<u64> {
        let records = store.jobs(before.map(JobId::new), limit).unwrap();
        records.iter().map(|record| record.id.get()).collect()
    };
    assert_eq!(list(None, 100), [1 << 40, 65_536, 257, 256, 255, 2, 1]);
    assert_eq!(list(None, 3), [1 << 40, 65_536, 257]);
    assert_eq!(list(Some(257), 3), [256, 255, 2]);
    assert_eq!(list(Some(2), 3), [1]);
    assert!(list(Some(1), 3).is_empty());
    assert!(list(None, 0).is_empty());
}

fn only_open_jobs_are_loaded(store: &dyn Store) {
    store
        .apply(&[recorded(job(3)), recorded(ended(1, 1500)), recorded(job(2))])
        .unwrap();
    let open: Vec<u64> = load(store).open_jobs.iter().map(|j| j.id.get()).collect();
    assert_eq!(open, [2, 3]);
    store.apply(&[recorded(ended(2, 9000))]).unwrap();
    let open: Vec<u64> = load(store).open_jobs.iter().map(|j| j.id.get()).collect();
    assert_eq!(open, [3]);
}

fn ended_jobs_are_pruned_by_age_and_number(store: &dyn Store) {
    // Job 1 ran long: it was submitted first and ended last.
    store.apply(&[recorded(ended(1, 90_000))]).unwrap();
    for id in 2..=9 {
        store
            .apply(&[recorded(ended(id, id * 1000 + 500))])
            .unwrap();
    }
    store.apply(&[recorded(job(10))]).unwrap();
    let left = |store: &dyn Store| -> Vec<u64> {
        let records = store.jobs(None, 100).unwrap();
        records.iter().map(|record| record.id.get()).collect()
    };
    assert_eq!(store.prune_jobs(100, 4500).unwrap(), 2);
    assert_eq!(left(store), [10, 9, 8, 7, 6, 5, 4, 1]);
    assert_eq!(store.prune_jobs(3, 0).unwrap(), 4);
    assert_eq!(
        left(store),
        [10, 9, 8, 7],
        "open jobs are not counted and stay"
    );
    assert_eq!(store.prune_jobs(0, u64::MAX).unwrap(), 3);
    assert_eq!(left(store), [10]);
    assert_eq!(store.prune_jobs(0, u64::MAX).unwrap(), 0);
}

fn job_ids_are_never_taken_back(store: &dyn Store) {
    store
        .apply(&[Change::JobIdsReserved { next: 5000 }])
        .unwrap();
    store
        .apply(&[Change::JobIdsReserved { next: 300 }])
        .unwrap();
    assert_eq!(load(store).next_job_id, JobId::new(5000));
}

fn a_pause_comes_back_with_who_and_why(store: &dyn Store) {
    let pause = Pause {
        by: Some("ann".to_owned()),
        why: None,
        since_ms: 5,
    };
    let known = |pause: Option<Pause>| Change::WorkerKnown {
        pool: "p".to_owned(),
        name: "w".to_owned(),
        paused: pause.is_some(),
        pause,
    };
    store.apply(&[known(Some(pause.clone()))]).unwrap();
    assert_eq!(load(store).workers[0].pause, Some(pause));
    store.apply(&[known(None)]).unwrap();
    let found = load(store).workers;
    assert_eq!((found[0].paused, found[0].pause.clone()), (false, None));
}

fn debts_are_kept_until_their_client_is_removed(store: &dyn Store) {
    let debts = |store: &dyn Store| -> Vec<(String, String, f64)> {
        let debts = load(store).debts;
        debts
            .into_iter()
            .map(|d| (d.pool, d.client, d.next_fair_start))
            .collect()
    };
    store
        .apply(&[
            debt("q", "alice", 1.25),
            debt("p", "bob", 2.0),
            debt("p", "alice", 3.0),
        ])
        .unwrap();
    store.apply(&[debt("p", "alice", -0.5)]).unwrap();
    let named = |pool: &str, client: &str, at| (pool.to_owned(), client.to_owned(), at);
    assert_eq!(
        debts(store),
        [
            named("p", "alice", -0.5),
            named("p", "bob", 2.0),
            named("q", "alice", 1.25)
        ]
    );
    let remove = Change::ClientRemoved {
        client: "alice".to_owned(),
    };
    store.apply(&[debt("r", "alice", 9.0), remove]).unwrap();
    assert_eq!(debts(store), [named("p", "bob", 2.0)]);
}

fn described(store: &dyn Store, id: u64) -> Option<Vec<u8>> {
    store.description(JobId::new(id)).unwrap()
}

fn a_description_stays_as_long_as_its_job_is_open(store: &dyn Store) {
    let large = vec![7; 1 << 20];
    let big = Change::JobAccepted {
        record: Box::new(durable(4)),
        description: large.clone(),
    };
    store
        .apply(&[accepted(1), accepted(2), accepted(3), big])
        .unwrap();
    assert_eq!(described(store, 1), Some(sealed(1)));
    assert_eq!(described(store, 4), Some(large));
    assert_eq!(load(store).open_jobs.len(), 4);
    // A new record of a job that goes on changes nothing,
    let mut running = durable(1);
    running.state = JobState::Running;
    store.apply(&[recorded(running)]).unwrap();
    assert_eq!(described(store, 1), Some(sealed(1)));
    // its end does, and so does dropping it,
    store
        .apply(&[
            recorded(ended(1, 5)),
            Change::JobDropped { id: JobId::new(2) },
        ])
        .unwrap();
    assert_eq!((described(store, 1), described(store, 2)), (None, None));
    assert_eq!(described(store, 3), Some(sealed(3)));
    // and a job that was over when it came has none.
    let over = Change::JobAccepted {
        record: Box::new(ended(5, 5)),
        description: sealed(5),
    };
    store.apply(&[over]).unwrap();
    assert_eq!(described(store, 5), None);
    assert_eq!(described(store, 6), None);
}

fn every_field_of_a_record_comes_back(store: &dyn Store) {
    let cause = |code: &str| Cause {
        code: code.to_owned(),
        sentence: format!("a sentence about {code}"),
    };
    let full = JobRecord {
        state: JobState::Running,
        cause: Some(cause("x")),
        worker: Some("w".to_owned()),
        attempt: 2,
        log_digest: Some([4; 32]),
        fair_start: 1_700_000_000.125,
        limits: TimeLimits {
            running: Some(1),
            queued: Some(u64::MAX),
            silent: None,
        },
        attempts: vec![
            Attempt {
                number: 1,
                worker: "v".to_owned(),
                started: 1,
                ended: 2,
                cause: cause("worker-lost"),
                log_start: 0,
                counts: false,
            };
            JobRecord::MAX_ATTEMPTS
        ],
        log_start: 77,
        worker_identity: Some([5; 32]),
        submission_digest: Some([6; 32]),
        stop: Some(cause("cancelled")),
        ..keyed(durable(8), "once")
    };
    let accepted = Change::JobAccepted {
        record: Box::new(full.clone()),
        description: sealed(8),
    };
    store.apply(&[accepted]).unwrap();
    assert_eq!(store.job(full.id).unwrap(), Some(full.clone()));
    assert_eq!(load(store).open_jobs, [full]);
}

fn by_key(store: &dyn Store, client: &str, key: &str) -> Option<u64> {
    let found = store.job_by_key(client, key).unwrap();
    found.map(|job| job.id.get())
}

fn a_client_finds_its_job_by_its_key(store: &dyn Store) {
    let bobs = JobRecord {
        client: "bob".to_owned(),
        ..keyed(job(2), "k")
    };
    store
        .apply(&[
            recorded(keyed(job(1), "k")),
            recorded(bobs),
            recorded(job(3)),
        ])
        .unwrap();
    assert_eq!(by_key(store, "alice", "k"), Some(1));
    assert_eq!(by_key(store, "bob", "k"), Some(2));
    assert_eq!(by_key(store, "alice", "other"), None);
    assert_eq!(by_key(store, "alice", ""), None);
    // The record is the latest, and the key is still there when the job is over.
    store.apply(&[recorded(keyed(ended(1, 5), "k"))]).unwrap();
    let found = store.job_by_key("alice", "k").unwrap().unwrap();
    assert_eq!(found.state, JobState::Passed);
}

fn a_key_goes_with_its_record(store: &dyn Store) {
    let over = |id, key: &str| recorded(keyed(ended(id, id * 1000), key));
    store
        .apply(&[
            over(1, "a"),
            over(2, "b"),
            over(3, "c"),
            recorded(keyed(job(4), "d")),
        ])
        .unwrap();
    store
        .apply(&[Change::JobDropped { id: JobId::new(4) }])
        .unwrap();
    assert_eq!(by_key(store, "alice", "d"), None);
    // By age, by number.
    assert_eq!(store.prune_jobs(9, 1500).unwrap(), 1);
    assert_eq!(by_key(store, "alice", "a"), None);
    assert_eq!(store.prune_jobs(1, 0).unwrap(), 1);
    assert_eq!(by_key(store, "alice", "b"), None);
    assert_eq!(by_key(store, "alice", "c"), Some(3));
    // A key that passed to a newer job stays with it.
    store.apply(&[over(5, "c")]).unwrap();
    store
        .apply(&[Change::JobDropped { id: JobId::new(3) }])
        .unwrap();
    assert_eq!(by_key(store, "alice", "c"), Some(5));
    store.apply(&[recorded(ended(5, 5000))]).unwrap();
    assert_eq!(by_key(store, "alice", "c"), None);
}

/// Ids of all that matches, read in pages.
fn search(store: &dyn Store, filter: &JobMatch, limit: usize, scan: usize) -> Vec<u64> {
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = store.jobs_matching(filter, before, limit, scan).unwrap();
        assert!(page.records.len() <= limit.min(scan));
        found.extend(page.records.iter().map(|job| job.id.get()));
        match page.next {
            Some(next) => before = Some(next),
            None => return found,
        }
    }
}

fn searches_give_what_matches_page_by_page(store: &dyn Store) {
    for id in 1..=20 {
        let record = if id % 2 == 0 { job(id) } else { ended(id, 9) };
        let record = JobRecord {
            client: ["alice", "bob", "carol"][usize::try_from(id).unwrap() % 3].to_owned(),
            pool: if id <= 10 { "p" } else { "q" }.to_owned(),
            ..record
        };
        store.apply(&[recorded(record)]).unwrap();
    }
    let all = JobMatch::default();
    let bobs = JobMatch {
        client: Some("bob".to_owned()),
        ..JobMatch::default()
    };
    let bobs_in_q = JobMatch {
        pool: Some("q".to_owned()),
        ..bobs.clone()
    };
    let passed = JobMatch {
        states: vec![JobState::Passed, JobState::Failed],
        ..bobs.clone()
    };
    let queued = JobMatch {
        states: vec![JobState::Queued],
        ..bobs.clone()
    };
    let some = JobMatch {
        ids: Some((JobId::new(4), JobId::new(7))),
        ..JobMatch::default()
    };
    let none = JobMatch {
        ids: Some((JobId::new(7), JobId::new(4))),
        ..JobMatch::default()
    };
    for (limit, scan) in [(100, 100), (1, 100), (2, 3), (1, 1)] {
        let found = |filter| search(store, filter, limit, scan);
        assert_eq!(found(&all), (1..=20).rev().collect::<Vec<u64>>());
        assert_eq!(found(&bobs), [19, 16, 13, 10, 7, 4, 1]);
        assert_eq!(found(&bobs_in_q), [19, 16, 13]);
        assert_eq!(found(&passed), [19, 13, 7, 1]);
        assert_eq!(found(&queued), [16, 10, 4]);
        assert_eq!(found(&some), [7, 6, 5, 4]);
        assert_eq!(found(&none), [0u64; 0]);
    }
    let before = store
        .jobs_matching(&some, Some(JobId::new(6)), 10, 10)
        .unwrap();
    let ids: Vec<u64> = before.records.iter().map(|job| job.id.get()).collect();
    assert_eq!((ids, before.next), (vec![5, 4], None));
    let none = store.jobs_matching(&all, Some(JobId::new(0)), 10, 10);
    assert_eq!(none.unwrap().records, []);
}

fn searches_look_at_a_bounded_number_of_records(store: &dyn Store) {
    for id in 1..=10 {
        store.apply(&[recorded(job(id))]).unwrap();
    }
    let nobody = JobMatch {
        client: Some("nobody".to_owned()),
        ..JobMatch::default()
    };
    let page = store.jobs_matching(&nobody, None, 5, 4).unwrap();
    assert_eq!((page.records, page.next), (vec![], Some(JobId::new(7))));
    let page = store
        .jobs_matching(&nobody, Some(JobId::new(5)), 5, 4)
        .unwrap();
    assert_eq!(page.next, None, "nothing is left after the last one");
    // Bounds of nothing still make progress.
    let page = store
        .jobs_matching(&JobMatch::default(), None, 0, 0)
        .unwrap();
    assert_eq!((page.records.len(), page.next), (1, Some(JobId::new(10))));
}

fn open_jobs_far_apart_are_all_loaded_in_order(store: &dyn Store) {
    // An adapter may read them in parts: these lie at the ends, in the middle, and close to where parts could meet.
    let ids = [
        1,
        2,
        49_999,
        50_000,
        50_001,
        99_999,
        100_000,
        1 << 40,
        u64::MAX,
    ];
    let batch: Vec<Change> = ids
        .into_iter()
        .map(|id| {
            recorded(JobRecord {
                id: JobId::new(id),
                ..job(1)
            })
        })
        .collect();
    for count in 1..=ids.len() {
        store.apply(&batch[..count]).unwrap();
        let open = load(store).open_jobs;
        let found: Vec<u64> = open.iter().map(|job| job.id.get()).collect();
        assert_eq!(found, ids[..count]);
        // What was read at the start is not what is read later.
        assert_eq!(load(store).open_jobs.len(), count);
        let mut piecemeal = Vec::new();
        loop {
            let after = piecemeal.last().map(|job: &JobRecord| job.id);
            let piece = store.open_jobs(after, 7).unwrap();
            if piece.is_empty() {
                break;
            }
            piecemeal.extend(piece);
        }
        assert_eq!(piecemeal, load(store).open_jobs);
    }
}

fn settings_are_loaded_without_jobs(store: &dyn Store) {
    store
        .apply(&[
            worker("p", "w", false),
            hint("h", "w", 3),
            rate("p", "c", 2.0),
            debt("p", "c", 3.0),
            client("c", 1),
            accepted(4),
            Change::JobIdsReserved { next: 9 },
        ])
        .unwrap();
    let found = store.load_without_jobs(0).unwrap();
    let mut expected = load(store);
    assert_eq!(expected.open_jobs.len(), 1);
    expected.open_jobs.clear();
    assert_eq!(found, expected);
}
