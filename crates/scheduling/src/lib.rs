//! ocluster-scheduling.
