//! Base images: where their layers come from, and how they get into the store.
//!
//! An image's layers are layers of the store, each above the one before, with an id made of the digests of the layers so far: images
//! share what they have in common, an interrupted fetch goes on where it was, and pruning needs no rule of its own for them.

mod blob;
mod contract;
mod docker_engine;
mod fetcher;
mod install;
mod local;
mod pull_policy;
mod reference;
pub mod registry;
mod source;
mod under_way;
pub(crate) mod unpack;

pub use contract::{BaseImage, FetchError, Fetcher, Fetching, PullPolicy};
pub use docker_engine::{DockerEngine, DockerSource};
pub use fetcher::{ImageFetcher, Remote};
pub use install::Installer;
pub use local::{DockerArchive, LocalImages, OciLayout, RootfsTar};
pub use pull_policy::PullPolicyError;
pub use reference::{Reference, ReferenceError};
pub(crate) use registry::architecture;
pub use registry::{Registries, RegistryConfig, RegistrySource};
pub use source::{Blob, ImageManifest, ImageSource, LayerDescriptor};
pub use unpack::{Expected, Unpack, UnpackError, UnpackLimits, Unpacked, unpack_layer};
