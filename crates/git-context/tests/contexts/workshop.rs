//! A worker in small: a cache, destinations, the child program and the log of each request.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocluster_git_context::{ChildCommand, GitError, Prepared, Request, prepare};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

pub(crate) struct Workshop {
    pub(crate) dir: TempDir,
}

/// A request and what came of it.
pub(crate) struct Outcome {
    pub(crate) result: Result<Prepared, GitError>,
    pub(crate) log: String,
    pub(crate) context: PathBuf,
}

impl Workshop {
    pub(crate) fn new() -> Workshop {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("served")).unwrap();
        Workshop { dir }
    }

    /// What the servers serve.
    pub(crate) fn served(&self) -> PathBuf {
        self.dir.path().join("served")
    }

    pub(crate) fn cache(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    pub(crate) fn request(&self, url: &str, commits: &[&str]) -> Request {
        let context = tempfile::Builder::new()
            .prefix("context-")
            .tempdir_in(self.dir.path())
            .unwrap();
        Request {
            repository: url.to_owned(),
            commits: commits.iter().map(|commit| (*commit).to_owned()).collect(),
            include_git: false,
            cache_dir: self.cache(),
            destination: context.keep(),
            silence_limit: Duration::from_secs(30),
        }
    }

    pub(crate) async fn prepare(&self, url: &str, commits: &[&str]) -> Outcome {
        run(&self.request(url, commits)).await
    }

    pub(crate) async fn prepare_with_git(&self, url: &str, commits: &[&str]) -> Outcome {
        let mut request = self.request(url, commits);
        request.include_git = true;
        run(&request).await
    }

    /// The only mirror in the cache.
    pub(crate) fn mirror(&self) -> PathBuf {
        let mut mirrors = self.mirrors();
        assert_eq!(mirrors.len(), 1, "{mirrors:?}");
        mirrors.remove(0)
    }

    pub(crate) fn mirrors(&self) -> Vec<PathBuf> {
        let mut mirrors: Vec<PathBuf> = fs::read_dir(self.cache())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .collect();
        mirrors.sort();
        mirrors
    }
}

pub(crate) fn child() -> ChildCommand {
    ChildCommand::new(
        env!("CARGO_BIN_EXE_git-context-child"),
        Vec::<String>::new(),
    )
}

pub(crate) async fn run(request: &Request) -> Outcome {
    run_until(request, &CancellationToken::new()).await
}

pub(crate) async fn run_until(request: &Request, cancel: &CancellationToken) -> Outcome {
    let mut log = Vec::new();
    let mut sink = |line: &[u8]| log.extend_from_slice(line);
    let result = prepare(request, &child(), &mut sink, cancel).await;
    Outcome {
        result,
        log: String::from_utf8(log).unwrap(),
        context: request.destination.clone(),
    }
}

impl Outcome {
    /// The commit that was checked out.
    #[track_caller]
    pub(crate) fn commit(&self) -> String {
        match &self.result {
            Ok(prepared) => prepared.commit.clone().unwrap().to_string(),
            Err(error) => panic!("failed: {error}\n{}", self.log),
        }
    }

    /// The failure as the user reads it. No files may be left.
    #[track_caller]
    pub(crate) fn failure(&self) -> String {
        assert!(
            is_empty(&self.context),
            "files were left: {}",
            self.context.display()
        );
        match &self.result {
            Ok(prepared) => panic!("did not fail: {prepared:?}\n{}", self.log),
            Err(error) => error.to_string(),
        }
    }

    pub(crate) fn text(&self, file: &str) -> String {
        fs::read_to_string(self.context.join(file)).unwrap()
    }

    pub(crate) fn fetched(&self) -> bool {
        self.result.as_ref().unwrap().fetched
    }
}

pub(crate) fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}
