//! `ocluster-scheduler`: reads the command line, runs the scheduler until a signal, and exits; or does a chore instead.

use std::process::ExitCode;

use ocluster_cli::{args, output};
use ocluster_scheduler::args::Args;
use ocluster_scheduler::command_line::CommandLine;
use ocluster_scheduler::reexec::Anew;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match args::parse() {
        Ok(CommandLine::Serve(args)) => serve(*args),
        Ok(CommandLine::Chore(log, chore)) => {
            log.start();
            chore.run().into()
        }
        Err(ended) => ended.report().into(),
    }
}

fn serve(args: Args) -> ExitCode {
    let log_counts = args.log().start();
    let config = match args.into_config(log_counts) {
        Ok(config) => config,
        Err(mistake) => {
            output::complain(format!("ocluster-scheduler: {mistake}"));
            return ocluster_cli::ExitCode::Usage.into();
        }
    };
    ocluster_cli::raise_file_limit();
    let anew = Anew::new(&config);
    ocluster_cli::run(async |interrupt| {
        match ocluster_scheduler::run(config, interrupt.token().clone(), |_| {}).await {
            Ok(()) => ocluster_cli::ExitCode::Success,
            Err(error) if anew.helps_against(&error) => anew.start(&error, &interrupt).await,
            Err(error) => {
                output::complain(format!("ocluster-scheduler: {error:#}"));
                ocluster_cli::ExitCode::Internal
            }
        }
    })
    .into()
}
