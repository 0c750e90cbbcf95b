//! A complete client: submits one custom job whose payload is a text, follows its log, and prints its result. Control-C cancels it.
//!
//! ```text
//! cargo run --example submit -- alice.cap linux solve "1 2 3"
//! ```

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is a program"
)]

use ocluster_client::{Action, Client, CustomJob, DialOptions, JobSpec, Stats, SturdyRef, Vat};

async fn submit(cap: &str, pool: &str, kind: &str, payload: &str) -> anyhow::Result<()> {
    let cap = SturdyRef::load(cap.as_ref())?;
    // One vat for the whole program; its connections are shared.
    let vat = Vat::client_only(Stats::new());
    let client = Client::connect(&vat, &cap, &DialOptions::default()).await?;
    let spec = JobSpec::new(Action::Custom(CustomJob::with_text(kind, payload)?));
    let job = client.submit(pool, &spec, false)?;

    job.started().await?;
    eprintln!("A worker has the job.");
    let mut stdout = tokio::io::stdout();
    let follow = job.follow_into(&mut stdout);
    tokio::pin!(follow);
    tokio::select! {
        followed = &mut follow => drop(followed?),
        signal = tokio::signal::ctrl_c() => {
            signal?;
            job.cancel().await?;
            // The log has an end all the same: the worker stops, and says so.
            follow.await?;
        }
    }
    println!("The result is {:?}.", job.result().await?);
    Ok(())
}

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [cap, pool, kind, payload] = words.as_slice() else {
        anyhow::bail!("usage: submit CLIENT.cap POOL KIND PAYLOAD");
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Capabilities stay on one thread: this one.
    tokio::task::LocalSet::new().block_on(&runtime, submit(cap, pool, kind, payload))
}
