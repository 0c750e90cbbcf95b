//! Jobs that print and end when a test says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ocluster_api::{Action, CustomJob, JobSpec};
use ocluster_worker::executor::{Execution, Executor, JobContext, Outcome};
use tokio::sync::watch;

/// The kind of such jobs.
pub const KIND: &str = "steered";

/// What each job, by its name, is to do: lines to print, and an output to end with.
type Plan = BTreeMap<String, (Vec<String>, Option<String>)>;

/// Steers all jobs of a worker. Clones steer the same.
#[derive(Clone)]
pub struct Wheel {
    plan: watch::Sender<Plan>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Wheel {
    pub fn new() -> Self {
        Self {
            plan: watch::Sender::default(),
            running: Arc::default(),
            most: Arc::default(),
        }
    }

    /// Has the job print a line.
    pub fn print(&self, name: &str, line: &str) {
        self.plan.send_modify(|plan| {
            plan.entry(name.to_owned())
                .or_default()
                .0
                .push(line.to_owned())
        });
    }

    /// Has the job succeed with this output.
    pub fn succeed(&self, name: &str, output: &str) {
        self.plan.send_modify(|plan| {
            plan.entry(name.to_owned()).or_default().1 = Some(output.to_owned())
        });
    }

    /// How many jobs run.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }

    /// How many jobs have run at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::SeqCst)
    }
}

/// A job that is steered under this name.
pub fn job(name: &str) -> JobSpec {
    JobSpec {
        action: Action::Custom(CustomJob::new(KIND, |mut root| root.set_as(name)).unwrap()),
        cache_hint: String::new(),
        source: None,
        secrets: vec![],
    }
}

/// Counts a job as long as it runs.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Executor for Wheel {
    fn execute<'a>(&'a self, job: JobContext<'a>) -> Execution<'a> {
        Box::pin(async move {
            let now = self.running.fetch_add(1, Ordering::SeqCst) + 1;
            self.most.fetch_max(now, Ordering::SeqCst);
            let _counted = Counted(self.running.clone());
            let name = job.payload_text().unwrap();
            let mut plan = self.plan.subscribe();
            let mut printed = 0;
            loop {
                let (lines, output) = plan
                    .borrow_and_update()
                    .get(&name)
                    .cloned()
                    .unwrap_or_default();
                for line in lines.iter().skip(printed) {
                    job.log.line(line).await;
                }
                printed = lines.len();
                if let Some(output) = output {
                    return Outcome::Succeeded { output };
                }
                tokio::select! {
                    _ = plan.changed() => {}
                    () = job.cancel.cancelled() => return Outcome::Cancelled,
                }
            }
        })
    }

    fn wants_directories(&self, _: &JobSpec) -> bool {
        false
    }
}
