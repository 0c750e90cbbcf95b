//! `obuilder check`: looks at a store as it is. Opening one mends it, so nothing here does.

use ocluster_cli::{Failure, output};
use ocluster_obuilder::store::check_closed;

use super::{cannot_open, existing};
use crate::args::Check;
use crate::progress::shown;

pub(super) async fn run(args: &Check) -> Result<(), Failure> {
    let location = existing(&args.store)?;
    let checked = shown("checking", check_closed(&location)).await;
    let problems = checked.map_err(|error| cannot_open(&location, &error))?;
    for problem in &problems {
        output::line(problem.to_string())?;
    }
    match problems.len() {
        0 => Ok(output::line("The store is in order")?),
        count => {
            let problems = if count == 1 { "problem" } else { "problems" };
            Err(Failure::failed(format!(
                "the store has {count} {problems}; the next build or worker that opens it mends what a crash has left"
            )))
        }
    }
}
