//! ocluster-store.
