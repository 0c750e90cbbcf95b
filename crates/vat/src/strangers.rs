//! Counting the connections of a listener which have not presented a valid sturdy ref yet, in all
//! and per IP address. Shared between the accepting task and the vat thread.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::Notify;

use crate::StrangerLimits;

/// Why a new connection is turned away, or has to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(crate) enum Refused {
    #[error("{0} connections have not presented a valid sturdy ref (max_connections)")]
    Overall(usize),
    #[error(
        "{0} connections from this IP address have not presented a valid sturdy ref (max_connections_per_ip)"
    )]
    PerIp(usize),
}

/// The count of one listener. A clone counts into the same place.
#[derive(Clone, Default)]
pub(crate) struct Strangers(Arc<Places>);

#[derive(Default)]
struct Places {
    counts: Mutex<Counts>,
    freed: Notify,
}

#[derive(Default)]
struct Counts {
    overall: usize,
    by_ip: HashMap<IpAddr, usize>,
}

impl Strangers {
    /// Counts one more, unless that would be too many.
    pub(crate) fn enter(
        &self,
        ip: Option<IpAddr>,
        limits: &StrangerLimits,
    ) -> Result<Permit, Refused> {
        let mut counts = self.counts();
        if counts.overall >= limits.max_connections {
            return Err(Refused::Overall(limits.max_connections));
        }
        if let Some(ip) = ip {
            let here = counts.by_ip.entry(ip).or_default();
            if *here >= limits.max_connections_per_ip {
                return Err(Refused::PerIp(limits.max_connections_per_ip));
            }
            *here += 1;
        }
        counts.overall += 1;
        Ok(Permit {
            strangers: self.clone(),
            ip,
        })
    }

    /// Waits until a place was given back since the last wait. One task at a time may wait.
    pub(crate) async fn freed(&self) {
        self.0.freed.notified().await;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        // The counts are plain numbers, whole after every statement: poison means nothing here.
        self.0.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One counted connection. Dropping it stops counting it.
pub(crate) struct Permit {
    strangers: Strangers,
    ip: Option<IpAddr>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.strangers.counts();
        counts.overall -= 1;
        if let Some(ip) = self.ip
            && let Some(here) = counts.by_ip.get_mut(&ip)
        {
            *here -= 1;
            if *here == 0 {
                counts.by_ip.remove(&ip);
            }
        }
        drop(counts);
        self.strangers.0.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn places_are_counted_per_address_and_in_all_and_given_back() {
        let limits = StrangerLimits {
            max_connections: 3,
            max_connections_per_ip: 2,
            ..StrangerLimits::default()
        };
        let strangers = Strangers::default();
        let enter = |ip: &str| strangers.enter(Some(ip.parse().unwrap()), &limits);
        let _first = enter("10.0.0.1").ok().unwrap();
        let second = enter("10.0.0.1").ok().unwrap();
        assert_eq!(enter("10.0.0.1").err(), Some(Refused::PerIp(2)));
        let _other = enter("10.0.0.2").ok().unwrap();
        assert_eq!(enter("10.0.0.3").err(), Some(Refused::Overall(3)));
        assert_eq!(
            strangers.enter(None, &limits).err(),
            Some(Refused::Overall(3))
        );
        drop(second);
        assert!(enter("10.0.0.1").is_ok());
        assert_eq!(
            strangers.counts().by_ip.len(),
            2,
            "nobody is remembered for nothing"
        );
    }
}
