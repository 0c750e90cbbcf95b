//! `ocluster-worker`: reads the command line, runs the worker until a signal, and exits. Started with a hidden first argument, it is
//! the child that reads git repositories.

use std::process::ExitCode;

use ocluster_cli::{args, output};
use ocluster_worker::Ended;
use ocluster_worker::args::Args;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    if let Some(code) = ocluster_worker::as_git_child() {
        return code;
    }
    let args: Args = match args::parse() {
        Ok(args) => args,
        Err(ended) => return ended.report().into(),
    };
    if let Err(mistake) = args.check() {
        output::complain(format!("ocluster-worker: {mistake}"));
        return ocluster_cli::ExitCode::Usage.into();
    }
    let log_counts = args.log().start();
    ocluster_cli::raise_file_limit();
    ocluster_cli::run(async |interrupt| {
        let run = async {
            let mut config = args.into_config()?;
            config.metric_sources.log_counts = log_counts;
            ocluster_worker::run(config, interrupt.token().clone()).await
        };
        match run.await {
            Ok(Ended::Stopped) => ocluster_cli::ExitCode::Success,
            // As upstream's worker does: whatever supervises it starts it again.
            Ok(Ended::ForUpdate) => ocluster_cli::ExitCode::Failed,
            Err(error) => {
                output::complain(format!("ocluster-worker: {error:#}"));
                ocluster_cli::ExitCode::Internal
            }
        }
    })
    .into()
}
