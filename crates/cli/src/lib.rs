//! ocluster-cli.
