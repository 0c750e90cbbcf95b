//! ocluster-worker.
