//! What Prometheus and load balancers see, over plain HTTP: the scheduler's own metrics and health, and the metrics of its workers,
//! which are asked for over the connections they have made.
//!
//! `listen` accepts, `server` answers, `route` reads paths; all that runs on the pool of ordinary threads. `desk` is the way to the
//! vat thread, where `worker_page` asks a worker. `targets` lists the workers. There is no authentication, so nothing here may show more than numbers and names.

mod desk;
mod listen;
mod route;
mod server;
mod targets;
mod worker_page;

pub(crate) use listen::{bind, serve};
