# Our own interfaces. Each extends a frozen one, so that a capability to it serves wherever the frozen one does; a peer that
# does not know them answers "unimplemented" and everything works as before.
#
# Times are milliseconds since the Unix epoch by the scheduler's clock, 0 where there is none. Durations are milliseconds.

@0xe8e2e5a46b7bd7a2;

using Cluster = import "cluster.capnp";
using Persistent = import "persistent.capnp";

# Durable jobs, as clients see them.

interface SubmissionEndpoint @0xd5a3f0c3d0ba3a34 extends(Cluster.Submission, Persistent.Persistent) {
  # A client's access to the cluster, which can be asked for its sturdy ref, and keeps jobs for clients that go away.

  features @0 () -> (features :List(Text));
  # What is offered: "durable-jobs", "submit-many", "time-limits". A scheduler whose key is not kept offers none of it.

  submitJob @1 (job :DurableJob) -> (handle :JobHandle, id :Text, known :Bool);
  # Accepts a job, which is on disk when this answers. `known`: the key was used before, for this very job, which is given again.

  submitMany @2 (jobs :List(DurableJob)) -> (answers :List(SubmitAnswer));
  # As submitJob for each, in order, with one flush for all. A job that is refused keeps no other from being accepted.

  find @3 (id :Text) -> (handle :JobHandle, id :Text);
  # A job of this client by its id or an unambiguous beginning of it. The same error for jobs that are not there and jobs of others.

  list @4 (query :JobQuery) -> (jobs :List(JobInfo), more :Text);
  # This client's jobs, newest first. `more`, unless empty, is what `query.before` has to be for those that follow.

  watch @5 (query :JobQuery, cursor :UInt64) -> (jobs :List(JobInfo), cursor :UInt64, missed :Bool);
  # Waits until jobs have changed since `cursor` (at most some 30 s; then the list is empty), and gives them as they are now. 0 stands
  # for now, and is answered at once. `missed`: changes older than can be told went by, so list them anew.
}

struct DurableJob @0x98a4b9bfd4ec9eb8 {
  pool @0 :Text;
  descr @1 :Cluster.JobDescr;
  urgent @2 :Bool;
  key @3 :Text;
  # Chosen by the client, unless empty: the same job submitted again under the same key is the same job.
  limits @4 :TimeLimits;
}

struct TimeLimits @0xb3af08b1e1e2a2b6 {
  # 0: the pool's default.
  running @0 :UInt64;
  # How long one attempt may run.
  queued @1 :UInt64;
  # How long it may wait for a worker, all in all.
  silent @2 :UInt64;
  # How long it may run without printing anything.
}

struct SubmitAnswer @0xd81bd6d6f1c7cb6a {
  union {
    accepted :group {
      id @0 :Text;
      known @1 :Bool;
    }
    refused @2 :Text;
  }
}

struct JobQuery @0xf2b1d92bd5c87b1d {
  before @0 :Text;
  # Only jobs with smaller ids; empty: all.
  limit @1 :UInt32;
  # 0: 100. At most 1000.
  states @2 :List(Text);
  # Only jobs in one of these states; empty: in any.
  pool @3 :Text;
  # Only jobs of this pool; empty: of any.
  client @4 :Text;
  # For administrators: only jobs of this client; empty: of any.
}

interface JobHandle @0xa8d3a1c9b9a3cf2e extends(Cluster.Job) {
  # A job with a record. Releasing it does nothing to a durable job. `log` waits until the job has a log; it goes through all attempts.
  # `result` waits until the job has ended. `cancel` cancels it, whether it is queued or runs.

  info @0 () -> (info :JobInfo);
  stop @1 (reason :Text) -> ();
  # Cancels, and says why. Returns when that is on disk: the job will not pass any more. An error if the job has ended otherwise.
  explain @2 () -> (explanation :Explanation);
  ended @3 () -> (info :JobInfo);
  # Waits until the job has ended.
}

struct JobInfo @0xc5bb9d0d1e1b2a69 {
  id @0 :Text;
  pool @1 :Text;
  client @2 :Text;
  hint @3 :Text;
  urgent @4 :Bool;
  kind @5 :Text;
  # "docker", "obuilder" or "custom:KIND".
  state @6 :Text;
  # "queued", "running", "passed", "failed", "cancelled", "timed-out" or "lost".
  causeCode @7 :Text;
  # Empty where there is nothing to say.
  causeSentence @8 :Text;
  attempt @9 :UInt32;
  # 0 until a worker takes it.
  worker @10 :Text;
  queuedAt @11 :UInt64;
  assignedAt @12 :UInt64;
  startedAt @13 :UInt64;
  endedAt @14 :UInt64;
  output @15 :Text;
  logLength @16 :UInt64;
  logDigest @17 :Text;
  # SHA-256 in hexadecimal of the whole log, once the job has ended.
  durable @18 :Bool;
  key @19 :Text;
  limits @20 :TimeLimits;
  # Those in force; 0: none.
  attempts @21 :List(AttemptInfo);
  # All but the last one if that is under way.
  waitsForWorker @22 :Bool;
  # It runs on a worker that is not connected at present.
  logStart @23 :UInt64;
  # Where in the job's log the own of the last attempt begins, be it under way or over.
}

struct AttemptInfo @0xe1d8a3f3c0b8a4d1 {
  number @0 :UInt32;
  worker @1 :Text;
  startedAt @2 :UInt64;
  endedAt @3 :UInt64;
  causeCode @4 :Text;
  causeSentence @5 :Text;
  logStart @6 :UInt64;
  # Where in the job's log the attempt's own begins.
}

