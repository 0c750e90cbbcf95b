//! Pulling from a real registry (`docker-registry`), filled by a real tool (`skopeo`).

mod layout;
mod pulls;
mod registry;
mod speed;
