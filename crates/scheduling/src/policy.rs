//! How a pool decides: the two policies, in words.
//!
//! # What both have in common
//!
//! - **Order.** In every queue urgent jobs come first, then earlier fair starts, then earlier submissions. A job's place
//!   in this order is fixed when it is submitted, and kept when it moves between queues.
//! - **Fairness.** A job's fair start is the later of now and its client's next fair start, which then moves on by the
//!   job's estimated cost divided by the client's rate. The estimate is [`Costs::cached`] if another job with the same
//!   hint is queued or any worker has run one, else [`Costs::non_cached`]; `balanced` knows better once it has seen some. Idle time earns nothing; a cancelled job's
//!   charge is not given back.
//! - **Queues.** Jobs wait on the pool's main queue or on the local queue of the worker they are meant for. Requests
//!   for work wait in the order in which they were made. A job on the main queue and a waiting request of an active
//!   worker never exist at the same time.
//! - **Two steps.** A job meant for a waiting worker goes to its local queue, and the oldest request of that worker is
//!   told to run; when it does, it takes the job. The request counts as busy from the first step on.
//! - **Inactive workers** get nothing. When a worker pauses or leaves, the jobs on its local queue are placed anew; those
//!   it runs are not touched. A request whose caller gives up between the two steps leaves its job to the next request of
//!   the same worker or, if it has none, to whoever the pool finds.
//!
//! - **Coming back.** A job that was accepted before and is queued again takes its old position, and is charged nothing. A
//!   job that a worker brings along runs there as if it had taken it.
//! - **Avoiding.** A job may avoid workers, because it came to nothing there. None of them gets it, or has it on its local
//!   queue, while any other active worker is there, even a busy one. Only for such a job a request of an active worker
//!   may wait while a job is on the main queue.
//! - **Quotas.** A client may have a bound on its jobs that run at once. Its first jobs in queue order, up to the bound
//!   less those that run, are queued as all others are; the rest is held aside until one of them ends or is
//!   cancelled. So one that comes later and is more urgent takes the turn of one that is not yet running.
//!
//! # [`Policy::Upstream`]
//!
//! OCluster's behaviour, job for job, except that its ready list never holds a worker which has just been given a job.
//!
//! - A job is *preferred* by the active worker which has its hint cached and the least cost on its local queue; the later
//!   name wins a tie; nobody, if that cost exceeds [`Costs::non_cached`]. What a worker runs does not count.
//! - A new job, while requests wait, goes to the local queue of the worker that it is preferred by, busy or not, or else
//!   to the request that has waited longest.
//! - A request takes the first job of its worker's local queue. If there is none, it walks down the main queue: jobs
//!   preferred by some worker move to that worker's local queue; the first other one is its answer.
//! - Nobody takes a job from another worker's local queue.
//!
//! # [`Policy::Balanced`]
//!
//! Nobody waits for a busy worker while an idle one could start.
//!
//! - **Durations.** What jobs of a hint take is learned from those that end: on average, and apart for those that found their
//!   hint *warm*, which is to say that one of the 32 hints which the worker used last was theirs and such a job had
//!   ended there. Each job counts an eighth, the older ones the rest; what is over within a second failed, and does not count.
//!   Where nothing was learned, [`Costs`](crate::Costs) holds. A client is charged the average of its job's hint. Nothing of this outlives the
//!   process.
//! - A worker *has a hint cached* if it was one of the 32 that it used last. Where very many workers once had it, the least loaded is
//!   sought among 64 by load and 64 by seat.
//! - A worker's *load* is the estimated cost of all it runs and has queued, divided by its slots: its capacity, or 1 if it
//!   tells none. It has a *free slot* if it runs and has queued fewer jobs than it has slots.
//! - A new job, while requests wait, goes to one of the waiting workers: the least loaded of those which have its hint
//!   cached, or else the one that has waited longest.
//! - A request takes the first, in queue order, of its worker's local queue and the main queue, with two exceptions for jobs of
//!   the main queue which are not urgent and whose hint is not cached on the worker that asks.
//! - First, the worker *reaches* for a job whose hint is warm there: the fair start of each of these, less four times what the
//!   cache saves, is compared with that of the job whose turn it is. So a job is only ever overtaken by what is due soon after it.
//! - Second, the job is passed over, and put on the local queue of the least loaded busy worker that has its hint cached, if all
//!   of this holds: it avoids no worker; it has not been passed over before; this request has passed over fewer than four;
//!   and waiting is estimated to end sooner: the load of that worker (nothing, if it has a free slot or is just about to
//!   ask) plus the cost with the cache is less than the cost without.
//! - A job that was passed over waits no longer than what the cache saves, nor than [`Costs::non_cached`]. After that it is placed anew as
//!   soon as any worker asks, so that a worker which stopped asking holds up nothing.
//! - A request that finds nothing takes the first, in queue order, of the jobs on the local queues of other workers,
//!   except those which are about to be taken.
//!
//! From this follows: urgent jobs are never held back; no job is on the local queue of a worker which is not about to
//! take it while a request of another active worker waits.
//!
//! # Cost
//!
//! Submitting, cancelling or moving a job takes O(log n) in the number of queued jobs. Finding the preferred worker takes
//! about √w steps for w active workers, whether few or many of them have the hint cached, and none if no load is low enough. A
//! request may move several jobs: under `balanced` at most four, and each at most once in its life; under `upstream` as many as
//! are preferred by others, 61 for each worker. It looks once at each different set of workers
//! that jobs of the main queue avoid, of which there are few. Quotas cost nothing where there are none.
//!
//! [`Costs::cached`]: crate::Costs::cached
//! [`Costs::non_cached`]: crate::Costs::non_cached

/// How a pool decides. The [module](self) tells in words what each does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Policy {
    /// OCluster's own: affinity looks at queued work only, and jobs stay where they were queued.
    Upstream,
    /// Ours: affinity counts running jobs and capacity, and idle workers take what others cannot start.
    #[default]
    Balanced,
}

impl Policy {
    /// The name used in configuration and output.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Upstream => "upstream",
            Policy::Balanced => "balanced",
        }
    }
}

impl std::fmt::Display for Policy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

/// A policy that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no scheduling policy \"{0}\": expected \"upstream\" or \"balanced\"")]
pub struct PolicyError(String);

impl std::str::FromStr for Policy {
    type Err = PolicyError;

    /// # Errors
    ///
    /// If the text is not the name of a policy.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let all = [Policy::Upstream, Policy::Balanced];
        let found = all.into_iter().find(|policy| policy.as_str() == text);
        found.ok_or_else(|| PolicyError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_is_read_by_its_name() {
        for policy in [Policy::Upstream, Policy::Balanced] {
            assert_eq!(policy.to_string().parse(), Ok(policy));
        }
        let error = "fifo".parse::<Policy>().map_err(|error| error.to_string());
        let said = "there is no scheduling policy \"fifo\": expected \"upstream\" or \"balanced\"";
        assert_eq!(error, Err(said.to_owned()));
    }
}
