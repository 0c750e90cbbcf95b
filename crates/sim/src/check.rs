//! Holds a history against what was promised, and against the records that the scheduler shows in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use ocluster_client::{JobInfo, JobState};
use ocluster_store::JobId;
use sha2::{Digest as _, Sha256};

use crate::faults::Action;
use crate::history::{ExecEnd, Execution, History, JobHistory, Verdict};
use crate::hosts::Audited;
use crate::plan::{Plan, PlannedJob};
use crate::read_log::{self, Part};

/// The bound on attempts that the simulated scheduler has.
const MAX_ATTEMPTS: usize = 3;

/// What one job is judged by.
struct Case<'a> {
    planned: &'a PlannedJob,
    seen: &'a JobHistory,
    executions: Vec<&'a Execution>,
    audited: Option<&'a Audited>,
    /// Whether the scheduler's clock was right all the time.
    times_are_true: bool,
}

/// Notes every broken promise in the history.
pub fn check(plan: &Plan, history: &History, audited: &BTreeMap<String, Audited>) {
    let jobs = history.jobs();
    let executions = history.executions();
    for planned in plan.jobs() {
        let key = &planned.work.key;
        let Some(seen) = jobs.get(key) else {
            history.violation(format_args!("{key} was never even submitted"));
            continue;
        };
        let case = Case {
            planned,
            seen,
            executions: executions
                .iter()
                .filter(|execution| &execution.job == key)
                .collect(),
            audited: audited.get(key),
            times_are_true: times_are_true(plan),
        };
        for broken in case.broken() {
            history.violation(format_args!("{key}: {broken}"));
        }
    }
    for broken in order(plan, &jobs, audited) {
        history.violation(broken);
    }
}

