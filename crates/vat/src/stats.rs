//! Counters over all connections of a process, for its metrics page.
//!
//! The names follow OCluster's `capnp_net_*` metrics; this file knows no metrics library.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Shared counters; a clone counts into the same place.
#[derive(Clone, Debug, Default)]
pub struct Stats(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    inbound_received: AtomicU64,
    outbound_enqueued: AtomicU64,
    outbound_sent: AtomicU64,
    outbound_dropped: AtomicU64,
}

impl Stats {
    /// Fresh counters, all zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `capnp_net_connections`: live connections, a gauge.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Ordering::Relaxed)
    }

    /// `capnp_net_messages_inbound_received_total`: messages received.
    #[must_use]
    pub fn inbound_received(&self) -> u64 {
        self.0.inbound_received.load(Ordering::Relaxed)
    }

    /// `capnp_net_messages_outbound_enqueued_total`: messages enqueued to be transmitted.
    #[must_use]
    pub fn outbound_enqueued(&self) -> u64 {
        self.0.outbound_enqueued.load(Ordering::Relaxed)
    }

    /// `capnp_net_messages_outbound_sent_total`: messages handed to the operating system.
    #[must_use]
    pub fn outbound_sent(&self) -> u64 {
        self.0.outbound_sent.load(Ordering::Relaxed)
    }

    /// `capnp_net_messages_outbound_dropped_total`: messages lost because the connection ended.
    #[must_use]
    pub fn outbound_dropped(&self) -> u64 {
        self.0.outbound_dropped.load(Ordering::Relaxed)
    }

    pub(crate) fn opened(&self) {
        self.0.connections.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn closed(&self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn received(&self) {
        self.0.inbound_received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn enqueued(&self) {
        self.0.outbound_enqueued.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sent(&self, messages: u64) {
        self.0.outbound_sent.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn dropped(&self, messages: u64) {
        self.0
            .outbound_dropped
            .fetch_add(messages, Ordering::Relaxed);
    }
}
