//! `cargo xtask`: the project's own chores. This file only says which there are.
//!
//! No chore may stop, prune or remove anything that it did not start or make itself.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a chore talks to the person who runs it"
)]

mod bench;
mod codegen;
mod demo;
mod fuzz;
mod needs;
mod shell;
mod sim;
mod surroundings;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The project's own chores.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Shows a whole cluster at work on this machine: real programs, real git, real Docker builds. Cleans up after itself.
    Demo,
    /// Runs every test, the end-to-end ones included.
    Test(test::Options),
    /// Measures release builds and fails where a figure is not below its threshold.
    Bench(bench::Options),
    /// Feeds random bytes to everything that reads what peers send and disks hold, for a bounded time. Needs `cargo fuzz` and a nightly toolchain.
    Fuzz(fuzz::Options),
    /// Runs whole clusters under simulated time and network, breaks what can break, and checks every promise.
    Sim(sim::Options),
    /// Compiles schema/*.capnp into the committed schema/schema.cgr. Needs the `capnp` program.
    Codegen {
        /// Change nothing; fail if what is committed is not what the schema gives.
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let outcome =
        ocluster_tests::watch_interrupts().and_then(|()| match Arguments::parse().chore {
            Chore::Demo => demo::run(),
            Chore::Test(options) => test::run(&options),
            Chore::Bench(options) => bench::run(&options),
            Chore::Fuzz(options) => fuzz::run(&options),
            Chore::Sim(options) => sim::run(&options),
            Chore::Codegen { check } => codegen::run(check),
        });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nxtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
