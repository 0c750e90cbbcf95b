//! Clients: they submit jobs under keys, repeat what was not answered, and sometimes change their minds.

use crate::chance::{HOUR, MINUTE, SECOND};
use crate::fault::Fault;
use crate::happening::{Call, Happening};
use crate::plan::{Outcome, Work};
use crate::world::{Request, World};

/// Jobs of each client in a rush.
const RUSH: usize = 25;

impl World {
    pub(crate) fn plan_job(&mut self, client: usize) {
        if let Some(plan) = self.plan.clients.get(client) {
            self.after_chance(plan.every, Happening::NewJob { client });
        }
    }

    pub(crate) fn new_job(&mut self, client: usize) {
        if self.is_ending {
            return;
        }
        self.plan_job(client);
        let pool = self.chance.index(self.plan.pools.len());
        let hint = match self.chance.permille(400) {
            true => String::new(),
            false => format!("repository-{}", self.chance.between(1, 12)),
        };
        let request = Request {
            client,
            pool,
            hint,
            urgent: self.chance.permille(50),
            work: Work::draw(&mut self.chance),
            job: None,
            may_be_cancelled: true,
        };
        let key = self.requests.len();
        self.requests.push(request);
        self.ask(Call::Submit(key));
    }

    /// A client calls, and will again until it is answered.
    fn ask(&mut self, call: Call) {
        self.unanswered.insert(call);
        let latency = self.latency();
        self.after(latency, Happening::Call(call));
    }

    pub(crate) fn call(&mut self, call: Call) {
        if !self.unanswered.contains(&call) {
            return;
        }
        if self.scheduler.is_none() {
            self.call_again(call);
            return;
        }
        match call {
            Call::Submit(key) => self.submit(key),
            Call::Cancel(key) => self.cancel(key),
        }
    }

    fn call_again(&mut self, call: Call) {
        let wait = self.chance.between(SECOND, 10 * SECOND);
        self.after(wait, Happening::Call(call));
    }

    /// The scheduler died: what it did not answer is asked again.
    pub(crate) fn calls_are_lost(&mut self) {
        for call in self.unanswered.clone() {
            self.call_again(call);
        }
    }

    /// The client hears that its job is accepted.
    pub(crate) fn submission_answered(&mut self, key: usize, job: ocluster_scheduling::JobId) {
        self.checker.accepted(key, job);
        if !self.unanswered.remove(&Call::Submit(key)) {
            return;
        }
        let Some(request) = self.requests.get_mut(key) else {
            return;
        };
        request.job = Some(job);
        if request.may_be_cancelled && self.chance.permille(60) {
            self.unanswered.insert(Call::Cancel(key));
            self.after_chance(4 * MINUTE, Happening::Call(Call::Cancel(key)));
        }
    }

    /// The client hears whether its job was cancelled, or had ended before.
    pub(crate) fn cancel_answered(&mut self, key: usize, cancelled: bool) {
        if !self.unanswered.remove(&Call::Cancel(key)) || !cancelled {
            return;
        }
        self.faults.count(Fault::Cancel);
        if let Some(job) = self.requests.get(key).and_then(|request| request.job) {
            self.checker.cancelled(job);
        }
    }

    /// All clients submit many like jobs at once, so that it can be seen whether they are served evenly.
    pub(crate) fn rush(&mut self) {
        if self.is_ending {
            return;
        }
        self.after_chance(6 * HOUR, Happening::Rush);
        let bounds = &self.plan.max_running;
        let bounded = bounds.general.is_some() || !bounds.of_client.is_empty();
        if bounded || self.scheduler.is_none() || self.checker.is_rush() {
            return;
        }
        let pool = self.chance.index(self.plan.pools.len());
        let mut jobs = Vec::new();
        for client in 0..self.plan.clients.len() {
            let mut of_client = Vec::new();
            for _ in 0..RUSH {
                let duration = self.chance.heavy_tailed(MINUTE / 2, HOUR);
                let key = self.requests.len();
                self.requests.push(Request {
                    client,
                    pool,
                    hint: String::new(),
                    urgent: false,
                    work: Work {
                        duration,
                        outcome: Outcome::Passed,
                        breaks: 0,
                    },
                    job: None,
                    may_be_cancelled: false,
                });
                self.unanswered.insert(Call::Submit(key));
                self.submit(key);
                of_client.extend(self.scheduler.as_ref().and_then(|s| s.job_of(key)));
            }
            jobs.push((self.step(client), of_client));
        }
        self.checker.rush(self.now + SECOND, jobs);
    }
}
