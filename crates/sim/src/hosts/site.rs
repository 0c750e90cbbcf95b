//! What all hosts of a cluster know of it: where the scheduler is, under which secrets, and where files go.

use std::path::PathBuf;

use ocluster_vat::{Address, Digest, Location, ServiceId, SturdyRef};

use crate::faults::SCHEDULER;

/// The port of the scheduler.
const PORT: u16 = 9000;
/// The one pool.
pub(super) const POOL: &str = "pool";

/// A cluster's place in the world.
#[derive(Clone, Debug)]
pub struct Site {
    /// A directory of its own.
    pub dir: PathBuf,
}

impl Site {
    /// Where the scheduler listens.
    #[must_use]
    pub fn listen() -> Location {
        Location::tcp("0.0.0.0", PORT)
    }

    /// Where the others find it.
    #[must_use]
    pub fn public() -> Location {
        Location::tcp(SCHEDULER, PORT)
    }

    /// The secret of the administrators' service.
    #[must_use]
    pub fn admin_id() -> ServiceId {
        ServiceId::new("secret of the admin")
    }

    /// The secret of the pool's registration.
    #[must_use]
    pub fn pool_id() -> ServiceId {
        ServiceId::new("secret of the pool")
    }

    /// The secret of a client's access.
    #[must_use]
    pub fn client_id(name: &str) -> ServiceId {
        ServiceId::new(format!("secret of {name}"))
    }

    /// The way to one of these.
    #[must_use]
    pub fn cap(id: ServiceId) -> SturdyRef {
        SturdyRef::new(Address::new(Self::public(), Digest::Insecure), id)
    }
}
