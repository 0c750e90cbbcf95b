//! A complete worker for a kind of job of its own, `solve`: adds the numbers in the job's payload, one after the other.
//!
//! ```text
//! cargo run --example custom_worker -- pool-linux.cap adder-1 /var/lib/adder
//! ```

use std::process::ExitCode;
use std::time::Duration;

use ocluster_worker::{
    Config, Ended, Execution, Executor, Executors, Failure, JobContext, JobSpec, Outcome,
    SturdyRef, as_git_child, run,
};
use tokio_util::sync::CancellationToken;

/// How long one addition takes. It is hard work.
const EFFORT: Duration = Duration::from_millis(20);

/// Runs jobs of the kind `solve`. Their payload is a text with numbers, and their output the sum.
struct Adder;

impl Executor for Adder {
    fn execute<'a>(&'a self, job: JobContext<'a>) -> Execution<'a> {
        Box::pin(async move {
            match add_all(job).await {
                Ok(sum) => Outcome::Succeeded {
                    output: sum.to_string(),
                },
                Err(outcome) => outcome,
            }
        })
    }

    /// Nothing is built from a repository here, so no directories are made and no commits fetched.
    fn wants_directories(&self, _: &JobSpec) -> bool {
        false
    }
}

async fn add_all(job: JobContext<'_>) -> Result<i64, Outcome> {
    let mut sum = 0_i64;
    for word in job.payload_text()?.split_whitespace() {
        let number: i64 = word
            .parse()
            .map_err(|_| Failure::request(format!("\"{word}\" is not a number")))?;
        tokio::select! {
            () = tokio::time::sleep(EFFORT) => {}
            () = job.cancel.cancelled() => return Err(Outcome::Cancelled),
        }
        sum = sum
            .checked_add(number)
            .ok_or_else(|| Failure::build(format!("{sum} + {number} is too large")))?;
        job.log.line(format!("+ {number} = {sum}")).await;
    }
    Ok(sum)
}

fn main() -> anyhow::Result<ExitCode> {
    // A worker's program is also the program of its helpers.
    if let Some(code) = as_git_child() {
        return Ok(code);
    }
    let mut words = std::env::args().skip(1);
    let (Some(cap), Some(name), Some(state_dir)) = (words.next(), words.next(), words.next())
    else {
        anyhow::bail!("usage: custom_worker POOL.cap NAME STATE-DIR");
    };
    let config = Config {
        capacity: 4,
        executors: Executors::default().offering("solve", Adder),
        ..Config::new(SturdyRef::load(cap.as_ref())?, name, state_dir)
    };
    let shutdown = CancellationToken::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Capabilities stay on one thread: this one.
    let ended = tokio::task::LocalSet::new().block_on(&runtime, async {
        let stop = shutdown.clone();
        tokio::task::spawn_local(async move {
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.cancel();
            }
        });
        run(config, shutdown).await
    })?;
    Ok(match ended {
        Ended::Stopped => ExitCode::SUCCESS,
        // A supervisor starts the program again.
        Ended::ForUpdate => ExitCode::FAILURE,
    })
}
