//! The code generated from `schema/`, one module a file. Nothing here is written by hand.

macro_rules! generated {
    ($(#[doc = $doc:literal] $module:ident from $file:literal;)*) => {$(
        #[doc = $doc]
        #[allow(
            missing_docs,
            unreachable_pub,
            unsafe_code,
            rust_2018_idioms,
            clippy::all,
            clippy::unimplemented,
            clippy::unwrap_used,
            reason = "generated code"
        )]
        pub mod $module {
            include!(concat!(env!("OUT_DIR"), "/", $file));
        }
    )*};
}

generated! {
    /// The frozen protocol: `schema/cluster.capnp`.
    cluster_capnp from "cluster_capnp.rs";
    /// Cap'n Proto's `Persistent`, as far as OCluster uses it: `schema/persistent.capnp`.
    persistent_capnp from "persistent_capnp.rs";
    /// Our own interfaces: `schema/extensions.capnp`.
    extensions_capnp from "extensions_capnp.rs";
}
