//! ocluster-git-context.