struct Explanation @0x9d2c1f6f0f7a3b52 {
  summary @0 :Text;
  # One sentence.
  details @1 :List(Text);
  # Further ones, the most important first.
  info @2 :JobInfo;
}

# Workers that keep jobs through a lost connection.

interface RegistrationEndpoint @0x9fe1ce6bb7a0d9a3 extends(Cluster.Registration) {
  features @0 () -> (features :List(Text));
  # What is offered: "leases".

  join @1 (name :Text, worker :Cluster.Worker, capacity :Int32, identity :Data, facts :WorkerFacts, held :List(HeldJob))
      -> (queue :LeasedQueue, verdicts :List(Verdict));
  # As `register`. `identity` is a secret of at least 16 bytes that the worker keeps: who brings it is the same worker as before, and
  # takes the place of a connection that is dead and has not been noticed yet. `held` are the jobs it still has; there is a verdict for
  # each, in order.
}

struct WorkerFacts @0xf0a6b1e3b1a9cb2d {
  # Empty or 0: not known.
  version @0 :Text;
  os @1 :Text;
  arch @2 :Text;
  kernel @3 :Text;
  cpus @4 :UInt32;
  memory @5 :UInt64;
  # Bytes.
  disk @6 :UInt64;
  # Bytes of the filesystem of the worker's state directory.
  diskFree @7 :UInt64;
  kinds @8 :List(Text);
  # The kinds of jobs it can run: "docker", "obuilder", "custom:KIND".
}

struct HeldJob @0xcf5bb2b8a3d6e0f4 {
  id @0 :UInt64;
  # The job's number.
  attempt @1 :UInt32;
  logLength @2 :UInt64;
  # Bytes of the attempt's log that the worker has.
  job @3 :LeasedJob;
}

struct Verdict @0xd0e3a7c6a5f1b8e7 {
  adopted @0 :Bool;
  reason @1 :Text;
  # Why not. The worker is to stop such a job and to forget it.
}

interface LeasedQueue @0xa4c9d2e8f3b7a615 extends(ExplainedQueue) {
  popLeased @0 (job :LeasedJob) -> (descr :Cluster.JobDescr, durable :Bool, id :UInt64, attempt :UInt32);
  # As `pop`. A durable job is not cancelled by being released, and is to be kept through a lost connection. One that is not durable is
  # as any job of the frozen protocol.
}

interface LeasedJob @0xb9e4c7a1d2f6e358 extends(Cluster.Job) {
  # A job as the worker that has it serves it.

  outcome @0 () -> (outcome :JobOutcome);
  # Waits as `result` does, and is not an error where the job failed.

  settle @1 () -> ();
  # The scheduler has outcome and log on disk, or wants neither: the worker may forget the job.
}

struct JobOutcome @0x8cf1a5b7e9d3c264 {
  state @0 :Text;
  # "passed", "failed" or "cancelled".
  output @1 :Text;
  causeCode @2 :Text;
  # Why it failed, for machines: "build-failed", "bad-request", "source-failed", "worker-setup", "worker-disk-full", "engine-away", ...
  causeSentence @3 :Text;
  infrastructure @4 :Bool;
  # It failed because of the worker and not because of itself: it is worth trying elsewhere.
  logLength @5 :UInt64;
  # Bytes of the whole log.
}

interface ExplainedQueue @0x8beccf69f5ae6a29 extends(Cluster.Queue) {
  # A worker's place in a pool, where a pause has a reason that people can read.

  setInactive @0 (reason :Text) -> ();
  # As `setActive(false)`, and says why, in one line. The last word counts; `setActive(true)` ends the pause and forgets the reason.
}

# What administrators can do with jobs.

interface AdminEndpoint @0xc3d7e9b5a1f8d472 extends(Cluster.Admin) {
  features @0 () -> (features :List(Text));
  # What is offered: "jobs", "evict", "pause-notes".

  find @1 (id :Text) -> (handle :JobHandle, id :Text);
  list @2 (query :JobQuery) -> (jobs :List(JobInfo), more :Text);
  # As for clients, with the jobs of all of them.

  requeue @3 (id :Text, reason :Text) -> (info :JobInfo);
  # Takes a running durable job from its worker and queues it again, at its old place. That attempt does not count against the bound
  # on attempts.
}

interface PoolAdminEndpoint @0xe5f2b8d4c6a3917b extends(Cluster.PoolAdmin) {
  pause @0 (worker :Text, active :Bool, autoCreate :Bool, by :Text, reason :Text) -> ();
  # As `setActive`, with who asks for it and why, which are shown to others with the time.

  evict @1 (worker :Text, reason :Text) -> (moved :UInt32, cancelled :UInt32);
  # Takes all jobs from a worker, connected or not: durable ones are queued again at their old places, the others are cancelled.

  describe @2 () -> (workers :List(WorkerDescription));
}

struct WorkerDescription @0xb6a1d5e7f9c2834d {
  name @0 :Text;
  connected @1 :Bool;
  active @2 :Bool;
  inactiveReasons @3 :List(Text);
  # Of a connected one: "worker pause", "admin pause", "shutting down".
  note @4 :Text;
  # What the worker says of its own pause.
  pausedBy @5 :Text;
  pauseReason @6 :Text;
  pausedAt @7 :UInt64;
  capacity @8 :UInt32;
  running @9 :UInt32;
  queued @10 :UInt32;
  # On its local queue.
  facts @11 :WorkerFacts;
  lastHeardAgo @12 :UInt64;
  # Milliseconds since its last sign of life, while connected.
  jobs @13 :List(Text);
  # Ids of the jobs it runs.
}
