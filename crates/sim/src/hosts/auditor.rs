//! Whoever looks at everything when it is over: asks the scheduler for the record and the whole log of every durable job.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt as _;
use ocluster_client::{Client, JobInfo, JobState, RpcError};

use super::client::Access;
use crate::history::History;

/// What the scheduler says of a job when all is over.
#[derive(Clone, Debug)]
pub struct Audited {
    /// Its record.
    pub info: JobInfo,
    /// The log, and how reading it ended if it broke.
    pub log: (Vec<u8>, Option<String>),
}

/// The auditor's host.
#[derive(Clone)]
pub struct Auditor {
    /// Set when it is time.
    pub begin: Rc<Cell<bool>>,
    /// Set when it is done.
    pub done: Rc<Cell<bool>>,
    /// The clients.
    pub clients: Vec<String>,
    /// Where the ids are.
    pub history: History,
    /// What it found, by the jobs' keys.
    pub found: Rc<RefCell<BTreeMap<String, Audited>>>,
}

impl Auditor {
    /// Its life.
    ///
    /// # Errors
    /// Never: whatever happens is noted.
    pub async fn live(self) -> turmoil::Result {
        while !self.begin.get() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        for client in &self.clients {
            let access = Access::new(client);
            for (key, job) in self.history.jobs() {
                let Some((_, id)) = job.accepted else {
                    continue;
                };
                if !key.starts_with(&format!("{client}/")) {
                    continue;
                }
                let client = access.get().await;
                match audit(&client, &id).await {
                    Ok(audited) => {
                        self.found.borrow_mut().insert(key, audited);
                    }
                    Err(error) => self
                        .history
                        .violation(format_args!("{key} ({id}) was accepted, and now: {error}")),
                }
            }
        }
        self.done.set(true);
        std::future::pending().await
    }
}

async fn audit(client: &Client, id: &str) -> Result<Audited, RpcError> {
    let job = client.find(id).await?;
    let info = job.info().await?;
    let mut log = (Vec::new(), None);
    if !matches!(info.state, JobState::Queued | JobState::Running) {
        let mut pieces = std::pin::pin!(job.log(0));
        while let Some(piece) = pieces.next().await {
            match piece {
                Ok(piece) => log.0.extend_from_slice(&piece),
                Err(error) => log.1 = Some(error.to_string()),
            }
        }
    }
    Ok(Audited { info, log })
}
