//! The logins of our user, from Docker's configuration file and the helper programs that it names.
//!
//! They are read anew for each pull, so that a login made meanwhile counts. Nothing here fails a pull: without a login an image is pulled
//! as anybody may pull it. Secrets are never shown, in no log, no error, no `Debug`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tracing::warn;
use zeroize::Zeroizing;

use super::helper;

/// Docker's name for its own registry, in its configuration file.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// The largest file that is read, in bytes. Real ones have a few hundred.
const MAX_FILE: u64 = 1 << 20;

/// Who we are to a registry.
#[derive(Clone)]
pub(super) enum Login {
    /// A name and a password.
    Password {
        user: String,
        password: Zeroizing<String>,
    },
    /// A token, to be changed into others.
    IdentityToken(Zeroizing<String>),
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(...)")
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    auths: Option<BTreeMap<String, Option<Entry>>>,
    cred_helpers: Option<BTreeMap<String, String>>,
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
}

/// Why a file of logins cannot be used. What is in it is not repeated.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it has more than {MAX_FILE} bytes")]
    TooLarge,
    #[error("it is not a Docker configuration: see its line {0}, column {1}")]
    Format(usize, usize),
}

/// The login for a registry, if there is one: `host` is as in names of images, `docker.io` for Docker's own. What is broken is told in our
/// own log.
pub(super) async fn login(file: Option<&Path>, host: &str) -> Option<Login> {
    look_up(file, host, |name| {
        PathBuf::from(format!("docker-credential-{name}"))
    })
    .await
}

/// The same, with helpers where `program` says.
async fn look_up(
    file: Option<&Path>,
    host: &str,
    program: impl Fn(&str) -> PathBuf,
) -> Option<Login> {
    let path = file?.to_owned();
    let read = tokio::task::spawn_blocking(move || read(&path));
    let configuration = match read
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error).into()))
    {
        Ok(configuration) => configuration?,
        Err(error) => {
            let file = file.map(Path::display);
            warn!(file = ?file, "cannot use Docker's configuration file: {error}; images are pulled without the logins in it");
            return None;
        }
    };
    let key = if host == "docker.io" {
        DOCKER_HUB
    } else {
        host
    };
    let helpers = configuration.cred_helpers.unwrap_or_default();
    let named = helpers.get(key).or_else(|| helpers.get(host));
    let store = configuration
        .creds_store
        .as_ref()
        .filter(|name| !name.is_empty());
    if let Some(name) = named.or(store) {
        let program = program(name);
        match helper::get(&program, key, helper::LIMIT).await {
            Ok(Some(login)) => return Some(login),
            Ok(None) => {}
            Err(error) => {
                warn!(program = %program.display(), "cannot get a login from Docker's credential helper: {error}");
            }
        }
    }
    let mut stored = configuration.auths.unwrap_or_default();
    let name = if stored.contains_key(key) {
        key.to_owned()
    } else {
        let same_host = |name: &&String| host_of(name) == host_of(key);
        stored.keys().find(same_host)?.clone()
    };
    let entry = stored.remove(&name)??;
    let login = entry.login();
    if login.is_err() {
        warn!(registry = %name, "a login in Docker's configuration file is not the base64 of user:password");
    }
    login.ok().flatten()
}

/// The header with which a name and a password are sent.
pub(super) fn basic(user: &str, password: &str) -> Zeroizing<String> {
    let plain = Zeroizing::new(format!("{user}:{password}"));
    let encoded = Zeroizing::new(BASE64_STANDARD.encode(plain.as_bytes()));
    Zeroizing::new(format!("Basic {}", *encoded))
}

/// An entry whose base64 is none, or has no colon.
struct NotALogin;

impl Entry {
    /// The login of this entry. Where a helper has it, the entry is empty.
    fn login(self) -> Result<Option<Login>, NotALogin> {
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(Login::IdentityToken(Zeroizing::new(token))));
        }
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else {
            let user = self.username.filter(|user| !user.is_empty());
            return Ok(user.map(|user| Login::Password {
                user,
                password: Zeroizing::new(self.password.unwrap_or_default()),
            }));
        };
        let auth = Zeroizing::new(auth);
        let decoded = BASE64_STANDARD.decode(&*auth).map_err(|_| NotALogin)?;
        let decoded = Zeroizing::new(decoded);
        let decoded = std::str::from_utf8(&decoded).map_err(|_| NotALogin)?;
        let (user, password) = decoded.split_once(':').ok_or(NotALogin)?;
        // Old versions of Docker padded it.
        let password = password.trim_matches('\0').to_owned();
        Ok(Some(Login::Password {
            user: user.to_owned(),
            password: Zeroizing::new(password),
        }))
    }
}

