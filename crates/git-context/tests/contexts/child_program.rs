//! The child half of the crate as a program of its own, for the tests.
//!
//! The worker runs its own executable again instead. With `worker URL COMMIT CACHE DESTINATION MARK` it plays the worker,
//! for tests that kill one: it runs this program again as its child, with `MARK` as an argument to find it by.

use std::process::ExitCode;

use ocluster_git_context::{ChildCommand, DEFAULT_SILENCE_LIMIT, Request, child, prepare};
use tokio_util::sync::CancellationToken;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [role, url, commit, cache, destination, mark] if role == "worker" => {
            work(&request(url, commit, cache, destination), mark)
        }
        _ => child::main(),
    }
}

fn request(url: &str, commit: &str, cache: &str, destination: &str) -> Request {
    Request {
        repository: url.to_owned(),
        commits: vec![commit.to_owned()],
        include_git: false,
        cache_dir: cache.into(),
        destination: destination.into(),
        silence_limit: DEFAULT_SILENCE_LIMIT,
    }
}

fn work(request: &Request, mark: &str) -> ExitCode {
    let (Ok(program), Ok(runtime)) = (
        std::env::current_exe(),
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build(),
    ) else {
        return ExitCode::FAILURE;
    };
    let child = ChildCommand::new(program, [mark]);
    let result = runtime.block_on(prepare(
        request,
        &child,
        &mut |_| {},
        &CancellationToken::new(),
    ));
    if result.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
