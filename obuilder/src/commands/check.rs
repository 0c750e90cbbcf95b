//! `obuilder check`.

use ocluster_cli::{Failure, output};

use super::{failed, open};
use crate::args::Check;

pub(super) async fn run(args: &Check) -> Result<(), Failure> {
    let store = open(&args.store).await?;
    let problems = store.check().await.map_err(failed)?;
    for problem in &problems {
        output::line(problem.to_string())?;
    }
    match problems.len() {
        0 => Ok(output::line(format!(
            "The store is in order: {} results",
            store.count()
        ))?),
        count => Err(Failure::failed(format!("the store has {count} problems"))),
    }
}
