//! ocluster-joblog.
