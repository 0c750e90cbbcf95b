//! Time limits of a job, to and from the wire.

use std::time::Duration;

use ocluster_api::extensions_capnp::time_limits;

/// How long a job may take. On the way to the scheduler, none stands for the pool's default; on the way back, for no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobLimits {
    /// One attempt on a worker.
    pub running: Option<Duration>,
    /// Waiting for a worker, all in all.
    pub queued: Option<Duration>,
    /// Running without printing anything.
    pub silent: Option<Duration>,
}

impl JobLimits {
    /// From the wire, where they are milliseconds and 0 is none.
    #[must_use]
    pub fn read(limits: time_limits::Reader<'_>) -> Self {
        let limit = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
        Self {
            running: limit(limits.get_running()),
            queued: limit(limits.get_queued()),
            silent: limit(limits.get_silent()),
        }
    }

    /// To the wire. What is shorter than a millisecond counts as one.
    pub fn write(&self, mut to: time_limits::Builder<'_>) {
        to.set_running(to_wire(self.running));
        to.set_queued(to_wire(self.queued));
        to.set_silent(to_wire(self.silent));
    }
}

fn to_wire(limit: Option<Duration>) -> u64 {
    limit.map_or(0, |limit| {
        u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_read_back() {
        let limits = JobLimits {
            running: Some(Duration::from_secs(90)),
            queued: None,
            silent: Some(Duration::from_millis(1)),
        };
        let mut message = capnp::message::Builder::new_default();
        limits.write(message.init_root());
        assert_eq!(
            JobLimits::read(message.get_root_as_reader().unwrap()),
            limits
        );
    }

    #[test]
    fn a_limit_too_short_for_the_wire_is_not_taken_for_none() {
        assert_eq!(to_wire(Some(Duration::from_nanos(1))), 1);
        assert_eq!(to_wire(Some(Duration::MAX)), u64::MAX);
    }
}
