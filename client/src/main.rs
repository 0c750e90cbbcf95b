//! The `ocluster-client` program: reads its command line and runs [`ocluster_client::cli`]. Nothing else happens here.

use ocluster_cli::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match ocluster_cli::args::parse() {
        Ok(command_line) => ocluster_client::cli::main(command_line),
        Err(ended) => ended.report(),
    }
}
