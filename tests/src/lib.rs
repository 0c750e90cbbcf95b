//! ocluster-tests.
