//! A program that keeps logins for Docker: `docker-credential-NAME`, by the protocol of Docker's credential helpers.
//!
//! It is told a registry on its standard input and answers with a login as JSON. It has a limited time, is killed when nobody waits for
//! it any longer, and inherits no connection. What it writes is never shown, as it may be a secret.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::Login;

/// How long one answer may take.
const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// The user's name that says that the secret is an identity token.
const TOKEN: &str = "<token>";
/// How a helper says that it has no such login, with a failure.
const NOT_FOUND: &[u8] = b"credentials not found in native keychain";

/// A credential helper.
#[derive(Debug)]
pub(super) struct Helper {
    program: PathBuf,
    limit: Duration,
}

/// Why a helper gives no login.
#[derive(Debug, Error)]
pub(super) enum HelperError {
    #[error("it cannot be run: {0}")]
    Run(#[from] io::Error),
    #[error("it does not answer within {} seconds", LIMIT.as_secs())]
    Slow,
    #[error("it ended with {0}")]
    Failed(std::process::ExitStatus),
    #[error("its answer cannot be read")]
    Answer,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl Helper {
    /// The one that Docker's configuration calls `name`.
    pub(super) fn named(name: &str) -> Self {
        Self {
            program: format!("docker-credential-{name}").into(),
            limit: LIMIT,
        }
    }

    /// A program of any name.
    #[cfg(test)]
    pub(super) fn at(program: &Path, limit: Duration) -> Self {
        let program = program.to_owned();
        Self { program, limit }
    }

    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// The login for a registry, if it has one.
    ///
    /// # Errors
    /// If it fails, or takes too long.
    pub(super) async fn get(&self, registry: &str) -> Result<Option<Login>, HelperError> {
        let Some(answer) = self.ask("get", registry).await? else {
            return Ok(None);
        };
        // The words of such an error may repeat the secret.
        let answer: Answer = serde_json::from_slice(&answer).map_err(|_| HelperError::Answer)?;
        Ok(match (answer.username, answer.secret) {
            (user, secret) if user.is_empty() && secret.is_empty() => None,
            (user, secret) if user == TOKEN => Some(Login::with_token(secret)),
            (user, secret) => Some(Login::with_password(user, secret)),
        })
    }

    /// The registries for which it has logins.
    ///
    /// # Errors
    /// If it fails, or takes too long.
    pub(super) async fn list(&self) -> Result<Vec<String>, HelperError> {
        let Some(answer) = self.ask("list", "").await? else {
            return Ok(Vec::new());
        };
        let users: BTreeMap<String, String> =
            serde_json::from_slice(&answer).map_err(|_| HelperError::Answer)?;
        Ok(users.into_keys().collect())
    }

    async fn ask(
        &self,
        action: &str,
        input: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, HelperError> {
        timeout(self.limit, self.run(action, input))
            .await
            .unwrap_or(Err(HelperError::Slow))
    }

    async fn run(
        &self,
        action: &str,
        input: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, HelperError> {
        let mut child = Command::new(&self.program)
            .arg(action)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read it knows the answer anyway.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let mut answer = Zeroizing::new(Vec::new());
        if let Some(stdout) = child.stdout.take() {
            let mut stdout = stdout.take(MAX_ANSWER + 1);
            stdout.read_to_end(&mut answer).await?;
        }
        if answer.len() as u64 > MAX_ANSWER {
            return Err(HelperError::Answer);
        }
        let status = child.wait().await?;
        if status.success() {
            Ok(Some(answer))
        } else if answer.trim_ascii() == NOT_FOUND {
            Ok(None)
        } else {
            Err(HelperError::Failed(status))
        }
    }
}
