//! Workers that come back with jobs, or say that they do: what is adopted, at which byte, and what is refused and told so.

use std::rc::Rc;

use crate::support::client::{follow, read_at, result, whole_log};
use crate::support::keeper::Kept;
use crate::support::leased::{
    Holding, Joining, LeasedBuild, LeasedGiven, LeasedWorker, Outcome, Verdict,
};
use crate::support::site::{Running, Site};
use crate::support::stoppable::Stoppable;
use crate::support::{eventually, story};

/// A kept job on the worker `w`, whose connection is about to break.
struct Scene {
    site: Site,
    scheduler: Running,
    kept: Kept,
    given: LeasedGiven,
    worker: Option<LeasedWorker>,
}

impl Scene {
    async fn new() -> Self {
        let site = Site::new();
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("example").await;
        let mut worker = scheduler.leased_worker("w").await;
        let given = worker.next().await;
        given.write("first line\n");
        let scene = Self {
            site,
            scheduler,
            kept,
            given,
            worker: Some(worker),
        };
        scene.log_is_here().await;
        scene
    }

    /// Waits until the scheduler has the whole log so far.
    async fn log_is_here(&self) {
        let length = self.given.build.log_length();
        eventually("the log is here", async || {
            (self.kept.info().await.log_length == length).then_some(())
        })
        .await;
    }

    /// The worker's connection is lost, and the scheduler knows.
    async fn away(&mut self) {
        self.worker.take().unwrap().vanish().await;
        eventually("the job waits for its worker", async || {
            self.kept.info().await.waits_for_worker.then_some(())
        })
        .await;
    }

    async fn join(&self, joining: Joining) -> (LeasedWorker, Vec<Verdict>) {
        self.scheduler.leased_worker_with(joining).await.unwrap()
    }

    /// The worker comes back with the truth, and the job ends well, once.
    async fn ends_well(&self) {
        let joining = Joining::new("w").holding(self.given.held());
        let (_worker, verdicts) = self.join(joining).await;
        assert!(verdicts[0].adopted, "{verdicts:?}");
        self.given.succeed("out");
        let ended = self.kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 1, "w"));
        assert_eq!(whole_log(&self.kept.job()).await, self.given.build.log());
    }
}

fn refused(verdict: &Verdict) -> &str {
    assert!(!verdict.adopted, "{verdict:?}");
    assert!(!verdict.reason.is_empty());
    &verdict.reason
}

#[test]
fn a_worker_that_comes_back_goes_on_where_it_was() {
    story(async {
        let mut scene = Scene::new().await;
        let seen = i64::try_from(scene.given.build.log_length()).unwrap();
        let outcome = result(&scene.kept.job());
        scene.away().await;
        scene.given.write("while it was away\n");
        scene.given.build.reads.borrow_mut().clear();
        let rest = read_at(&scene.kept.job(), seen);
        scene.ends_well().await;
        assert!(rest.await.unwrap().0.starts_with("while it was away\n"));
        assert_eq!(scene.given.build.reads.borrow().first(), Some(&seen));
        assert_eq!(outcome.await, Ok("out".to_owned()));
        scene.given.build.settled.cancelled().await;
        assert!(!scene.given.build.cancelled.is_cancelled());
    });
}

#[test]
fn a_worker_may_be_away_again_and_again() {
    story(async {
        let mut scene = Scene::new().await;
        for number in 0..5 {
            scene.away().await;
            scene.given.write(&format!("line {number}\n"));
            let joining = Joining::new("w").holding(scene.given.held());
            let (worker, verdicts) = scene.join(joining).await;
            assert!(verdicts[0].adopted, "{verdicts:?}");
            scene.worker = Some(worker);
            assert_eq!(scene.kept.info().await.stand(), ("running", 1, "w"));
        }
        scene.away().await;
        scene.ends_well().await;
    });
}

#[test]
fn a_job_that_the_worker_never_had_is_refused() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        let invented = Holding {
            id: scene.given.id + 1000,
            attempt: 1,
            log_length: 5,
            build: Rc::new(LeasedBuild::default()),
        };
        let joining = Joining::new("w")
            .holding(invented)
            .holding(scene.given.held());
        let (_worker, verdicts) = scene.join(joining).await;
        refused(&verdicts[0]);
        assert!(verdicts[1].adopted, "{verdicts:?}");
        scene.given.succeed("out");
        assert_eq!(scene.kept.ended().await.unwrap().attempt, 1);
    });
}

