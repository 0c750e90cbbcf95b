//! What the service manager is told of the worker: that it is up, and in one line what it does.
//!
//! A worker counts as started once it tries to reach its scheduler, not only when it has: a scheduler that is away for an hour is no
//! reason for the manager to give up on the worker.

use std::rc::Rc;

use ocluster_cli::Service;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::agent::Agent;

/// How the worker stands with its scheduler.
#[derive(Clone, Debug)]
pub(crate) struct Status(watch::Sender<Standing>);

#[derive(Clone, Debug)]
enum Standing {
    Connecting,
    Registered,
    Lost(String),
}

/// The worker's announcement; its end is the end of the watchdog's pings.
pub(crate) struct Announced {
    _service: Service,
    _telling: Option<AbortOnDropHandle<()>>,
}

impl Status {
    /// On the way to the scheduler.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Standing::Connecting))
    }

    /// The worker is in its pool.
    pub(crate) fn registered(&self) {
        self.0.send_replace(Standing::Registered);
    }

    /// The worker is on its own, and tries again.
    pub(crate) fn lost(&self, reason: &str) {
        self.0.send_replace(Standing::Lost(reason.to_owned()));
    }
}

/// Tells the service manager, if there is one, how the worker is, until `shutdown` fires or the answer is dropped.
pub(crate) fn announce(agent: &Rc<Agent>, shutdown: &CancellationToken) -> Announced {
    let service = Service::start(shutdown);
    service.ready();
    let telling = service.is_watched().then(|| {
        let told = tell(agent.clone(), service.clone());
        AbortOnDropHandle::new(tokio::task::spawn_local(told))
    });
    Announced {
        _service: service,
        _telling: telling,
    }
}

async fn tell(agent: Rc<Agent>, service: Service) {
    let mut in_use = agent.slots.watch();
    let mut standing = agent.status.0.subscribe();
    loop {
        let taken = *in_use.borrow_and_update();
        let now = standing.borrow_and_update().clone();
        service.status(&line(&now, taken, agent.config.capacity));
        // The senders are the agent's, so that both wait for a change.
        tokio::select! {
            _ = in_use.changed() => {}
            _ = standing.changed() => {}
        }
    }
}

fn line(standing: &Standing, taken: u32, capacity: u32) -> String {
    let busy = format!("{taken} of {capacity} slots busy");
    match standing {
        Standing::Connecting => format!("Connecting to the scheduler; {busy}"),
        Standing::Registered => format!("In the pool; {busy}"),
        Standing::Lost(reason) => format!("Without a scheduler ({reason}); {busy}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_says_where_the_worker_is_and_what_it_does() {
        assert_eq!(
            line(&Standing::Registered, 3, 10),
            "In the pool; 3 of 10 slots busy"
        );
        assert_eq!(
            line(&Standing::Lost("refused".to_owned()), 0, 1),
            "Without a scheduler (refused); 0 of 1 slots busy"
        );
    }
}
