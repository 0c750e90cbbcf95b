//! A worker's process that stands still for a while.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use ocluster_api::{Action, JobSpec, TestStep, test_job};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::line::Line;
use crate::scheduler::{Scheduler, Verdicts};
use crate::until;
use crate::worker::files;

/// A worker's process; it is killed when dropped.
struct Process {
    child: Child,
    state: TempDir,
}

impl Process {
    fn start(cap: &str) -> Self {
        let state = TempDir::new().unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_ocluster-worker"))
            .args([cap, "--name=w", "--allow-test-jobs", "--capacity=1"])
            .args(["--health-check=0", "--verbosity=info"])
            .arg(format!("--state-dir={}", state.path().display()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, state }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_worker_that_stood_still_and_was_replaced_stops_its_job_when_it_wakes_up() {
    let mut scheduler = Scheduler::start();
    let line = Line::to(&scheduler.cap()).await;
    let mut process = Process::start(&line.cap.to_uri());
    let log = BufReader::new(process.child.stderr.take().unwrap());
    let lines =
        std::thread::spawn(move || -> Vec<String> { log.lines().map_while(Result::ok).collect() });
    scheduler.joined().await;
    scheduler.asked().await;
    let steps = [TestStep::Print("begun".into()), TestStep::Hang];
    let spec = JobSpec {
        action: Action::Custom(test_job(&steps).unwrap()),
        cache_hint: String::new(),
        source: None,
        secrets: vec![],
    };
    scheduler.give_durable(spec, 7);
    scheduler.log_until(7, 0, "begun\n").await;
    // Given a worker that stands still, whose connection ends meanwhile,
    process.signal(Signal::STOP);
    line.cut();
    scheduler
        .judge(Verdicts::Refuse("attempt 2 runs elsewhere"))
        .await;
    line.mend();
    // when it goes on, it hears that the job is another's now, and stops it.
    process.signal(Signal::CONT);
    assert_eq!(scheduler.joined().await, [(7, 1, 20)]);
    let outcome = scheduler.outcome(7).await.unwrap();
    assert_eq!(outcome.code, "lease-over");
    scheduler.asked().await;
    let spool = process.state.path().join("spool");
    until("its log goes", || files(&spool).is_empty()).await;
    drop(process);
    let lines = lines.join().unwrap();
    let told: Vec<&String> = lines
        .iter()
        .filter(|line| line.contains("Giving up a job"))
        .collect();
    assert_eq!(told.len(), 1, "{lines:#?}");
    for word in ["number=7", "attempt=1", "attempt 2 runs elsewhere"] {
        assert!(told[0].contains(word), "{word}: {}", told[0]);
    }
}
