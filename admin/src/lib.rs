//! ocluster-admin.
