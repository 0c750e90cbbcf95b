//! One pool (bodies follow).

use crate::config::{Costs, PoolConfig};
use crate::effect::{Effect, Refusal};
use crate::ids::{ClientId, Hint, JobId, PopId, WorkerId, WorkerName};
use crate::rate::Rate;
use crate::reasons::{Reason, Reasons};
use crate::record::Record;
use crate::time::Timestamp;
use crate::view::{KnownWorker, PoolStats, PoolView};

#[derive(Debug)]
pub(crate) struct Out {
    pub(crate) now: Timestamp,
    pub(crate) list: Vec<Effect>,
}

impl Out {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            now,
            list: Vec::new(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Pool {}

#[allow(unused_variables, clippy::unimplemented, dead_code)]
impl Pool {
    pub(crate) fn new(config: PoolConfig, costs: Costs, age: Option<u32>) -> Self {
        Self {}
    }
    pub(crate) fn restore(&mut self, fact: Record) {
        unimplemented!()
    }
    pub(crate) fn has_job(&self, job: JobId) -> bool {
        unimplemented!()
    }
    pub(crate) fn has_queued(&self, job: JobId) -> bool {
        unimplemented!()
    }
    pub(crate) fn has_running(&self, job: JobId) -> bool {
        unimplemented!()
    }
    pub(crate) fn has_worker(&self, worker: WorkerId) -> bool {
        unimplemented!()
    }
    pub(crate) fn has_pop(&self, pop: PopId) -> bool {
        unimplemented!()
    }
    pub(crate) fn submit(
        &mut self,
        out: &mut Out,
        client: ClientId,
        job: JobId,
        hint: Hint,
        urgent: bool,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn cancel(&mut self, out: &mut Out, job: JobId) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn finished(&mut self, out: &mut Out, job: JobId) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn register(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        name: WorkerName,
        capacity: u32,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn ask(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        pop: PopId,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn resume_pop(&mut self, out: &mut Out, pop: PopId) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn withdraw_pop(&mut self, out: &mut Out, pop: PopId) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn deactivate(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        reason: Reason,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn activate(
        &mut self,
        out: &mut Out,
        worker: WorkerId,
        reason: Reason,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn admin_active(
        &mut self,
        out: &mut Out,
        name: WorkerName,
        active: bool,
        auto_create: bool,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn leave(&mut self, out: &mut Out, worker: WorkerId) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn forget(&mut self, out: &mut Out, name: WorkerName) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn set_rate(
        &mut self,
        out: &mut Out,
        client: ClientId,
        rate: Rate,
    ) -> Result<(), Refusal> {
        unimplemented!()
    }
    pub(crate) fn remove_client(&mut self, out: &mut Out, client: &ClientId) {
        unimplemented!()
    }
    pub(crate) fn tick(&mut self, out: &mut Out) {
        unimplemented!()
    }
    pub(crate) fn view(&self) -> PoolView {
        unimplemented!()
    }
    pub(crate) fn cached_hints(&self) -> Vec<(Hint, Vec<WorkerName>)> {
        unimplemented!()
    }
    pub(crate) fn known_workers(&self) -> Vec<KnownWorker> {
        unimplemented!()
    }
    pub(crate) fn connected(&self, name: &WorkerName) -> Option<WorkerId> {
        unimplemented!()
    }
    pub(crate) fn reasons(&self, worker: WorkerId) -> Option<Reasons> {
        unimplemented!()
    }
    pub(crate) fn running_on(&self, worker: WorkerId) -> Option<u32> {
        unimplemented!()
    }
    pub(crate) fn stats(&self) -> PoolStats {
        unimplemented!()
    }
}
