# The cluster protocol, as OCluster's programs speak it.
#
# This file is frozen. Every type id, ordinal and name here is a promise to programs that are already deployed: nothing
# may be changed, renumbered or added. What is ours goes into extensions.capnp.

@0x8378b104cef5b2eb;

struct DockerBuild @0xb7cdf36259df55e5 {
  dockerfile :union {
    contents @0 :Text;
    # The text of a Dockerfile, sent by the client.

    path @5 :Text;
    # Where the Dockerfile lies inside the build context.
  }

  pushTarget @1 :Text;
  # "repository:tag" to push the image to; empty for no push.

  pushUser @2 :Text;
  pushPassword @3 :Text;
  # Registry login. Both or neither.

  buildArgs @4 :List(Text);
  # "NAME=value", or "NAME" to take the value from the builder's environment.

  squash @6 :Bool;
  # Merge the new layers into one.

  buildkit @7 :Bool;
  # Build with BuildKit instead of the classic builder.

  includeGit @8 :Bool;
  # Keep the repository's .git directory in the build context.
}

struct OBuilder @0x8b282bf65fdee6f3 {
  spec @0 :Text;
  # An OBuilder specification (an S-expression).
}

struct Custom @0xa5a1f28b5d271349 {
  kind @0 :Text;
  # Says how the worker must read the payload.

  payload @1 :AnyPointer;
  # Pure data: capabilities in it are dropped.
}

struct Secret @0xd3d0bc06b7e0ea84 {
  id @0 :Text;
  value @1 :Text;
}

struct JobDescr @0xe8a11e4cd6914f3e {
  action :union {
    dockerBuild @0 :DockerBuild;
    obuilder @4 :OBuilder;
    custom @6 :Custom;
  }

  cacheHint @1 :Text;
  # Jobs with the same hint like to run on the same worker.

  repository @2 :Text;
  # URL of the git repository to take the build context from; empty for an empty context.

  commits @3 :List(Text);
  # The first commit is checked out, the others are merged into it.

  secrets @5 :List(Secret);
}

interface Job @0xca66fd1f972efccc {
  log @0 (start :Int64) -> (log :Data, next :Int64);
  # The log from byte offset `start` on (counted from the end if negative). Waits until there is something to say.
  # Empty data means the end of the log. `next` is the offset for the next call.

  result @1 () -> (output :Text);
  # Waits for the job to end. Fails if the job failed.

  cancel @2 () -> ();
  # Asks for the job to be stopped and returns at once.
}

interface Queue @0x817f986f80263aaf {
  # A worker's place in a pool. Dropping it leaves the pool.

  pop @0 (job :Job) -> (descr :JobDescr);
  # Waits for a job. Once this returns, `job` stands for it.

  setActive @1 (active :Bool) -> ();
  # Whether this worker is to be given jobs.
}

struct Metric @0xa6d34960e6d0feab {
  contentType @0 :Text;
  data @1 :Text;
}

struct AdditionalMetric @0xcf9916b2e02f841b {
  union {
    metric @0 :Metric;
    notReported @1 :Void;
  }
}

interface Worker @0xe06eedcf95bf7905 {
  enum MetricsSource @0xd5f57e8b6e40f85a {
    agent @0;
    # The worker process itself.

    host @1;
    # The machine it runs on.
  }

  metrics @0 (source :MetricsSource) -> (contentType :Text, data :Text);
  selfUpdate @1 () -> ();
  # Finishes the running jobs and restarts as a newer version. Does not return: the connection ends.

  additionalMetric @2 (source :Text) -> (metric :AdditionalMetric);
}

interface Registration @0xe098a12b91e35740 {
  # Lets workers join one pool.

  register @0 (name :Text, worker :Worker, capacity :Int32) -> (queue :Queue);
}

interface Ticket @0x9497c03b7ca5b27b {
  # A submitted job. Dropping it cancels the job if that is still queued.

  job @0 () -> (job :Job);
  # At once, as a promise that is kept when a worker takes the job.

  cancel @1 () -> ();
}

interface Submission @0xf4e8a768b32a7c42 {
  # Lets one client submit jobs.

  submit @0 (pool :Text, descr :JobDescr, urgent :Bool) -> (ticket :Ticket);
}

struct WorkerInfo @0x89d251d58984b1eb {
  name @0 :Text;
  active @1 :Bool;
  connected @2 :Bool;
}

interface Progress @0xd7529e2702cd958a {
  report @0 (status :Text) -> ();
}

interface PoolAdmin @0xd906b771b4082451 {
  show @0 () -> (state :Text);
  # The pool's state, for people.

  workers @1 () -> (workers :List(WorkerInfo));
  setActive @2 (worker :Text, active :Bool, autoCreate :Bool) -> ();
  worker @3 (worker :Text) -> (worker :Worker);
  update @4 (worker :Text, progress :Progress) -> ();
  # Drains the worker, tells it to update itself and waits for it to come back.

  setRate @5 (id :Text, rate :Float64) -> ();
  # How many jobs the client may expect to have running at once.

  forget @6 (worker :Text) -> ();
  drain @7 (worker :Text, progress :Progress) -> ();
  # Pauses the worker and waits for its running jobs.
}

interface Admin @0xdd51f35540dac6ad {
  pools @0 () -> (names :List(Text));
  pool @1 (name :Text) -> (pool :PoolAdmin);
  addClient @2 (id :Text) -> (cap :Submission);
  removeClient @3 (id :Text) -> (cap :Submission);
  # `cap` is never set.

  listClients @4 () -> (clients :List(Text));
}
