//! ocluster-client.
