//! What chores came to, for people and for programs.

use std::io;
use std::path::Path;

use ocluster_cli::{OutputMode, output};
use ocluster_store::chores::{Compacted, Counts, Exported, Imported, Problem, Report};
use ocluster_store::{JobId, StoreError};
use serde::Serialize;

/// What a check found.
pub(super) struct Check(Report);

/// The form for programs. Fields are only ever added.
#[derive(Serialize)]
struct Checked<'a> {
    state_dir: &'a Path,
    sound: bool,
    can_start: bool,
    changes: u64,
    next_job: String,
    rows: Rows,
    problems: Vec<Told>,
    more_problems: u64,
}

#[derive(Serialize)]
struct Rows {
    clients: u64,
    workers: u64,
    hints: u64,
    rates: u64,
    debts: u64,
    open_jobs: u64,
    ended_jobs: u64,
    descriptions: u64,
    keys: u64,
}

#[derive(Serialize)]
struct Told {
    code: &'static str,
    job: Option<String>,
    text: String,
}

/// A store that could not be looked at.
#[derive(Serialize)]
struct Unopened {
    sound: bool,
    can_start: bool,
    error: Told,
}

impl Check {
    pub(super) fn new(report: Report) -> Self {
        Self(report)
    }

    pub(super) fn is_sound(&self) -> bool {
        self.0.is_sound()
    }

    pub(super) fn print(&self, mode: OutputMode) -> io::Result<()> {
        match mode {
            OutputMode::Json => output::json(self.for_programs()),
            OutputMode::Human => output::line(self.text()),
        }
    }

    fn for_programs(&self) -> Checked<'_> {
        let report = &self.0;
        let Counts {
            workers,
            hints,
            rates,
            debts,
            clients,
            open_jobs,
            ended_jobs,
            descriptions,
            keys,
        } = report.counts;
        Checked {
            state_dir: &report.dir,
            sound: report.is_sound(),
            can_start: report.can_start,
            changes: report.batch,
            next_job: report.next_job_id.to_string(),
            rows: Rows {
                clients,
                workers,
                hints,
                rates,
                debts,
                open_jobs,
                ended_jobs,
                descriptions,
                keys,
            },
            problems: report.problems.iter().map(told).collect(),
            more_problems: report.more_problems,
        }
    }

    fn text(&self) -> String {
        let report = &self.0;
        let dir = report.dir.display();
        let counts = &report.counts;
        let head = match (report.is_sound(), report.can_start) {
            (true, _) => format!("The store in {dir} is sound:"),
            (false, true) => format!(
                "The store in {dir} has problems, and a scheduler starts on it all the same:"
            ),
            (false, false) => format!("No scheduler starts on the store in {dir}:"),
        };
        let mut lines = vec![head];
        lines.extend(report.problems.iter().map(|problem| format!("  {problem}")));
        if report.more_problems > 0 {
            lines.push(format!("  and {} more", report.more_problems));
        }
        if !report.is_sound() {
            lines.push("What can be read of it:".to_owned());
        }
        lines.push(format!("  clients: {}", counts.clients));
        lines.push(format!("  workers: {}", counts.workers));
        lines.push(format!("  hints:   {}", counts.hints));
        lines.push(format!("  rates:   {}", counts.rates));
        lines.push(format!(
            "  jobs:    {} queued or running, {} over",
            counts.open_jobs, counts.ended_jobs
        ));
        if !report.can_start {
            lines.push(steps(&report.dir));
        }
        lines.join("\n")
    }
}

/// The way from a damaged store to one from the last export, to be typed as it stands.
fn steps(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "To go on from the last export:\n  mv {dir}/store {dir}/store.old; mv {dir}/store.json {dir}/store.json.old\n  \
         ocluster-scheduler store import --state-dir={dir} --from=\"$(ls {dir}/export/*.jsonl.zst | tail -n 1)\""
    )
}

fn told(problem: &Problem) -> Told {
    let (code, job) = match problem {
        Problem::Refused(_) => ("refused", None),
        Problem::Record(id) => ("record", Some(id)),
        Problem::Description(id) => ("description", Some(id)),
        Problem::NoDescription(id) => ("no-description", Some(id)),
        Problem::StrayDescription(id) => ("stray-description", Some(id)),
        Problem::StrayKey { .. } => ("stray-key", None),
        Problem::NoKey(id) => ("no-key", Some(id)),
        Problem::Other(_) => ("other", None),
    };
    Told {
        code,
        job: job.map(JobId::to_string),
        text: problem.to_string(),
    }
}

/// Tells programs why a store could not be looked at.
pub(super) fn unopened(error: &StoreError) -> io::Result<()> {
    output::json(Unopened {
        sound: false,
        can_start: false,
        error: Told {
            code: error.code(),
            job: None,
            text: error.to_string(),
        },
    })
}

pub(super) fn exported(exported: &Exported, to: &Path) -> io::Result<()> {
    output::line(format!(
        "Exported {} rows, {} of them jobs, to {}",
        exported.rows,
        exported.jobs,
        to.display()
    ))?;
    for id in &exported.damaged {
        output::complain(format!(
            "The description of job {id} is damaged and not in the export: the job will fail"
        ));
    }
    Ok(())
}

pub(super) fn imported(imported: &Imported, dir: &Path) -> io::Result<()> {
    output::line(format!(
        "Imported {} rows, {} of them jobs, into {}. The next job is {}",
        imported.rows,
        imported.jobs,
        dir.display(),
        imported.next_job_id
    ))
}

pub(super) fn compacted(compacted: Compacted, dir: &Path) -> io::Result<()> {
    output::line(format!(
        "Compacted the store in {}: {} KiB before, {} KiB now",
        dir.display(),
        compacted.before >> 10,
        compacted.after >> 10
    ))
}