impl Case<'_> {
    fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        if self.planned.attached {
            self.check_attached(&mut broken);
        } else if self.seen.accepted.is_some() {
            match self.audited {
                Some(audited) => self.check_durable(audited, &mut broken),
                None => broken.push("it was accepted and has no record".to_owned()),
            }
        } else if let Some(why) = &self.seen.refused {
            broken.push(format!(
                "it was refused though nothing was wrong with it: {why}"
            ));
        } else {
            broken.push("its submission was never answered".to_owned());
        }
        broken
    }

    fn check_attached(&self, broken: &mut Vec<String>) {
        if self.executions.len() > 1 {
            broken.push(format!(
                "an attached job ran {} times",
                self.executions.len()
            ));
        }
        if let Some(run) = self.executions.first() {
            let part = Part {
                worker: &run.worker,
                bytes: &self.seen.log,
                whole: false,
            };
            if let Err(wrong) = read_log::check(&self.planned.work, &[part], &self.executions) {
                broken.push(format!("its log is wrong: {wrong}"));
            }
        }
        if let Some((_, Verdict::Passed(output))) = self.seen.verdicts.first() {
            self.check_output(output, broken);
        }
    }

    fn check_durable(&self, audited: &Audited, broken: &mut Vec<String>) {
        let info = &audited.info;
        if !info.state.is_ended() {
            broken.push(format!(
                "it was accepted and is still {} (attempt {})",
                info.state.name(),
                info.attempt
            ));
            return;
        }
        self.check_verdicts(info, broken);
        self.check_cancel(info, broken);
        self.check_attempts(info, broken);
        let given_up = info.attempts.len() >= MAX_ATTEMPTS;
        match info.state {
            JobState::Passed => self.check_output(&info.output, broken),
            JobState::Failed => {
                let failed = |run: &&Execution| matches!(run.ended, Some((_, ExecEnd::Failed)));
                if !given_up && !self.executions.iter().any(failed) {
                    broken.push(format!("it failed, and no run of it did: {:?}", info.cause));
                }
            }
            JobState::Cancelled if self.planned.cancel_after.is_none() => {
                broken.push(format!("nobody cancelled it: {:?}", info.cause));
            }
            JobState::Cancelled => {}
            _ if given_up => {}
            _ => broken.push(format!(
                "it was given up as {} after {} attempts: {:?}",
                info.state.name(),
                info.attempts.len(),
                info.cause
            )),
        }
        self.check_log(audited, broken);
        self.check_client_log(audited, broken);
    }

    /// One visible result.
    fn check_verdicts(&self, info: &JobInfo, broken: &mut Vec<String>) {
        if self.seen.verdicts.is_empty() {
            broken.push(format!(
                "it is {}, and its client was never told",
                info.state.name()
            ));
        }
        for (_, verdict) in &self.seen.verdicts {
            let agrees = match verdict {
                Verdict::Passed(output) => info.has_passed() && *output == info.output,
                Verdict::Failed(_) => !info.has_passed(),
            };
            if !agrees {
                broken.push(format!(
                    "its client was told {verdict:?}, and the record says {} ({:?}, {:?})",
                    info.state.name(),
                    info.output,
                    info.cause
                ));
            }
        }
    }

    /// Cancel is final.
    fn check_cancel(&self, info: &JobInfo, broken: &mut Vec<String>) {
        let Some(cancelled) = self.seen.cancelled else {
            return;
        };
        if info.state != JobState::Cancelled {
            broken.push(format!(
                "its client was told at {cancelled:?} that it is cancelled, and it is {}",
                info.state.name()
            ));
        }
        // What was on its way to a worker may still arrive there.
        let slack = Duration::from_secs(30);
        for execution in &self.executions {
            if execution.started > cancelled + slack {
                broken.push(format!(
                    "it was cancelled at {cancelled:?}, and {} started it at {:?}",
                    execution.worker, execution.started
                ));
            }
        }
    }

    /// Attempts are counted, bounded, and come one after the other; no worker ran it more often than it was given it.
    fn check_attempts(&self, info: &JobInfo, broken: &mut Vec<String>) {
        // An attempt that no worker heard of, because the scheduler died as it gave it out, does not count.
        if self.executions.len() > MAX_ATTEMPTS {
            broken.push(format!("it was run {} times", self.executions.len()));
        }
        for (at, attempt) in info.attempts.iter().enumerate() {
            if usize::try_from(attempt.number) != Ok(at + 1) {
                broken.push(format!("its attempts are misnumbered: {:?}", info.attempts));
            }
        }
        for pair in info.attempts.windows(2) {
            let [earlier, later] = pair else { continue };
            if self.times_are_true && earlier.ended_at > later.started_at {
                broken.push(format!("two attempts at once: {:?}", info.attempts));
            }
        }
        for run in &self.executions {
            let given = info
                .attempts
                .iter()
                .filter(|attempt| attempt.worker == run.worker);
            let runs = self
                .executions
                .iter()
                .filter(|other| other.worker == run.worker);
            let (given, runs) = (given.count(), runs.count());
            if runs > given {
                broken.push(format!(
                    "{} was given it {given} times, and ran it {runs} times",
                    run.worker
                ));
                return;
            }
        }
        self.check_repeats(info, broken);
    }

    /// A build that failed, and whose worker was there to say so, is not tried again.
    fn check_repeats(&self, info: &JobInfo, broken: &mut Vec<String>) {
        for attempt in info.attempts.iter().rev().skip(1) {
            let code = attempt.cause.as_ref().map_or("", |cause| &cause.code);
            if code == "build-failed" {
                broken.push(format!(
                    "a failed build was tried again: {:?}",
                    info.attempts
                ));
            }
        }
    }

    /// The output is that of one run, which passed.
    fn check_output(&self, output: &str, broken: &mut Vec<String>) {
        let passed = self.executions.iter().any(|execution| {
            matches!(execution.ended, Some((_, ExecEnd::Passed)))
                && *output == format!("output of execution {}", execution.number)
        });
        if !passed {
            broken.push(format!(
                "it passed with {output:?}, which no run of it gave"
            ));
        }
    }

    /// Each attempt's part of the log is a prefix of what its worker wrote.
    fn check_log(&self, audited: &Audited, broken: &mut Vec<String>) {
        let log = audited.log.0.as_slice();
        let attempts = &audited.info.attempts;
        let mut parts = Vec::new();
        for (at, attempt) in attempts.iter().enumerate() {
            let end = attempts.get(at + 1).map(|next| next.log_start);
            let place = |place: u64| usize::try_from(place).unwrap_or(usize::MAX);
            let range = place(attempt.log_start)..end.map_or(log.len(), place);
            let Some(bytes) = log.get(range) else {
                broken.push(format!(
                    "its log has {} bytes, and its attempts begin elsewhere: {attempts:?}",
                    log.len()
                ));
                return;
            };
            parts.push(Part {
                worker: &attempt.worker,
                bytes,
                // A worker that is lost after it reported the result takes the rest of the log with it, and readers are told so.
                whole: end.is_none() && audited.info.has_passed() && audited.log.1.is_none(),
            });
        }
        if let Err(wrong) = read_log::check(&self.planned.work, &parts, &self.executions) {
            broken.push(format!("its log is wrong: {wrong}"));
        }
    }

    fn check_client_log(&self, audited: &Audited, broken: &mut Vec<String>) {
        let (log, trouble) = &audited.log;
        if let Some(trouble) = trouble
            && audited.info.has_passed()
            && !trouble.contains("the worker was lost before the log was complete")
        {
            broken.push(format!("its log breaks though it passed: {trouble}"));
        }
        let begun = log.starts_with(&self.seen.log);
        let same = self.seen.log == *log;
        if !begun || (self.seen.log_complete && !same) {
            broken.push(format!(
                "its client read {} bytes (complete: {}) which are not those of the log ({} bytes)",
                self.seen.log.len(),
                self.seen.log_complete,
                log.len()
            ));
        }
        if usize::try_from(audited.info.log_length) != Ok(log.len()) {
            broken.push(format!(
                "its record says {} bytes of log, and there are {}",
                audited.info.log_length,
                log.len()
            ));
        }
        let digest = format!("{:x}", Sha256::digest(log));
        if audited
            .info
            .log_digest
            .as_ref()
            .is_some_and(|told| *told != digest)
        {
            broken.push("the digest of its log is another one".to_owned());
        }
    }
}

