# Our own interfaces. Each extends a frozen one, so that a capability to it serves wherever the frozen one does; a peer that
# does not know them answers "unimplemented" and everything works as before.

@0xe8e2e5a46b7bd7a2;

using Cluster = import "cluster.capnp";
using Persistent = import "persistent.capnp";

interface SubmissionEndpoint @0xd5a3f0c3d0ba3a34 extends(Cluster.Submission, Persistent.Persistent) {
  # A client's access to the cluster, which can be asked for its sturdy ref.
}
