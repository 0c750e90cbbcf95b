//! Fetching into a mirror: the commits wanted and no more if the server lets us, else every branch and pull request.
//!
//! Must only be called by the holder of the mirror's writer lock. After it the commits are there, or are nowhere on
//! the server.

use std::time::Duration;

use git2::{
    AutotagOption, Cred, CredentialType, Direction, Error, ErrorClass, ErrorCode, FetchOptions,
    ProxyOptions, RemoteCallbacks, RemoteRedirect, RemoteUpdateFlags, Repository,
};

use super::Trouble;
use super::report::Reporter;
use crate::{CommitId, GitError, RepositoryUrl};

/// Which refs of the server a job has use for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refs {
    /// Only commits count.
    AsNeeded,
    /// The context gets a `.git`, in which branches and tags are expected.
    All,
}

/// A fetch of one repository into its mirror.
pub(super) struct Fetch<'a> {
    pub(super) mirror: &'a Repository,
    pub(super) url: &'a RepositoryUrl,
    /// The timeout that libgit2 was given.
    pub(super) silence_limit: Duration,
    pub(super) reporter: &'a Reporter,
}

impl Fetch<'_> {
    /// Fetches `wanted`, which the mirror lacks.
    pub(super) fn run(&self, wanted: &[CommitId], refs: Refs) -> Result<(), Trouble> {
        let step = format!("fetching from {}", self.url);
        self.reporter.step(step, Some(self.url.host()));
        if refs == Refs::AsNeeded {
            match self.exactly(wanted) {
                Ok(()) => return Ok(()),
                Err(error) if is_hopeless(&error) => return Err(self.trouble(&error)),
                // A server says in many ways that it does not serve bare hashes, and refs which are in each other's
                // way come right once all are looked at.
                Err(_) => self.reporter.alive(),
            }
        }
        self.everything().map_err(|error| self.trouble(&error))
    }

    /// Asks for the commits by hash; for one that is the tip of a ref, by that ref, which each server allows.
    fn exactly(&self, wanted: &[CommitId]) -> Result<(), Error> {
        self.connected(|remote| {
            let mut specs = Vec::new();
            let heads: Vec<(String, String)> = remote
                .list()?
                .iter()
                .map(|head| (head.oid().to_string(), head.name().to_owned()))
                .collect();
            for commit in wanted {
                let tip = heads.iter().find_map(|(oid, name)| {
                    let target = self.target_of(name)?;
                    (oid == commit.as_str()).then(|| format!("+{name}:{target}"))
                });
                specs.push(tip.unwrap_or_else(|| format!("{commit}:refs/ocluster/{commit}")));
            }
            Ok((specs, false))
        })
    }

    /// Asks for all branches and pull or merge requests, and forgets those which are gone.
    fn everything(&self) -> Result<(), Error> {
        self.connected(|_| {
            let requests = if self.url.is_github() {
                "+refs/pull/*:refs/remotes/pull/*"
            } else {
                "+refs/merge-requests/*/head:refs/remotes/origin/merge-requests/*"
            };
            let heads = "+refs/heads/*:refs/remotes/origin/*";
            Ok((vec![heads.to_owned(), requests.to_owned()], true))
        })
    }

    /// Where a ref of the server goes in the mirror; `None` for one that is not mirrored.
    fn target_of(&self, name: &str) -> Option<String> {
        if let Some(branch) = name.strip_prefix("refs/heads/") {
            return Some(format!("refs/remotes/origin/{branch}"));
        }
        if let Some(pull) = name.strip_prefix("refs/pull/") {
            return Some(format!("refs/remotes/pull/{pull}"));
        }
        let request = name
            .strip_prefix("refs/merge-requests/")?
            .strip_suffix("/head")?;
        Some(format!("refs/remotes/origin/merge-requests/{request}"))
    }

    /// Connects, lets `choose` say which refspecs to fetch and whether to prune, and does so.
    fn connected(
        &self,
        choose: impl FnOnce(&git2::Remote<'_>) -> Result<(Vec<String>, bool), Error>,
    ) -> Result<(), Error> {
        let mut remote = self.mirror.remote_anonymous(self.url.as_given())?;
        let mut connection =
            remote.connect_auth(Direction::Fetch, Some(self.callbacks()), Some(proxy()))?;
        self.reporter.alive();
        let (specs, prune) = choose(connection.remote())?;
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(self.callbacks())
            .proxy_options(proxy())
            .follow_redirects(RemoteRedirect::Initial)
            .download_tags(AutotagOption::Auto)
            .update_fetchhead(false);
        connection.remote().download(&specs, Some(&mut options))?;
        let received = connection.remote().stats();
        if received.received_objects() > 0 {
            self.reporter.log(format!(
                "Received {} objects, {} KiB",
                received.received_objects(),
                received.received_bytes().div_ceil(1024)
            ));
        }
        // Before the new refs are written: a branch `a` that is gone may be in the way of a new `a/b`.
        if prune {
            connection.remote().prune(None)?;
        }
        connection.remote().update_tips(
            Some(&mut self.callbacks()),
            RemoteUpdateFlags::empty(),
            AutotagOption::Auto,
            None,
        )
    }

    fn callbacks(&self) -> RemoteCallbacks<'_> {
        let mut callbacks = RemoteCallbacks::new();
        callbacks.sideband_progress(|_| {
            self.reporter.alive();
            true
        });
        callbacks.transfer_progress(|progress| {
            let total = progress.total_objects();
            if progress.received_objects() < total {
                self.reporter.progress(|| {
                    let received = progress.received_objects();
                    let kib = progress.received_bytes() / 1024;
                    format!("Receiving objects: {received}/{total} ({kib} KiB)")
                });
            } else {
                self.reporter.progress(|| {
                    let (done, all) = (progress.indexed_deltas(), progress.total_deltas());
                    format!("Resolving deltas: {done}/{all}")
                });
            }
            true
        });
        callbacks.update_tips(|_, _, _| {
            self.reporter.alive();
            true
        });
        callbacks.credentials(|_, _, allowed: CredentialType| refuse(allowed));
        callbacks
    }

    fn trouble(&self, error: &Error) -> Trouble {
        let repository = self.url.to_string();
        let reason = error.message().replace(self.url.as_given(), &repository);
        let told = reason.to_ascii_lowercase();
        let unknown = [
            "status code: 404",
            "status code: 410",
            "not found",
            "not exported",
            "does not exist",
            "no such",
        ];
        Trouble::Final(match (error.code(), error.class()) {
            _ if is_silence(error) => GitError::ServerSilent {
                host: self.url.host(),
                seconds: self.silence_limit.as_secs(),
            },
            (ErrorCode::Auth, _) => GitError::LoginRequired { repository },
            (_, ErrorClass::Http | ErrorClass::Net)
                if unknown.iter().any(|words| told.contains(words)) =>
            {
                GitError::RepositoryNotFound { repository, reason }
            }
            (
                _,
                ErrorClass::Odb
                | ErrorClass::Object
                | ErrorClass::Reference
                | ErrorClass::Repository
                | ErrorClass::Zlib
                | ErrorClass::Config,
            ) => return Trouble::Damaged(reason),
            _ => GitError::Fetch { repository, reason },
        })
    }
}

/// Whether libgit2 gave up on a server that sent nothing. Some of its transports say so in their message only.
fn is_silence(error: &Error) -> bool {
    error.code() == ErrorCode::Timeout
        || (error.class() == ErrorClass::Net && error.message().ends_with("timed out"))
}

/// Whether another way to fetch from the same server cannot help.
fn is_hopeless(error: &Error) -> bool {
    is_silence(error)
        || matches!(error.code(), ErrorCode::Auth | ErrorCode::Certificate)
        || matches!(error.class(), ErrorClass::Http | ErrorClass::Ssl)
}

fn proxy<'a>() -> ProxyOptions<'a> {
    let mut proxy = ProxyOptions::new();
    proxy.auto();
    proxy
}

fn refuse(_allowed: CredentialType) -> Result<Cred, Error> {
    Err(Error::new(
        ErrorCode::Auth,
        ErrorClass::Callback,
        "the server asks for a login",
    ))
}
