//! A disk, an engine and a pool of paper, under simulated time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use tokio::sync::Semaphore;

use super::super::limit::Supply;
use super::*;

const RETRY: Duration = Duration::from_secs(600);

type Told = Result<u64, &'static str>;

/// What is there, and what happened to it, in order.
struct Story {
    events: RefCell<Vec<&'static str>>,
    /// What looks will show, one after the other; the last one stays. Percent or bytes.
    looks: RefCell<VecDeque<Told>>,
    root: Cell<Told>,
    prune: Cell<Told>,
    /// What the pool is told of the pause, last.
    said: RefCell<String>,
    /// One permit, which a running job has.
    jobs: Semaphore,
}

fn story(looks: impl IntoIterator<Item = Told>) -> Story {
    Story {
        events: RefCell::default(),
        looks: looks.into_iter().collect::<VecDeque<_>>().into(),
        root: Cell::new(Ok(0)),
        prune: Cell::new(Ok(5_000_000_000)),
        said: RefCell::default(),
        jobs: Semaphore::new(1),
    }
}

impl Story {
    fn with(&self, limit: DiskLimit, scope: PruneScope) -> DiskCare<&Self> {
        DiskCare::new(limit, scope, RETRY, self, Metrics::default())
    }

    /// Prunes below 20% of free space.
    fn care(&self) -> DiskCare<&Self> {
        self.with(DiskLimit::Free("20".parse().unwrap()), PruneScope::All)
    }

    fn note(&self, event: &'static str) {
        self.events.borrow_mut().push(event);
    }

    fn events(&self) -> Vec<&'static str> {
        self.events.take()
    }

    fn look(&self) -> Result<u64, String> {
        let mut looks = self.looks.borrow_mut();
        let look = match looks.len() {
            1 => looks.front().copied(),
            _ => looks.pop_front(),
        };
        look.unwrap().map_err(str::to_owned)
    }
}

impl Keeper for &Story {
    async fn root_dir(&self) -> Result<PathBuf, String> {
        self.note("root?");
        self.root
            .get()
            .map(|number| format!("/docker{number}").into())
            .map_err(str::to_owned)
    }

    async fn space(&self, _: &Path) -> Result<Space, String> {
        self.note("space?");
        let free = self.look()?;
        Ok(Space {
            blocks: Supply {
                total: 100,
                free,
                available: free,
            },
            inodes: Supply {
                total: 0,
                free: 0,
                available: 0,
            },
        })
    }

    async fn images_size(&self) -> Result<u64, String> {
        self.note("size?");
        self.look()
    }

    async fn prune(&self, scope: PruneScope) -> Result<u64, String> {
        self.note(match scope {
            PruneScope::Own => "prune own",
            PruneScope::All => "prune all",
        });
        self.prune.get().map_err(str::to_owned)
    }
}

impl Place for &Story {
    async fn pause(&self, reason: String) {
        self.note("inactive");
        self.said.replace(reason);
    }

    fn resume(&self) {
        self.note("active");
    }

    async fn jobs_done(&self) {
        drop(self.jobs.acquire().await.unwrap());
    }
}

