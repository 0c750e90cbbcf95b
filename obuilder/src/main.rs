//! The `obuilder` program: reads its command line and runs [`ocluster_obuilder_cli::main`]. Nothing else happens here.

use ocluster_cli::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match ocluster_cli::args::parse() {
        Ok(command_line) => ocluster_obuilder_cli::main(command_line),
        Err(ended) => ended.report(),
    }
}
