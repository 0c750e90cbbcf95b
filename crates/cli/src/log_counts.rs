//! Counting log messages by level and source, for the metric `prometheus_logs_messages_total`.
//!
//! What is counted is what the level lets through. However many sources there are, memory is bounded: past a limit they share one
//! line. This file knows no metrics library.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use crate::log_format::source;

/// Sources counted apart; a program has about a dozen.
const MOST_SOURCES: usize = 64;
/// Where the others are counted.
const OTHERS: &str = "other";
/// The levels, and their names in the metric.
const LEVELS: [(Level, &str); 4] = [
    (Level::ERROR, "error"),
    (Level::WARN, "warning"),
    (Level::INFO, "info"),
    (Level::DEBUG, "debug"),
];

type Counters = [AtomicU64; LEVELS.len()];

/// The counters. A clone counts into the same place.
#[derive(Clone, Debug, Default)]
pub struct LogCounts(Arc<RwLock<BTreeMap<String, Counters>>>);

/// How many messages of one level came from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogCount {
    /// `error`, `warning`, `info` or `debug`.
    pub level: &'static str,
    /// The part of the program.
    pub source: String,
    /// Messages since the start.
    pub count: u64,
}

impl LogCounts {
    /// Counters at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All counts that are not zero, by source.
    #[must_use]
    pub fn snapshot(&self) -> Vec<LogCount> {
        let counters = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let all = counters.iter().flat_map(|(source, counters)| {
            LEVELS
                .iter()
                .zip(counters)
                .map(|((_, level), counter)| LogCount {
                    level,
                    source: source.clone(),
                    count: counter.load(Ordering::Relaxed),
                })
        });
        all.filter(|count| count.count > 0).collect()
    }

    /// A layer which counts every event that reaches it.
    pub(crate) fn layer(&self) -> CountingLayer {
        CountingLayer(self.clone())
    }

    fn count(&self, source: &str, level: Level) {
        {
            let counters = self.0.read().unwrap_or_else(PoisonError::into_inner);
            if let Some(counters) = counters.get(source) {
                return increment(counters, level);
            }
        }
        let mut counters = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let source = if counters.len() < MOST_SOURCES {
            source
        } else {
            OTHERS
        };
        increment(counters.entry(source.to_owned()).or_default(), level);
    }
}

fn increment(counters: &Counters, level: Level) {
    // Trace events, which no option shows, count as debug.
    let level = level.min(Level::DEBUG);
    for ((of, _), counter) in LEVELS.iter().zip(counters) {
        if *of == level {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

pub(crate) struct CountingLayer(LogCounts);

impl<S: Subscriber> Layer<S> for CountingLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let meta = event.metadata();
        self.0.count(source(meta.target()), *meta.level());
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[test]
    fn messages_are_counted_by_level_and_source() {
        let counts = LogCounts::new();
        let subscriber = tracing_subscriber::registry().with(counts.layer());
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(target: "pool", "one");
            tracing::warn!(target: "pool", "two");
            tracing::error!(target: "vat", "three");
            tracing::trace!(target: "vat", "four");
        });
        let shown: Vec<String> = counts
            .snapshot()
            .iter()
            .map(|c| format!("{} {} {}", c.source, c.level, c.count))
            .collect();
        assert_eq!(shown, ["pool warning 2", "vat error 1", "vat debug 1"]);
    }

    #[test]
    fn many_sources_do_not_grow_it_for_ever() {
        let counts = LogCounts::new();
        for number in 0..1000 {
            counts.count(&format!("source-{number}"), Level::INFO);
        }
        let snapshot = counts.snapshot();
        assert_eq!(snapshot.len(), MOST_SOURCES + 1);
        let others = snapshot
            .iter()
            .find(|count| count.source == OTHERS)
            .unwrap();
        assert_eq!(others.count, 1000 - MOST_SOURCES as u64);
    }
}
