//! The leased jobs: those that run, and those that have ended and whose outcome and log the scheduler has not taken over yet.
//!
//! It is bounded: no work is asked for while very many are here, and none stays longer than the grace after the scheduler was lost.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::warn;

use super::server::JobServer;
use super::terms::{Lease, Stopped};

/// So many jobs may be here when another one is asked for.
const MOST: usize = 1000;

/// The leased jobs of a worker. Lives on the vat thread.
pub(crate) struct Held {
    jobs: RefCell<BTreeMap<Lease, Rc<JobServer>>>,
    /// How many there are.
    count: watch::Sender<usize>,
    /// Since when there has been no scheduler, if there is none.
    lost: watch::Sender<Option<Instant>>,
}

impl Held {
    /// No jobs, and no scheduler yet.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            jobs: RefCell::default(),
            count: watch::Sender::new(0),
            lost: watch::Sender::new(None),
        })
    }

    /// Keeps a job. If another attempt at it is here, the scheduler has given that up, and it is stopped.
    pub(crate) fn keep(&self, lease: Lease, job: Rc<JobServer>) {
        let older = |held: &Lease| held.job == lease.job;
        for (old, server) in self.take(older) {
            warn!(
                number = old.job,
                attempt = old.attempt,
                "Giving up an attempt: this worker was given the job again, as attempt {}",
                lease.attempt
            );
            server.control().forget(Stopped::LeaseOver);
        }
        // The scheduler may have let go of it before we heard that it was ours.
        if !job.control().forgotten().is_cancelled() {
            self.jobs.borrow_mut().insert(lease, job);
            self.recount();
        }
    }

    /// All jobs, for a scheduler that is to know of them.
    pub(crate) fn all(&self) -> Vec<(Lease, Rc<JobServer>)> {
        let jobs = self.jobs.borrow();
        let jobs = jobs.iter();
        jobs.map(|(lease, job)| (*lease, job.clone())).collect()
    }

    /// Stops this job, if it runs, and forgets it.
    pub(crate) fn forget(&self, job: &JobServer, why: Stopped) {
        let same = |other: &Rc<JobServer>| Rc::ptr_eq(other.control(), job.control());
        self.jobs.borrow_mut().retain(|_, other| !same(other));
        self.recount();
        job.control().forget(why);
    }

    /// Stops and forgets all jobs. Gives how many these were.
    fn forget_all(&self) -> usize {
        let jobs = self.take(|_| true);
        for (_, job) in &jobs {
            job.control().forget(Stopped::LeaseOver);
        }
        jobs.len()
    }

    /// Tells all jobs to stop because the worker does.
    pub(crate) fn stop_all(&self) {
        for job in self.jobs.borrow().values() {
            job.control().stop(Stopped::WorkerStops);
        }
    }

    /// Waits until none of the jobs that are here now runs any more.
    pub(crate) async fn all_ended(&self) {
        for (_, job) in self.all() {
            job.ended().await;
        }
    }

    /// Waits until there is no job left.
    pub(crate) async fn all_forgotten(&self) {
        self.until(|count| count == 0).await;
    }

    /// Waits until there is room for one more.
    pub(crate) async fn room(&self) {
        if *self.count.borrow() >= MOST {
            warn!(
                "The scheduler has not taken over the outcomes of {MOST} jobs: asking for no other until it has"
            );
            self.until(|count| count < MOST).await;
        }
    }

    /// There is a scheduler, which knows of all jobs.
    pub(crate) fn found(&self) {
        self.lost.send_replace(None);
    }

    /// The scheduler is lost, or still is.
    pub(crate) fn lost(&self) {
        self.lost.send_if_modified(|lost| {
            let new = lost.is_none();
            lost.get_or_insert_with(Instant::now);
            new
        });
    }

    /// Gives all jobs up whenever there has been no scheduler for `grace`.
    pub(crate) async fn keep_no_longer_than(&self, grace: Duration) {
        let mut lost = self.lost.subscribe();
        // The sender is ours, so that waiting for it never fails.
        loop {
            let since = match lost.wait_for(Option::is_some).await {
                Ok(since) => *since,
                Err(_) => return,
            };
            let elapsed = since.map_or(Duration::ZERO, |since| since.elapsed());
            let left = grace.saturating_sub(elapsed);
            let in_time = tokio::time::timeout(left, lost.wait_for(|now| *now != since)).await;
            if in_time.is_ok() {
                continue;
            }
            drop(in_time);
            match self.forget_all() {
                0 => {}
                jobs => warn!(
                    "Giving up {jobs} jobs: the scheduler has been away for {} s",
                    grace.as_secs()
                ),
            }
            let _ = lost.wait_for(|now| *now != since).await;
        }
    }

    /// The jobs of which `wanted` holds, which are here no longer.
    fn take(&self, wanted: impl Fn(&Lease) -> bool) -> Vec<(Lease, Rc<JobServer>)> {
        let mut jobs = self.jobs.borrow_mut();
        let taken = jobs.extract_if(.., |lease, _| wanted(lease)).collect();
        drop(jobs);
        self.recount();
        taken
    }

    fn recount(&self) {
        let jobs = self.jobs.borrow().len();
        self.count
            .send_if_modified(|count| std::mem::replace(count, jobs) != jobs);
    }

    async fn until(&self, is_so: impl Fn(usize) -> bool) {
        let mut count = self.count.subscribe();
        // The sender is ours, so that the wait ends only when it is so.
        let _ = count.wait_for(|count| is_so(*count)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures::FutureExt as _;

    use super::*;
    use crate::job::server::{Offered, offer};

    const GRACE: Duration = Duration::from_secs(900);

    fn leased(held: &Rc<Held>, job: u64, attempt: u32) -> Offered {
        let (_, offered) = offer(held);
        offered.control.lease();
        held.keep(Lease { job, attempt }, offered.server());
        offered
    }

    fn is_stopped(offered: &Offered) -> bool {
        offered.control.cancel_token().is_cancelled()
    }

    #[test]
    fn a_later_attempt_takes_the_place_of_an_earlier_one() {
        let held = Held::new();
        let (first, other) = (leased(&held, 7, 1), leased(&held, 8, 1));
        let second = leased(&held, 7, 2);
        assert!(is_stopped(&first) && first.control.forgotten().is_cancelled());
        assert!(!is_stopped(&other) && !is_stopped(&second));
        let leases: Vec<_> = held
            .all()
            .iter()
            .map(|(lease, _)| (lease.job, lease.attempt))
            .collect();
        assert_eq!(leases, [(7, 2), (8, 1)]);
    }

    #[test]
    fn forgetting_an_old_attempt_does_not_touch_the_new_one() {
        let held = Held::new();
        let old = leased(&held, 7, 1);
        let server = old.server();
        let new = leased(&held, 7, 1);
        held.forget(&server, Stopped::Asked);
        assert!(!is_stopped(&new));
        assert_eq!(held.all().len(), 1);
    }

    #[test]
    fn a_job_that_was_settled_before_it_was_known_to_be_ours_is_not_kept() {
        let held = Held::new();
        let (_, offered) = offer(&held);
        held.forget(&offered.server(), Stopped::Asked);
        held.keep(Lease { job: 1, attempt: 1 }, offered.server());
        assert!(is_stopped(&offered));
        assert!(held.all_forgotten().now_or_never().is_some());
    }

    #[test]
    fn very_many_outcomes_that_nobody_takes_over_stop_the_worker_from_asking() {
        let held = Held::new();
        let jobs: Vec<_> = (0..MOST as u64).map(|job| leased(&held, job, 1)).collect();
        assert!(held.room().now_or_never().is_none());
        held.forget(&jobs[3].server(), Stopped::Asked);
        assert!(held.room().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn jobs_are_kept_for_the_grace_and_no_longer() {
        let held = Held::new();
        let job = leased(&held, 1, 1);
        let start = tokio::time::Instant::now();
        let gone = Cell::new(None);
        let story = async {
            held.lost();
            tokio::time::sleep(GRACE * 3 / 4).await;
            // A failed attempt to connect does not begin the grace anew; a scheduler does.
            held.lost();
            held.found();
            held.lost();
            assert!(!is_stopped(&job));
            job.control.forgotten().cancelled().await;
            gone.set(Some(start.elapsed()));
            // What comes after another scheduler was found has its own grace.
            held.found();
            let next = leased(&held, 2, 1);
            held.lost();
            next.control.forgotten().cancelled().await;
        };
        tokio::select! {
            () = held.keep_no_longer_than(GRACE) => {}
            () = story => {}
        }
        assert_eq!(gone.get(), Some(GRACE * 7 / 4));
        assert_eq!(start.elapsed(), GRACE * 11 / 4);
        assert!(held.all_forgotten().now_or_never().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_grace_jobs_go_with_the_connection() {
        let held = Held::new();
        let job = leased(&held, 1, 1);
        held.lost();
        tokio::select! {
            () = held.keep_no_longer_than(Duration::ZERO) => {}
            () = job.control.forgotten().cancelled() => {}
        }
        assert!(is_stopped(&job));
    }
}
