//! What this worker tells about itself, about its machine, and about whatever else it was told to watch. `counts` is counted, `page`
//! shows it, `exporter` asks others on this machine, `collector` does one or the other for `service`.

mod collector;
mod counts;
mod exporter;
mod exporter_url;
mod page;
mod service;
mod sources;

pub(crate) use collector::Collector;
pub(crate) use counts::JobEnd;
pub use counts::{Checked, Metrics};
pub use exporter_url::{ExporterUrl, ExporterUrlError};
pub(crate) use service::{additional_metric, metrics};
pub use sources::{AdditionalMetric, AdditionalMetricError, DuplicateName, Sources};
