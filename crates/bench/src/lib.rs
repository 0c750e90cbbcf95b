//! ocluster-bench.
