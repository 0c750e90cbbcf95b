//! Holds a history against what was promised, and against the records that the scheduler shows in the end.

use std::collections::BTreeMap;
use std::time::Duration;

use ocluster_store::JobId;
use sha2::{Digest as _, Sha256};

use crate::faults::Action;
use crate::history::{ExecEnd, Execution, History, JobHistory, Verdict};
use crate::hosts::Audited;
use crate::plan::{Plan, PlannedJob};
use crate::work::Work;

/// The bound on attempts that the simulated scheduler has.
const MAX_ATTEMPTS: usize = 3;

/// What one job is judged by.
struct Case<'a> {
    planned: &'a PlannedJob,
    seen: &'a JobHistory,
    executions: Vec<&'a Execution>,
    audited: Option<&'a Audited>,
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
        self.check_log(&self.seen.log, self.seen.log_complete, broken);
        if let Some((_, Verdict::Passed(output))) = self.seen.verdicts.first() {
            self.check_output(output, broken);
        }
    }

    fn check_durable(&self, audited: &Audited, broken: &mut Vec<String>) {
        let ended = !matches!(audited.state.as_str(), "queued" | "running");
        if !ended {
            broken.push(format!(
                "it was accepted and is still {} (attempt {})",
                audited.state, audited.attempt
            ));
            return;
        }
        self.check_verdicts(audited, broken);
        self.check_cancel(audited, broken);
        self.check_attempts(audited, broken);
        self.check_overlaps(audited, broken);
        match audited.state.as_str() {
            "passed" => self.check_output(&audited.output, broken),
            "failed" => {
                let failed = |execution: &&Execution| {
                    matches!(
                        execution.ended,
                        Some((_, ExecEnd::Failed | ExecEnd::Infrastructure))
                    )
                };
                if !self.executions.iter().any(failed) {
                    broken.push(format!(
                        "it failed, and no run of it did: {}",
                        audited.cause
                    ));
                }
            }
            "cancelled" => {
                if self.planned.cancel_after.is_none() {
                    broken.push(format!("nobody cancelled it: {}", audited.cause));
                }
            }
            "lost" => {
                if audited.attempts.len() < MAX_ATTEMPTS {
                    broken.push(format!(
                        "it was given up after {} attempts: {}",
                        audited.attempts.len(),
                        audited.cause
                    ));
                }
            }
            other => broken.push(format!("it ended as {other}: {}", audited.cause)),
        }
        self.check_log(&audited.log.0, audited.state == "passed", broken);
        self.check_client_log(audited, broken);
    }

    /// One visible result.
    fn check_verdicts(&self, audited: &Audited, broken: &mut Vec<String>) {
        if self.seen.verdicts.is_empty() {
            broken.push(format!(
                "it is {}, and its client was never told",
                audited.state
            ));
        }
        for (_, verdict) in &self.seen.verdicts {
            let agrees = match verdict {
                Verdict::Passed(output) => audited.state == "passed" && *output == audited.output,
                Verdict::Failed(_) => audited.state != "passed",
            };
            if !agrees {
                broken.push(format!(
                    "its client was told {verdict:?}, and the record says {} ({:?}, {})",
                    audited.state, audited.output, audited.cause
                ));
            }
        }
    }

    /// Cancel is final.
    fn check_cancel(&self, audited: &Audited, broken: &mut Vec<String>) {
        let Some(cancelled) = self.seen.cancelled else {
            return;
        };
        if audited.state != "cancelled" {
            broken.push(format!(
                "its client was told at {cancelled:?} that it is cancelled, and it is {}",
                audited.state
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

    fn check_attempts(&self, audited: &Audited, broken: &mut Vec<String>) {
        let last = audited.attempts.last().map_or(0, |attempt| attempt.number);
        let attempts = usize::try_from(last.max(audited.attempt)).unwrap_or(usize::MAX);
        if attempts > MAX_ATTEMPTS {
            broken.push(format!("it was tried {attempts} times"));
        }
        if self.executions.len() > attempts {
            broken.push(format!(
                "it ran {} times in {attempts} attempts",
                self.executions.len()
            ));
        }
        for (at, attempt) in audited.attempts.iter().enumerate() {
            if usize::try_from(attempt.number) != Ok(at + 1) {
                broken.push(format!(
                    "its attempts are misnumbered: {:?}",
                    audited.attempts
                ));
            }
        }
    }

    /// No two runs at once, but for those whose attempt was over for the scheduler when the other began.
    fn check_overlaps(&self, audited: &Audited, broken: &mut Vec<String>) {
        for pair in self.executions.windows(2) {
            let [earlier, later] = pair else { continue };
            let over = earlier.ended.is_some_and(|(at, _)| at <= later.started);
            if over {
                continue;
            }
            // The later one must belong to a later attempt, on another worker or another life of the same one.
            let attempts = |worker: &str| {
                audited
                    .attempts
                    .iter()
                    .filter(|attempt| attempt.worker == worker)
                    .map(|attempt| attempt.number)
                    .collect::<Vec<_>>()
            };
            let (first, second) = (attempts(&earlier.worker), attempts(&later.worker));
            let fenced = first.iter().any(|one| second.iter().any(|two| two > one))
                || second.contains(&audited.attempt) && !first.contains(&audited.attempt);
            if !fenced {
                broken.push(format!(
                    "{} ran it while {} did, and the attempts do not say so: {:?}",
                    later.worker, earlier.worker, audited.attempts
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

    /// A log is made of prefixes of what runs printed, in order, without holes or repeats.
    fn check_log(&self, log: &[u8], whole: bool, broken: &mut Vec<String>) {
        let text = String::from_utf8_lossy(log);
        if let Err(wrong) = read_log(&self.planned.work, &text, &self.executions, whole) {
            broken.push(format!("its log is wrong: {wrong}"));
        }
    }

    fn check_client_log(&self, audited: &Audited, broken: &mut Vec<String>) {
        let (log, trouble) = &audited.log;
        if let Some(trouble) = trouble
            && audited.state == "passed"
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
        if usize::try_from(audited.log_length) != Ok(log.len()) {
            broken.push(format!(
                "its record says {} bytes of log, and there are {}",
                audited.log_length,
                log.len()
            ));
        }
        let digest = format!("{:x}", Sha256::digest(log));
        if !audited.log_digest.is_empty() && audited.log_digest != digest {
            broken.push("the digest of its log is another one".to_owned());
        }
    }
}

/// Takes a log apart: lines of runs, and lines of the scheduler and of workers between them.
fn read_log(work: &Work, text: &str, executions: &[&Execution], whole: bool) -> Result<(), String> {
    let mine = format!("{} execution ", work.key);
    let mut current: Option<usize> = None;
    let mut next = 0;
    let mut lines = text.split_inclusive('\n').peekable();
    while let Some(line) = lines.next() {
        let Some(rest) = line.strip_prefix(&mine) else {
            // A line of others, or one of ours that was cut off.
            continue;
        };
        let mut words = rest.split(' ');
        let number = words.next().and_then(|word| word.parse().ok());
        let counted = words.nth(1).map(str::trim_end).map(str::parse::<u32>);
        let (Some(number), Some(Ok(counted)), true) = (number, counted, line.ends_with('\n'))
        else {
            // Cut off in the middle: nothing of this run may follow.
            current = None;
            next = u32::MAX;
            continue;
        };
        if current != Some(number) {
            if next == u32::MAX && current.is_none() {
                // The run that was cut off is over.
            }
            if current.is_some_and(|current| number < current) {
                return Err(format!("execution {number} comes after a later one"));
            }
            current = Some(number);
            next = 0;
        }
        if counted != next {
            return Err(format!(
                "line {counted} of execution {number} follows where line {next} should"
            ));
        }
        next += 1;
        let Some(execution) = executions.iter().find(|one| one.number == number) else {
            return Err(format!("execution {number} was not one of this job"));
        };
        let expected = work.line(number, counted);
        if line.trim_end_matches('\n') != expected {
            // The scheduler's own words may follow a line that was cut off.
            if !line.starts_with(expected.get(..40.min(expected.len())).unwrap_or_default()) {
                return Err(format!("line {counted} of execution {number} is damaged"));
            }
            return Ok(());
        }
        if counted >= execution.lines {
            return Err(format!("execution {number} printed no line {counted}"));
        }
    }
    let last = executions
        .iter()
        .rev()
        .find(|one| matches!(one.ended, Some((_, ExecEnd::Passed))));
    if whole
        && let Some(last) = last
        && (last.lines > 0 && (current != Some(last.number) || next != last.lines))
        && !passed_earlier(executions, current, next)
    {
        return Err(format!(
            "execution {} printed {} lines, and the log ends with line {next} of {current:?}",
            last.number, last.lines
        ));
    }
    Ok(())
}

/// Whether the log ends with the whole of some run that passed.
fn passed_earlier(executions: &[&Execution], current: Option<usize>, next: u32) -> bool {
    executions.iter().any(|one| {
        Some(one.number) == current
            && matches!(one.ended, Some((_, ExecEnd::Passed)))
            && one.lines == next
    })
}

/// Jobs of one client that differ in nothing else begin in the order in which they were accepted.
fn order(
    plan: &Plan,
    jobs: &BTreeMap<String, JobHistory>,
    audited: &BTreeMap<String, Audited>,
) -> Vec<String> {
    let mut broken = Vec::new();
    let clock_jumps = |(_, action): &(Duration, Action)| matches!(action, Action::Skew(_));
    if plan.faults.iter().any(clock_jumps) {
        // The times in the records say nothing then.
        return broken;
    }
    for client in &plan.clients {
        for urgent in [false, true] {
            let mut begun: Vec<(JobId, &str, u64)> = Vec::new();
            for planned in &client.jobs {
                let key = planned.work.key.as_str();
                let (Some(seen), Some(record)) = (jobs.get(key), audited.get(key)) else {
                    continue;
                };
                let (Some((_, id)), Some(first)) = (&seen.accepted, record.attempts.first()) else {
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
                        "{other} was accepted after {one} and began {} ms before it",
                        before - after
                    ));
                }
            }
        }
    }
    broken
}