fn read(path: &Path) -> Result<Option<Configuration>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let mut text = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(FileError::TooLarge);
    }
    // The words of such an error may repeat what is in the file.
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|error| FileError::Format(error.line(), error.column()))
}

/// The host in a registry's name, which may be a URL.
fn host_of(registry: &str) -> &str {
    let registry = ["https://", "http://"]
        .iter()
        .find_map(|scheme| registry.strip_prefix(scheme))
        .unwrap_or(registry);
    registry.split_once('/').map_or(registry, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::super::helper::tests::helper;
    use super::{Login, login, look_up};

    async fn found(json: &str, host: &str) -> Option<(String, String)> {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        std::fs::write(&file, json).expect("a file");
        login(Some(&file), host).await.map(|login| match login {
            Login::Password { user, password } => (user, password.to_string()),
            Login::IdentityToken(token) => (String::new(), token.to_string()),
        })
    }

    fn pair(user: &str, secret: &str) -> Option<(String, String)> {
        Some((user.into(), secret.into()))
    }

    #[tokio::test]
    async fn logins_are_found_by_host_or_url() {
        let json = r#"{"auths": {
            "https://index.docker.io/v1/": {"auth": "aHViOnB3"},
            "https://a.example:5000/v2/": {"auth": "bWU6bDppIG4="},
            "b.example": {"username": "me", "password": "p"},
            "c.example": {"auth": "bWU6eA==", "identitytoken": "token"},
            "d.example": {}, "e.example": null, "f.example": {"auth": "%"}}}"#;
        assert_eq!(found(json, "docker.io").await, pair("hub", "pw"));
        assert_eq!(found(json, "a.example:5000").await, pair("me", "l:i n"));
        assert_eq!(found(json, "b.example").await, pair("me", "p"));
        assert_eq!(found(json, "c.example").await, pair("", "token"));
        for none in ["a.example", "d.example", "e.example", "f.example", "g"] {
            assert_eq!(found(json, none).await, None, "{none}");
        }
    }

    #[tokio::test]
    async fn a_missing_or_broken_file_has_no_logins() {
        assert!(
            login(Some("/nonexistent/config.json".as_ref()), "a")
                .await
                .is_none()
        );
        assert!(login(None, "a").await.is_none());
        assert_eq!(found("{", "a").await, None);
        assert_eq!(
            found(r#"{"auths": null, "credsStore": ""}"#, "a").await,
            None
        );
    }

    #[tokio::test]
    async fn a_helper_that_is_missing_leaves_the_file() {
        let json =
            r#"{"auths": {"a": {"auth": "bWU6eA=="}}, "credsStore": "no-such-helper-anywhere"}"#;
        assert_eq!(found(json, "a").await, pair("me", "x"));
    }

    #[tokio::test]
    async fn helpers_go_before_the_file_and_those_of_one_registry_before_the_store() {
        let (_dir, program) = helper(r#"read -r r; echo "{\"Username\":\"$r\",\"Secret\":\"s\"}""#);
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("config.json");
        let json = r#"{"auths": {"a": {"auth": "bWU6eA=="}, "b": {}},
            "credHelpers": {"a": "one"}, "credsStore": "all"}"#;
        std::fs::write(&file, json).expect("a file");
        for (host, asked, told) in [
            ("a", "one", "a"),
            ("b", "all", "b"),
            ("docker.io", "all", "https://index.docker.io/v1/"),
        ] {
            let login = look_up(Some(&file), host, |name| {
                assert_eq!(name, asked);
                program.clone()
            });
            let Some(Login::Password { user, .. }) = login.await else {
                panic!("no login for {host}");
            };
            assert_eq!(user, told);
        }
    }

    #[test]
    fn logins_do_not_print() {
        let login = Login::Password {
            user: "me".into(),
            password: "secret".to_owned().into(),
        };
        assert_eq!(format!("{login:?}"), "Login(...)");
    }
}