#[test]
fn a_job_of_another_worker_is_refused_and_goes_on_there() {
    story(async {
        let scene = Scene::new().await;
        let theft = Holding {
            build: Rc::new(LeasedBuild::default()),
            ..scene.given.held()
        };
        theft
            .build
            .write("something else altogether, and more of it\n");
        theft.build.end(Outcome {
            state: "passed",
            output: "stolen".to_owned(),
            ..Outcome::default()
        });
        let (_thief, verdicts) = scene.join(Joining::new("thief").holding(theft)).await;
        let of_another = refused(&verdicts[0]).to_owned();
        // A queued job, and one that never was, get the same answer, but for what the worker itself said.
        let queued = scene.scheduler.keeper().await;
        assert_eq!(scene.kept.info().await.stand(), ("running", 1, "w"));
        drop(queued);
        assert!(!of_another.contains("w\""), "{of_another}");
        scene.given.succeed("out");
        let ended = scene.kept.ended().await.unwrap();
        assert_eq!(
            (ended.stand(), ended.output.as_str()),
            (("passed", 1, "w"), "out")
        );
        assert_eq!(whole_log(&scene.kept.job()).await, scene.given.build.log());
    });
}

#[test]
fn an_old_attempt_is_refused() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        let mut old = scene.given.held();
        for wrong in [0, 2, u32::MAX] {
            old.attempt = wrong;
            let (worker, verdicts) = scene.join(Joining::new("other").holding(old.clone())).await;
            refused(&verdicts[0]);
            worker.vanish().await;
        }
        scene.ends_well().await;
    });
}

#[test]
fn a_log_that_is_shorter_than_what_was_seen_is_refused_and_the_job_runs_again() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        let shorter = Holding {
            log_length: scene.given.build.log_length() - 1,
            ..scene.given.held()
        };
        let (mut worker, verdicts) = scene.join(Joining::new("w").holding(shorter)).await;
        let reason = refused(&verdicts[0]);
        assert!(reason.contains("bytes"), "{reason}");
        let before = scene.given.build.log();
        let again = worker.next().await;
        assert_eq!(again.attempt, 2);
        again.succeed("out");
        let ended = scene.kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 2, "w"));
        let log = whole_log(&scene.kept.job()).await;
        assert!(log.starts_with(&before), "{log}");
        assert!(log.ends_with(&again.build.log()), "{log}");
    });
}

#[test]
fn a_job_that_is_declared_twice_is_adopted_at_most_once() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        let twin = Holding {
            build: Rc::new(LeasedBuild::default()),
            ..scene.given.held()
        };
        let joining = Joining::new("w")
            .capacity(2)
            .holding(scene.given.held())
            .holding(twin);
        let (_worker, verdicts) = scene.join(joining).await;
        assert!(verdicts[0].adopted, "{verdicts:?}");
        let reason = refused(&verdicts[1]);
        assert!(reason.contains("twice"), "{reason}");
        scene.given.succeed("out");
        let ended = scene.kept.ended().await.unwrap();
        assert_eq!(
            (ended.stand(), ended.output.as_str()),
            (("passed", 1, "w"), "out")
        );
    });
}

#[test]
fn another_machine_under_the_same_name_gets_nothing_of_it() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        let other = Joining::new("w")
            .identity(b"of quite another machine")
            .holding(scene.given.held());
        let (other, verdicts) = scene.join(other).await;
        refused(&verdicts[0]);
        other.vanish().await;
        eventually("the other one is gone", async || {
            scene.kept.info().await.waits_for_worker.then_some(())
        })
        .await;
        scene.ends_well().await;
    });
}

/// It says that it has more of the log than it then gives.
#[test]
fn a_worker_that_claims_more_log_than_it_gives_is_found_out() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        let longer = Holding {
            log_length: scene.given.build.log_length() + 1_000_000,
            ..scene.given.held()
        };
        let (_worker, verdicts) = scene.join(Joining::new("w").holding(longer)).await;
        assert!(verdicts[0].adopted, "{verdicts:?}");
        scene.given.build.write("the end\n");
        scene.given.build.end(Outcome {
            state: "passed",
            output: "out".to_owned(),
            claims: Some(1_000_000),
            ..Outcome::default()
        });
        let ended = scene.kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("passed", 1, "w"));
        let (log, error) = follow(&scene.kept.job()).await;
        assert_eq!(log, scene.given.build.log());
        let error = error.unwrap();
        assert!(error.contains("1000000 bytes"), "{error}");
    });
}

/// A worker that lost its state, or was reinstalled: what it was given is lost, and it is the first to know.
#[test]
fn what_a_worker_comes_back_without_is_tried_again_at_once() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        let (mut worker, verdicts) = scene.join(Joining::new("w")).await;
        assert!(verdicts.is_empty());
        let again = worker.next().await;
        assert_eq!((again.id, again.attempt), (scene.given.id, 2));
        again.succeed("out");
        let ended = scene.kept.ended().await.unwrap();
        assert_eq!(ended.story(), [(1, "w", "worker-lost"), (2, "w", "")]);
    });
}

