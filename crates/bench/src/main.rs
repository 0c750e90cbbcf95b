//! `ocluster-bench`: reads the command line, measures, prints.

use std::process::ExitCode;

use ocluster_bench::args::Args;
use ocluster_cli::{args, output};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Args = match args::parse() {
        Ok(args) => args,
        Err(ended) => return ended.report().into(),
    };
    args.log().start();
    ocluster_cli::run(async |interrupt| {
        tokio::select! {
            result = args.run() => result.unwrap_or_else(|error| {
                output::complain(format!("ocluster-bench: {error:#}"));
                ocluster_cli::ExitCode::Failed
            }),
            signal = interrupt.wait() => signal.exit_code(),
        }
    })
    .into()
}
