//! ocluster-scheduler.