/// Its old connection is dead, and nobody has noticed yet.
#[test]
fn a_worker_that_proves_to_be_the_same_takes_the_place_of_its_ghost_at_once() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        let kept = scheduler.keeper().await.keep("example").await;
        let (connection, stopped) = Stoppable::connect(&scheduler).await;
        let (mut ghost, _) =
            LeasedWorker::join(connection, &scheduler.pool_id(), Joining::new("w"))
                .await
                .unwrap();
        let given = ghost.next().await;
        eventually("the log has begun", async || {
            (kept.info().await.log_length > 0).then_some(())
        })
        .await;
        stopped.set(true);
        let began = std::time::Instant::now();
        let joining = Joining::new("w").holding(given.held());
        let (_worker, verdicts) = scheduler.leased_worker_with(joining).await.unwrap();
        assert!(verdicts[0].adopted, "{verdicts:?}");
        // Others have to wait until a ping goes unanswered, which takes 5 s.
        assert!(began.elapsed().as_secs() < 4, "{:?}", began.elapsed());
        given.succeed("out");
        let ended = kept.ended().await.unwrap();
        assert_eq!(
            (ended.stand(), ended.output.as_str()),
            (("passed", 1, "w"), "out")
        );
        assert_eq!(whole_log(&kept.job()).await, given.build.log());
    });
}

#[test]
fn a_stranger_does_not_put_a_living_worker_out() {
    story(async {
        let scene = Scene::new().await;
        let stranger = Joining::new("w").identity(b"of quite another machine");
        let refused = scene.scheduler.leased_worker_with(stranger).await;
        let refused = refused.err().unwrap();
        assert_eq!(refused, "Failed: Worker already registered!");
        scene.given.succeed("out");
        assert_eq!(
            scene.kept.ended().await.unwrap().stand(),
            ("passed", 1, "w")
        );
    });
}

#[test]
fn a_secret_that_can_be_guessed_is_none() {
    story(async {
        let site = Site::new();
        let scheduler = site.start().await;
        for short in [&b""[..], b"fifteen bytes.."] {
            let joining = Joining::new("w").identity(short);
            let refused = scheduler.leased_worker_with(joining).await.err().unwrap();
            assert!(refused.contains("16"), "{refused}");
        }
    });
}

/// What the scheduler could not hear because the connection was lost in between.
#[test]
fn an_outcome_whose_log_was_cut_off_is_completed_when_the_worker_is_back() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        scene.given.write("the last line\n");
        scene.given.succeed("out");
        assert!(!scene.given.build.settled.is_cancelled());
        let joining = Joining::new("w").holding(scene.given.held());
        let (_worker, verdicts) = scene.join(joining).await;
        assert!(verdicts[0].adopted, "{verdicts:?}");
        let ended = scene.kept.ended().await.unwrap();
        assert_eq!(
            (ended.stand(), ended.output.as_str()),
            (("passed", 1, "w"), "out")
        );
        assert_eq!(whole_log(&scene.kept.job()).await, scene.given.build.log());
        scene.given.build.settled.cancelled().await;
    });
}

#[test]
fn a_job_that_was_cancelled_while_its_worker_was_away_is_refused_when_it_is_back() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        scene.kept.stop("enough").await.unwrap();
        let joining = Joining::new("w").holding(scene.given.held());
        let (_worker, verdicts) = scene.join(joining).await;
        refused(&verdicts[0]);
        let ended = scene.kept.ended().await.unwrap();
        assert_eq!(ended.stand(), ("cancelled", 1, "w"));
        assert_eq!(follow(&scene.kept.job()).await.0, scene.given.build.log());
        // The slot of the worker is free for others.
        drop(scene.site);
    });
}

#[test]
fn a_worker_with_a_job_back_is_given_no_more_than_it_has_room_for() {
    story(async {
        let mut scene = Scene::new().await;
        scene.away().await;
        let keeper = scene.scheduler.keeper().await;
        let next = keeper.keep("next").await;
        let joining = Joining::new("w").holding(scene.given.held());
        let (mut worker, _) = scene.join(joining).await;
        assert!(worker.given_now().is_none());
        scene.given.succeed("");
        let given = worker.next().await;
        assert_eq!(given.what, "next");
        given.succeed("");
        next.ended().await.unwrap();
        // Nothing is counted as running any more.
        let pool = scene.scheduler.pool_admin().await;
        eventually("the worker is idle", async || {
            let shown = crate::support::site::show(&pool).await;
            (!shown.contains("running)") || shown.contains("(0 running)")).then_some(())
        })
        .await;
    });
}
