//! One stay in the pool: from the connection to its end. Joins, asks for work whenever a slot is free, starts what it gets.
//!
//! `joining` is how the worker becomes a member, and learns which of its jobs it may keep; `taking` is how it gets a job.

mod joining;
mod taking;

use std::rc::Rc;
use std::time::Duration;

use capnp::capability::FromClientHook as _;
use ocluster_cli::Backoff;
use ocluster_vat::{Connection, DialOptions, RpcError};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::joining::{Membership, join};
use self::taking::take_job;
use crate::agent::{Agent, STOP_TIMEOUT};
use crate::disk_care::Place;
use crate::standing::Standing;

/// A scheduler that was silent for this long is asked for a sign of life.
const PING_INTERVAL: Duration = Duration::from_secs(4);
/// A scheduler that was silent for this long is taken for dead.
const PING_TIMEOUT: Duration = Duration::from_secs(12);
/// How often a scheduler that refuses to give a job is asked again in one stay. Running jobs go on meanwhile; after that, registering
/// anew may help.
const REFUSALS: u32 = 2;
/// How long to say goodbye for.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long a worker that stops gives its scheduler to take over the outcomes of leased jobs.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Why a stay ended before it was to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The next one may last longer.
    #[error("{0}")]
    Connection(String),
    /// No other will do better with this capability.
    #[error(
        "the scheduler takes no workers under this capability, so it is not a pool's: start the worker with the scheduler's \
         pool-NAME.cap ({0})"
    )]
    NotAPool(RpcError),
}

/// Connects, joins the pool and works until the connection is lost or `shutdown` fires.
///
/// # Errors
/// Why the stay ended before `shutdown`.
pub(crate) async fn stay(agent: &Rc<Agent>, shutdown: &CancellationToken) -> Result<(), Lost> {
    let options = DialOptions::default();
    let connect = ocluster_cli::connect(&agent.vat, &agent.config.cap, &options);
    let connection = tokio::select! {
        connected = connect => connected.map_err(|error| Lost::Connection(error.to_string()))?,
        () = shutdown.cancelled() => return Ok(()),
    };
    let joined = tokio::select! {
        joined = join(agent, &connection) => joined,
        () = shutdown.cancelled() => {
            hang_up(&connection, "The worker is leaving").await;
            return Ok(());
        }
    };
    let member = match joined {
        Ok(member) => member,
        Err(error) => {
            hang_up(&connection, "The worker could not register").await;
            return Err(match error {
                RpcError::Unimplemented(_) => Lost::NotAPool(error),
                other => Lost::Connection(other.to_string()),
            });
        }
    };
    info!("Registered as \"{}\"", agent.config.name);
    agent.status.registered();
    agent.held.found();
    let object = member.queue.clone().cast_to();
    let standing = Standing::new(agent.engine.health.clone());
    let ended = tokio::select! {
        reason = ocluster_vat::watch(&connection, &object, PING_INTERVAL, PING_TIMEOUT) => Err(reason.to_string()),
        error = work(agent, &member, &standing) => Err(error.to_string()),
        error = standing.keep_told(&member.queue) => Err(error.to_string()),
        () = shutdown.cancelled() => {
            say_last_words(agent, &connection).await;
            Ok(())
        }
    };
    // Leaves the pool before the connection goes, so that the scheduler need not find out.
    drop(member);
    hang_up(&connection, "The worker is leaving").await;
    ended.map_err(Lost::Connection)
}

/// Stops the leased jobs because the worker stops, and gives the scheduler a moment to hear of it, so that it can have them done
/// elsewhere. Attached jobs go with the connection.
async fn say_last_words(agent: &Agent, connection: &Connection) {
    agent.held.stop_all();
    let telling = async {
        let _ = tokio::time::timeout(STOP_TIMEOUT, agent.held.all_ended()).await;
        let _ = tokio::time::timeout(LAST_WORDS, agent.held.all_forgotten()).await;
    };
    tokio::select! {
        () = telling => {}
        _ = connection.closed() => {}
    }
}

/// Ends a connection with a word, and gives it a moment to be sent.
async fn hang_up(connection: &Connection, reason: &str) {
    connection.disconnect(reason);
    // Without an answer it is gone anyway.
    let _ = tokio::time::timeout(GOODBYE, connection.closed()).await;
}

/// Waits while jobs fail because of this machine. If that takes long, the scheduler hears of it, so that jobs go to others and people
/// see why.
async fn hold_back(agent: &Agent, standing: &Standing) {
    if !agent.trouble.lasts() {
        return agent.trouble.pause().await;
    }
    standing
        .pause("jobs fail because of this machine".to_owned())
        .await;
    agent.trouble.pause().await;
    standing.resume();
}

/// Takes jobs as long as the scheduler gives them. While jobs fail because of this machine, it takes them ever more slowly, so that
/// one broken worker does not fail the whole queue. A scheduler in trouble is asked again, and again by the next stay.
async fn work(agent: &Rc<Agent>, member: &Membership, standing: &Standing) -> RpcError {
    let mut refusals = 0;
    let mut backoff = Backoff::new();
    loop {
        agent.slots.one_free().await;
        agent.held.room().await;
        standing.good().await;
        let place = Pool { agent, standing };
        if let Some(care) = &agent.disk_care {
            care.keep_room(&place).await;
        }
        hold_back(agent, standing).await;
        standing.good().await;
        let Err(error) = take_job(agent, member).await else {
            refusals = 0;
            backoff = Backoff::new();
            continue;
        };
        refusals += 1;
        if error.is_disconnected() || refusals > REFUSALS {
            return error;
        }
        let wait = backoff.after(Duration::ZERO);
        warn!(
            "The scheduler gives no job ({error}). Will ask again in {:.1}s…",
            wait.as_secs_f64()
        );
        tokio::time::sleep(wait).await;
    }
}

/// The worker's place in the pool, as those see it who want no jobs for a while.
struct Pool<'a> {
    agent: &'a Agent,
    standing: &'a Standing,
}

impl Place for Pool<'_> {
    async fn pause(&self, reason: String) {
        self.standing.pause(reason).await;
    }

    fn resume(&self) {
        self.standing.resume();
    }

    async fn jobs_done(&self) {
        self.agent.slots.all_free().await;
    }
}
