//! A pool's workers, as `PoolAdminEndpoint.describe` tells of them: what the core knows, what they say of themselves, and when they
//! were last heard of.

use std::rc::Rc;

use ocluster_api::extensions_capnp::{worker_description, worker_facts};
use ocluster_scheduling::{AdminPause, PoolName, Reasons, WorkerName};
use ocluster_store::JobId;

use super::job_info::list_length;
use crate::state::Scheduler;
use crate::worker_session::{WorkerFacts, WorkerSession};

/// What there is to say of one worker.
pub(super) struct Description {
    name: WorkerName,
    /// Whether it would be given jobs; of a worker that is not connected, if it were.
    active: bool,
    pause: Option<AdminPause>,
    presence: Option<Presence>,
}

/// What there is to say of a worker while it is connected.
struct Presence {
    reasons: Reasons,
    note: Option<String>,
    capacity: u32,
    running: u32,
    queued: u32,
    session: Option<Rc<WorkerSession>>,
    jobs: Vec<JobId>,
}

/// All workers that the pool knows, by name.
pub(super) fn workers(scheduler: &Scheduler, pool: &PoolName) -> Vec<Description> {
    let Some(view) = scheduler.look(|cluster| cluster.view(pool)) else {
        return Vec::new();
    };
    let mut attached = scheduler.attached_by_worker();
    let connected = view.workers.into_iter().map(|worker| {
        let durable = scheduler.durable_on(pool, worker.name.as_str()).into_iter();
        let durable = durable
            .filter(|job| {
                job.under_way()
                    .is_some_and(|attempt| attempt.is_connected())
            })
            .map(|job| job.id);
        let attached = attached.remove(&worker.id).unwrap_or_default();
        let mut jobs: Vec<JobId> = durable
            .chain(attached)
            .map(|job| JobId::new(job.0))
            .collect();
        jobs.sort_unstable();
        Description {
            active: worker.inactive.is_empty(),
            pause: worker.pause,
            presence: Some(Presence {
                reasons: worker.inactive,
                note: worker.pause_note.map(|note| note.to_string()),
                capacity: worker.capacity,
                running: worker.running,
                queued: list_length(&worker.queue),
                session: scheduler.worker(pool, &worker.name),
                jobs,
            }),
            name: worker.name,
        }
    });
    let disconnected = view.disconnected.into_iter().map(|worker| Description {
        active: worker.active,
        pause: worker.pause,
        presence: None,
        name: worker.name,
    });
    let mut workers: Vec<Description> = connected.chain(disconnected).collect();
    workers.sort_by(|a, b| a.name.cmp(&b.name));
    workers
}

impl Description {
    /// Writes it in its wire form.
    pub(super) fn write(&self, mut worker: worker_description::Builder<'_>) {
        worker.set_name(self.name.as_str());
        worker.set_active(self.active);
        worker.set_connected(self.presence.is_some());
        if let Some(pause) = &self.pause {
            if let Some(by) = &pause.by {
                worker.set_paused_by(by.as_str());
            }
            if let Some(why) = &pause.why {
                worker.set_pause_reason(why.as_str());
            }
            worker.set_paused_at(pause.since_ms);
        }
        if let Some(presence) = &self.presence {
            presence.write(worker);
        }
    }
}

impl Presence {
    fn write(&self, mut worker: worker_description::Builder<'_>) {
        let reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|reason| reason.to_string())
            .collect();
        let length = list_length(&reasons);
        let mut list = worker.reborrow().init_inactive_reasons(length);
        for (index, reason) in (0..length).zip(&reasons) {
            list.set(index, reason);
        }
        worker.set_note(self.note.as_deref().unwrap_or_default());
        worker.set_capacity(self.capacity);
        worker.set_running(self.running);
        worker.set_queued(self.queued);
        let length = list_length(&self.jobs);
        let mut list = worker.reborrow().init_jobs(length);
        for (index, job) in (0..length).zip(&self.jobs) {
            list.set(index, job.to_string());
        }
        let Some(session) = &self.session else { return };
        let silence = session.connection.last_received().as_millis();
        worker.set_last_heard_ago(u64::try_from(silence).unwrap_or(u64::MAX));
        if let Some(facts) = &session.facts {
            write_facts(facts, worker.init_facts());
        }
    }
}

fn write_facts(facts: &WorkerFacts, mut written: worker_facts::Builder<'_>) {
    written.set_version(&facts.version);
    written.set_os(&facts.os);
    written.set_arch(&facts.arch);
    written.set_kernel(&facts.kernel);
    written.set_cpus(facts.cpus);
    written.set_memory(facts.memory);
    written.set_disk(facts.disk);
    written.set_disk_free(facts.disk_free);
    let length = list_length(&facts.kinds);
    let mut kinds = written.init_kinds(length);
    for (index, kind) in (0..length).zip(&facts.kinds) {
        kinds.set(index, kind);
    }
}