/// Whether the times in the records say anything.
fn times_are_true(plan: &Plan) -> bool {
    let clock_jumps = |(_, action): &(Duration, Action)| matches!(action, Action::Skew(_));
    !plan.faults.iter().any(clock_jumps)
}

/// Jobs of one client that differ in nothing else begin in the order in which they were accepted.
fn order(
    plan: &Plan,
    jobs: &BTreeMap<String, JobHistory>,
    audited: &BTreeMap<String, Audited>,
) -> Vec<String> {
    let mut broken = Vec::new();
    if !times_are_true(plan) {
        return broken;
    }
    for client in &plan.clients {
        for urgent in [false, true] {
            let mut begun: Vec<(JobId, &str, Option<u64>)> = Vec::new();
            for planned in &client.jobs {
                let key = planned.work.key.as_str();
                let (Some(seen), Some(record)) = (jobs.get(key), audited.get(key)) else {
                    continue;
                };
                let (Some((_, id)), Some(first)) = (&seen.accepted, record.info.attempts.first())
                else {
                    continue;
                };
                if planned.urgent == urgent
                    && let Ok(id) = id.parse()
                {
                    begun.push((id, key, first.started_at));
                }
            }
            begun.sort();
            for pair in begun.windows(2) {
                let [(_, one, before), (_, other, after)] = pair else {
                    continue;
                };
                if before > after {
                    broken.push(format!(
                        "{other} was accepted after {one} and began at {after:?}, before it at {before:?}"
                    ));
                }
            }
        }
    }
    broken
}
