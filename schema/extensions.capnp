# Our own interfaces. Each extends a frozen one, so that a capability to it serves wherever the frozen one does; a peer that
# does not know them answers "unimplemented" and everything works as before.

@0xe8e2e5a46b7bd7a2;

using Cluster = import "cluster.capnp";
using Persistent = import "persistent.capnp";

interface SubmissionEndpoint @0xd5a3f0c3d0ba3a34 extends(Cluster.Submission, Persistent.Persistent) {
  # A client's access to the cluster, which can be asked for its sturdy ref.
}

interface ExplainedQueue @0x8beccf69f5ae6a29 extends(Cluster.Queue) {
  # A worker's place in a pool, where a pause has a reason that people can read.

  setInactive @0 (reason :Text) -> ();
  # As `setActive(false)`, and says why, in one line. The last word counts; `setActive(true)` ends the pause and forgets the reason.
}
