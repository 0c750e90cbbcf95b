//! ocluster-api.
