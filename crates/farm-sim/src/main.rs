//! `ocluster-farm-sim`: reads the command line, simulates, prints.

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use ocluster_farm_sim::Args;

// That of the scheduler, so that decisions cost here what they cost there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Args::parse().run(&mut std::io::stdout().lock()) {
        Ok(code) => code,
        Err(error) => {
            // If that cannot be said either, the exit code says it.
            let _ = writeln!(
                std::io::stderr(),
                "ocluster-farm-sim: the report could not be written: {error}"
            );
            ExitCode::FAILURE
        }
    }
}