async fn shortage<K: Keeper>(care: &DiskCare<K>) -> Shortage {
    care.shortage().await.expect("room is short")
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_runs_short_hands_its_queue_back_finishes_prunes_and_comes_back() {
    let story = story([Ok(10), Ok(60)]);
    let care = story.care();
    let job = story.jobs.acquire().await.unwrap();
    let short = shortage(&care).await;
    assert_eq!(story.events(), ["root?", "space?"]);

    let place = &story;
    let make_room = care.make_room(short, &place);
    tokio::pin!(make_room);
    // While its job runs it is inactive, says why, and nothing is pruned.
    let waiting = tokio::time::timeout(Duration::from_secs(3600), &mut make_room).await;
    assert!(waiting.is_err());
    assert_eq!(story.events(), ["inactive"]);
    assert_eq!(
        *story.said.borrow(),
        "pruning Docker: 10.0% of the space and 100.0% of the inodes below Docker's root directory are free, and 20% should be"
    );

    drop(job);
    make_room.await;
    // What others have made stays, as there is enough room without it.
    assert_eq!(story.events(), ["prune own", "space?", "active"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_others_is_pruned_when_ours_was_not_enough() {
    let story = story([Ok(10), Ok(15), Ok(60)]);
    let care = story.care();
    let short = shortage(&care).await;
    story.events();
    care.make_room(short, &&story).await;
    assert_eq!(
        story.events(),
        [
            "inactive",
            "prune own",
            "space?",
            "prune all",
            "space?",
            "active"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_others_is_never_touched_if_the_operator_wants_that() {
    let story = story([Ok(10), Ok(11), Ok(12), Ok(60)]);
    let care = story.with(DiskLimit::Free("20".parse().unwrap()), PruneScope::Own);
    let short = shortage(&care).await;
    story.events();
    care.make_room(short, &&story).await;
    assert_eq!(
        story.events(),
        [
            "inactive",
            "prune own",
            "space?",
            "inactive",
            "space?",
            "inactive",
            "prune own",
            "space?",
            "active"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_prune_that_does_not_help_is_tried_again_after_a_while() {
    let story = story([Ok(10), Ok(11), Ok(11), Ok(12), Ok(20)]);
    let care = story.care();
    let short = shortage(&care).await;
    story.events();
    let start = Instant::now();
    let place = &story;
    let make_room = care.make_room(short, &place);
    tokio::pin!(make_room);
    let almost = RETRY - Duration::from_secs(1);
    assert!(tokio::time::timeout(almost, &mut make_room).await.is_err());
    assert_eq!(
        *story.said.borrow(),
        "Docker has been pruned, and yet 11.0% of the space and 100.0% of the inodes below Docker's root directory are free, and 20% should be"
    );
    make_room.await;
    assert_eq!(start.elapsed(), RETRY);
    assert_eq!(
        story.events(),
        [
            "inactive",
            "prune own",
            "space?",
            "prune all",
            "space?",
            "inactive",
            "space?",
            "inactive",
            "prune own",
            "space?",
            "active"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn room_that_somebody_else_made_is_enough() {
    let story = story([Ok(10), Ok(11), Ok(11), Ok(90)]);
    let care = story.care();
    let short = shortage(&care).await;
    story.events();
    care.make_room(short, &&story).await;
    assert_eq!(
        story.events(),
        [
            "inactive",
            "prune own",
            "space?",
            "prune all",
            "space?",
            "inactive",
            "space?",
            "active"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_prune_counts_by_what_it_left() {
    // One of its steps failed, for another worker was pruning the same engine; there is room all the same.
    let story = story([Ok(10), Ok(50)]);
    story.prune.set(Err("a prune operation is already running"));
    let care = story.care();
    let short = shortage(&care).await;
    care.make_room(short, &&story).await;
    assert_eq!(story.events().last(), Some(&"active"));
}

#[tokio::test(start_paused = true)]
async fn a_prune_that_the_engine_did_not_do_is_tried_again_soon() {
    // It was restarting.
    let story = story([Ok(10), Ok(10), Ok(10), Ok(10), Ok(60)]);
    story
        .prune
        .set(Err("cannot prune the images of the Docker engine"));
    let care = story.care();
    let short = shortage(&care).await;
    let start = Instant::now();
    care.make_room(short, &&story).await;
    assert_eq!(start.elapsed(), RETRY_AFTER_FAILURE);
}

#[tokio::test(start_paused = true)]
async fn once_short_not_knowing_is_not_enough_to_come_back() {
    let story = story([Ok(10), Err("disk gone")]);
    let care = story.care();
    let short = shortage(&care).await;
    let place = &story;
    let make_room = care.make_room(short, &place);
    let hours = Duration::from_secs(3 * 3600 - 1);
    // Giving up ends the wait at once, as a shutdown or a lost connection does.
    assert!(tokio::time::timeout(hours, make_room).await.is_err());
    let events = story.events();
    assert!(!events.contains(&"active"), "{events:?}");
    let prunes = events.iter().filter(|event| **event == "prune all").count();
    assert_eq!(prunes, 18, "one each ten minutes: {events:?}");
}

#[tokio::test(start_paused = true)]
async fn enough_room_costs_a_look_at_the_disk_and_no_question_to_the_engine() {
    let story = story([Ok(60)]);
    let care = story.care();
    for _ in 0..3 {
        assert_eq!(care.shortage().await, None);
    }
    assert_eq!(story.events(), ["root?", "space?", "space?", "space?"]);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_keeps_no_job_away_and_is_asked_once_a_minute() {
    let story = story([Ok(10)]);
    story.root.set(Err("cannot reach the Docker engine"));
    let care = story.care();
    for _ in 0..100 {
        assert_eq!(care.shortage().await, None);
        tokio::time::advance(Duration::from_secs(3)).await;
    }
    assert_eq!(story.events(), ["root?"; 5]);

    story.root.set(Ok(1));
    tokio::time::advance(ASK_INTERVAL).await;
    assert!(care.shortage().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_moved_its_data_is_asked_where_to() {
    let story = story([Ok(60), Err("no such directory"), Ok(10)]);
    let care = story.care();
    assert_eq!(care.shortage().await, None);
    assert_eq!(care.shortage().await, None);
    tokio::time::advance(ASK_INTERVAL).await;
    assert!(care.shortage().await.is_some());
    assert_eq!(
        story.events(),
        ["root?", "space?", "space?", "root?", "space?"]
    );
}

#[tokio::test(start_paused = true)]
async fn images_are_added_up_once_a_minute_and_right_after_a_prune() {
    const TB: u64 = 1_000_000_000_000;
    let story = story([Ok(TB), Ok(3 * TB), Ok(TB)]);
    let limit = DiskLimit::Images("2000".parse().unwrap());
    let care = story.with(limit, PruneScope::All);
    for _ in 0..60 {
        assert_eq!(care.shortage().await, None);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    let short = shortage(&care).await;
    care.make_room(short, &&story).await;
    assert_eq!(
        story.events(),
        ["size?", "size?", "inactive", "prune own", "size?", "active"]
    );
}

/// Lets the connection be lost after so many seconds.
async fn lost_after(seconds: u64, care: &DiskCare<&Story>, story: &Story) {
    let stay = care.keep_room(&story);
    let limit = Duration::from_secs(seconds);
    assert!(tokio::time::timeout(limit, stay).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_ends_neither_the_shortage_nor_the_wait() {
    const TB: u64 = 1_000_000_000_000;
    let images = DiskLimit::Images("2000".parse().unwrap());
    let free = DiskLimit::Free("20".parse().unwrap());
    for (limit, short, enough) in [(images, 3 * TB, TB), (free, 10, 60)] {
        let story = story([
            Ok(short),
            Ok(short),
            Err("no answer"),
            Ok(short),
            Ok(enough),
        ]);
        let care = story.with(limit, PruneScope::Own);
        // Given a prune that did not help, and a connection that is lost again and again,
        let start = Instant::now();
        for _ in 0..59 {
            lost_after(10, &care, &story).await;
        }
        let events = story.events();
        // Then each stay begins with a pause, and the disk is neither looked at nor pruned before its time.
        let count = |what: &str| events.iter().filter(|event| **event == what).count();
        assert_eq!(count("prune own"), 1, "{events:?}");
        assert_eq!(count("size?") + count("space?"), 2, "{events:?}");
        assert_eq!(count("inactive"), 60, "{events:?}");
        assert_eq!(count("active"), 0, "{events:?}");
        // Then a look which shows nothing is not enough, and one that shows room is.
        lost_after(20, &care, &story).await;
        care.keep_room(&&story).await;
        assert_eq!(start.elapsed(), 2 * RETRY);
        assert_eq!(story.events().last(), Some(&"active"));
        // Then it is over: there is nothing to wait for.
        care.keep_room(&&story).await;
        assert!(!story.events().contains(&"inactive"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_lost_before_the_prune_makes_it_no_less_due() {
    let story = story([Ok(3_000_000_000), Ok(3_000_000_000), Ok(0)]);
    let limit = DiskLimit::Images("2".parse().unwrap());
    let care = story.with(limit, PruneScope::Own);
    let job = story.jobs.acquire().await.unwrap();
    lost_after(1, &care, &story).await;
    assert_eq!(story.events(), ["size?", "inactive"]);
    drop(job);
    care.keep_room(&&story).await;
    assert_eq!(
        story.events(),
        ["size?", "inactive", "prune own", "size?", "active"]
    );
}
