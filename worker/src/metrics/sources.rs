//! Whom to ask for metrics that are not the worker's own.

use std::collections::BTreeMap;
use std::str::FromStr;

use ocluster_cli::LogCounts;

use super::exporter_url::{ExporterUrl, ExporterUrlError};

/// Names which the scheduler's HTTP routes keep for the worker's and the machine's own metrics.
const RESERVED: [&str; 2] = ["metrics", "host-metrics"];

/// What a worker's metrics are made from, besides its counts.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Where the machine's metrics are.
    pub node_exporter: ExporterUrl,
    /// Where others are, by name.
    pub additional: BTreeMap<String, ExporterUrl>,
    /// Log lines counted so far.
    pub log_counts: LogCounts,
}

/// A named exporter, written `NAME:URL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdditionalMetric {
    name: String,
    url: ExporterUrl,
}

/// Why something is no named exporter.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdditionalMetricError {
    /// There is no name before a colon.
    #[error("expected NAME:URL, such as gpu:http://127.0.0.1:9400/metrics")]
    NoName,
    /// What follows the colon is no usable URL.
    #[error(transparent)]
    Url(#[from] ExporterUrlError),
}

/// A name was given twice. The words are OCluster's.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("Duplicate additional metrics name: {0}")]
pub struct DuplicateName(pub String);

impl Sources {
    /// Takes in the named exporters.
    ///
    /// # Errors
    /// If two have the same name.
    pub fn add(&mut self, named: Vec<AdditionalMetric>) -> Result<(), DuplicateName> {
        for AdditionalMetric { name, url } in named {
            if RESERVED.contains(&name.as_str()) {
                tracing::warn!(
                    "The additional metrics \"{name}\" cannot be reached over HTTP, where this name means the worker's or its machine's own"
                );
            }
            if self.additional.contains_key(&name) {
                return Err(DuplicateName(name));
            }
            self.additional.insert(name, url);
        }
        Ok(())
    }
}

/// Splits at the first colon, as OCluster does.
impl FromStr for AdditionalMetric {
    type Err = AdditionalMetricError;

    fn from_str(text: &str) -> Result<Self, AdditionalMetricError> {
        match text.split_once(':') {
            Some((name, url)) if !name.is_empty() => Ok(Self {
                name: name.to_owned(),
                url: url.parse()?,
            }),
            _ => Err(AdditionalMetricError::NoName),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_colon_ends_the_name() {
        let metric: AdditionalMetric = "gpu:http://127.0.0.1:9400/m".parse().unwrap();
        assert_eq!(metric.name, "gpu");
        assert_eq!(metric.url.to_string(), "http://127.0.0.1:9400/m");
        for text in ["", "gpu", ":http://127.0.0.1/"] {
            let refused = text.parse::<AdditionalMetric>();
            assert_eq!(refused, Err(AdditionalMetricError::NoName));
        }
        // A URL without a name looks like a name "http" with a strange URL.
        let nameless = "http://127.0.0.1:9400/m".parse::<AdditionalMetric>();
        assert!(matches!(nameless, Err(AdditionalMetricError::Url(_))));
    }

    #[test]
    fn a_name_given_twice_is_refused() {
        let named = |text: &str| text.parse::<AdditionalMetric>().unwrap();
        let mut sources = Sources::default();
        let twice = vec![
            named("a:http://h/"),
            named("b:http://h/"),
            named("a:http://i/"),
        ];
        assert_eq!(sources.add(twice), Err(DuplicateName("a".to_owned())));
    }
}
