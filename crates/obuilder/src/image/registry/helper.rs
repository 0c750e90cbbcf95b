//! A program that keeps logins for Docker: `docker-credential-NAME`, by the protocol of Docker's credential helpers.
//!
//! It is told a registry on its standard input and answers with a login as JSON. It has a limited time and is killed when nobody waits
//! for it any longer. What it writes is never shown, as it may be a secret.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::credentials::Login;

/// How long one answer may take.
pub(super) const LIMIT: Duration = Duration::from_secs(10);
/// The longest answer, in bytes.
const MAX_ANSWER: u64 = 1 << 20;
/// The user's name that says that the secret is an identity token.
const TOKEN: &str = "<token>";
/// How a helper says that it has no such login, with a failure.
const NOT_FOUND: &[u8] = b"credentials not found in native keychain";

/// Why a helper gives no login.
#[derive(Debug, thiserror::Error)]
pub(super) enum HelperError {
    #[error("it cannot be run: {0}")]
    Run(#[from] io::Error),
    #[error("it does not answer in time")]
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

/// The login for a registry, if the helper has one.
///
/// # Errors
/// If it fails, or takes longer than `limit`.
pub(super) async fn get(
    program: &Path,
    registry: &str,
    limit: Duration,
) -> Result<Option<Login>, HelperError> {
    let answer = timeout(limit, run(program, registry)).await;
    let Some(answer) = answer.unwrap_or(Err(HelperError::Slow))? else {
        return Ok(None);
    };
    // The words of such an error may repeat the secret.
    let Answer { username, secret } =
        serde_json::from_slice(&answer).map_err(|_| HelperError::Answer)?;
    let secret = Zeroizing::new(secret);
    Ok(if username.is_empty() && secret.is_empty() {
        None
    } else if username == TOKEN {
        Some(Login::IdentityToken(secret))
    } else {
        Some(Login::Password {
            user: username,
            password: secret,
        })
    })
}

async fn run(program: &Path, registry: &str) -> Result<Option<Zeroizing<Vec<u8>>>, HelperError> {
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read it knows the answer anyway.
        let _ = stdin.write_all(registry.as_bytes()).await;
    }
    let mut answer = Zeroizing::new(Vec::new());
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer).await?;
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

#[cfg(test)]
pub(super) mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::{HelperError, LIMIT, Login, get};

    /// A helper that runs `script`.
    pub(in crate::image::registry) fn helper(script: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a directory");
        let program = dir.path().join("helper");
        // Written by another process: a child of another test could inherit our open file, and a program being written does not run.
        let written = std::process::Command::new("/bin/sh")
            .args([
                "-c",
                "printf '#!/bin/sh\\n%s' \"$1\" >\"$2\" && chmod 755 \"$2\"",
                "sh",
            ])
            .args([script.as_ref(), program.as_os_str()])
            .status();
        assert!(written.expect("a shell").success());
        (dir, program)
    }

    #[tokio::test]
    async fn a_helper_is_told_the_registry_and_gives_its_login() {
        let script =
            r#"read -r r; [ "$1" = get ] && echo "{\"Username\":\"me@$r\",\"Secret\":\"s\"}""#;
        let (_dir, program) = helper(script);
        let login = get(&program, "a.example\n", LIMIT)
            .await
            .expect("an answer");
        let Some(Login::Password { user, password }) = login else {
            panic!("no password");
        };
        assert_eq!((user.as_str(), password.as_str()), ("me@a.example", "s"));
    }

    #[tokio::test]
    async fn a_helper_may_have_a_token_or_nothing() {
        let (_dir, token) = helper(r#"echo '{"Username":"<token>","Secret":"t"}'"#);
        let login = get(&token, "a", LIMIT).await.expect("an answer");
        assert!(matches!(login, Some(Login::IdentityToken(token)) if *token == "t"));
        let (_dir, nothing) = helper("echo 'credentials not found in native keychain'; exit 1");
        assert!(
            get(&nothing, "a", LIMIT)
                .await
                .expect("an answer")
                .is_none()
        );
    }

    #[tokio::test]
    async fn a_helper_that_hangs_fails_or_babbles_gives_nothing_and_is_not_quoted() {
        let (_dir, slow) = helper("exec sleep 600");
        let error = get(&slow, "a", Duration::from_millis(50))
            .await
            .expect_err("slow");
        assert!(matches!(error, HelperError::Slow));
        let (_dir, failing) = helper("echo secret; exit 3");
        let error = get(&failing, "a", LIMIT).await.expect_err("failure");
        assert!(!error.to_string().contains("secret"));
        let (_dir, babbling) = helper("echo secret");
        let error = get(&babbling, "a", LIMIT).await.expect_err("babble");
        assert!(!error.to_string().contains("secret"));
    }
}
