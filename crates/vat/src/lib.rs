//! ocluster-vat.
