//! Workers that say why they pause: upstream's words stay, and what the worker says stands behind them in brackets.

use ocluster_scheduling::{Event, PauseNote};

use super::env::TestEnv;

#[test]
fn what_a_worker_says_of_its_pause_is_shown_behind_upstreams_words() {
    let mut env = TestEnv::upstream();
    let w1 = env.worker("w1");
    env.pause_because(w1, "the Docker engine does not answer");
    assert_eq!(
        env.line("w1"),
        "w1 (0): (inactive: worker pause (the Docker engine does not answer)) (0 running)"
    );
    env.admin("w1", false).unwrap();
    env.event(Event::ShuttingDown { worker: w1.0 }).unwrap();
    assert_eq!(
        env.line("w1"),
        "w1 (0): (inactive: worker pause (the Docker engine does not answer), admin pause, shutting down) (0 running)"
    );
    // What others wanted remains when the worker is well again, and its words go.
    env.resume(w1);
    assert_eq!(
        env.line("w1"),
        "w1 (0): (inactive: admin pause, shutting down) (0 running)"
    );
}

#[test]
fn the_last_word_about_a_pause_counts() {
    let mut env = TestEnv::balanced();
    let w1 = env.worker("w1");
    env.pause_because(w1, "one thing");
    env.pause_because(w1, "another\nthing");
    assert_eq!(
        env.line("w1"),
        "w1 (0): (inactive: worker pause (another thing)) (0 running)"
    );
    // Also if it is none, as of a worker which knows upstream's protocol only.
    env.pause(w1);
    assert_eq!(
        env.line("w1"),
        "w1 (0): (inactive: worker pause) (0 running)"
    );
    env.pause_because(w1, "one thing");
    env.resume(w1);
    env.pause(w1);
    assert_eq!(
        env.line("w1"),
        "w1 (0): (inactive: worker pause) (0 running)"
    );
}

#[test]
fn a_worker_that_pauses_with_a_reason_hands_its_queue_back() {
    for mut env in [TestEnv::upstream(), TestEnv::balanced()] {
        let w1 = env.worker("w1");
        env.submit("u:first", "h");
        let first = env.pop(w1);
        env.pump();
        assert_eq!(env.got(first), "first");
        let waiting = env.pop(w1);
        env.submit("u:second", "h");
        env.pause_because(w1, "pruning Docker");
        env.pump();
        assert_eq!(env.got(waiting), "waiting");
        let w2 = env.worker("w2");
        let pop = env.pop(w2);
        env.pump();
        assert_eq!(env.got(pop), "second");
    }
}

#[test]
fn a_worker_that_comes_back_under_its_name_is_not_taken_at_its_old_word() {
    let mut env = TestEnv::upstream();
    let w1 = env.worker("w1");
    env.pause_because(w1, "the disk is full");
    env.leave(w1);
    env.register("w1");
    assert_eq!(
        env.line("w1"),
        "w1 (0): (inactive: worker pause) (0 running)"
    );
}

/// What is known of the pause of `w`: who, why, and the second since when.
fn known_of_w(env: &TestEnv) -> Option<(String, String, u64)> {
    let known = env.cluster.known_workers(&env.pool).unwrap();
    let pause = known.into_iter().find(|w| w.name.as_str() == "w")?.pause?;
    let said = |note: Option<PauseNote>| note.map(|note| note.to_string()).unwrap_or_default();
    Some((said(pause.by), said(pause.why), pause.since_ms / 1000))
}

#[test]
fn an_administrators_words_about_a_pause_stay_until_it_ends() {
    let mut env = TestEnv::upstream();
    let w = env.worker("w");
    let said = |why: &str, since| Some(("ann".to_owned(), why.to_owned(), since));
    env.admin_pause("w", "ann", "disk swap");
    assert_eq!(known_of_w(&env), said("disk swap", 1));
    let view = env.cluster.view(&env.pool).unwrap();
    let why = view.workers[0].pause.clone().unwrap().why;
    assert_eq!(why, PauseNote::new("disk swap"));
    assert_eq!(
        env.line("w"),
        "w (0): (inactive: admin pause) (0 running)",
        "upstream's words stay alone"
    );
    // New words replace the old; none, as of upstream's tool, leave them.
    env.advance(5.0);
    env.admin_pause("w", "ann", "the swap takes longer");
    env.admin("w", false).unwrap();
    assert_eq!(known_of_w(&env), said("the swap takes longer", 6));
    env.leave(w);
    assert_eq!(known_of_w(&env), said("the swap takes longer", 6));
    env.restart();
    assert_eq!(known_of_w(&env), said("the swap takes longer", 6));
    env.admin("w", true).unwrap();
    assert_eq!(known_of_w(&env), None);
    env.admin("w", false).unwrap();
    assert_eq!(known_of_w(&env), None, "old words do not come back");
    env.restart();
    assert_eq!(known_of_w(&env), None);
    assert_eq!(env.line("w"), "w (paused)");
}

#[test]
fn the_same_words_about_a_pause_are_recorded_once() {
    let mut env = TestEnv::upstream();
    env.worker("w");
    env.admin_pause("w", "ann", "disk swap");
    env.records.clear();
    env.admin_pause("w", "ann", "disk swap");
    assert_eq!(env.records, []);
}
