//! The logins of the worker's user, with which builds pull their base images, as with Docker's own command.
//!
//! They are in Docker's configuration file, or with the helper programs that it names (`helper`). Each build reads them anew, so that a
//! login made meanwhile counts. Nothing here fails a build: without a login an image is pulled as anybody may pull it. Secrets must
//! never be shown, in no log and no error; what is said about a file is its name and where in it the mistake is. Pushes have their
//! jobs' own logins and never these.

mod helper;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::path::Path;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE};
use ocluster_api::SecretBytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::warn;
use zeroize::Zeroizing;

use self::helper::{Helper, HelperError};

/// Docker's name for its own registry, in its configuration file and in what the engine is told.
pub(super) const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// The host under which BuildKit asks for a login to Docker's own registry.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// The largest file that is read, in bytes. Real ones have a few hundred.
const MAX_FILE: u64 = 1 << 20;

/// Whom a registry is told that we are. At most one of the secrets is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Login {
    user: String,
    password: SecretBytes,
    identity_token: SecretBytes,
}

impl Login {
    fn with_password(user: String, password: String) -> Self {
        Self {
            user,
            password: SecretBytes::new(password.into_bytes()),
            identity_token: SecretBytes::new(Vec::new()),
        }
    }

    fn with_token(token: String) -> Self {
        Self {
            user: String::new(),
            password: SecretBytes::new(Vec::new()),
            identity_token: SecretBytes::new(token.into_bytes()),
        }
    }

    /// As BuildKit wants it: a name and its password, or an identity token and no name.
    pub(super) fn user_and_secret(&self) -> (&str, &str) {
        if self.identity_token.expose().is_empty() {
            (&self.user, text(&self.password))
        } else {
            ("", text(&self.identity_token))
        }
    }
}

/// Secrets here have been text from the beginning.
fn text(secret: &SecretBytes) -> &str {
    std::str::from_utf8(secret.expose()).unwrap_or_default()
}

/// The engine's form of a login.
#[derive(Serialize)]
struct EngineLogin<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    username: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    password: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    identitytoken: &'a str,
    serveraddress: &'a str,
}

/// The logins that are known when a build begins, and whom to ask for others.
#[derive(Debug, Default)]
pub(super) struct Logins {
    /// Those in the file, by the registry's name there: a host, or a URL.
    stored: BTreeMap<String, Login>,
    /// Who has those of single registries.
    helpers: BTreeMap<String, Helper>,
    /// Who has those of all others.
    store: Option<Helper>,
}

/// Why a file of logins cannot be used. What is in it is not repeated.
#[derive(Debug, Error)]
enum LoginsError {
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("it has more than {MAX_FILE} bytes")]
    TooLarge,
    #[error("it is not a Docker configuration: see its line {line}, column {column}")]
    Format { line: usize, column: usize },
    #[error("its login for {0} is not the base64 of user:password")]
    Entry(String),
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

impl Logins {
    /// Those of `file`, or none if there is no such file. One that is broken is reported in the worker's log.
    pub(super) async fn read(file: Option<&Path>) -> Self {
        let Some(file) = file else {
            return Self::default();
        };
        let path = file.to_owned();
        let reading = tokio::task::spawn_blocking(move || match read_file(&path)? {
            Some(text) => Self::parse(&text),
            None => Ok((Self::default(), None)),
        });
        let read = reading
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error).into()));
        let (logins, error) = read.unwrap_or_else(|error| (Self::default(), Some(error)));
        if let Some(error) = error {
            warn!(
                file = %file.display(),
                "cannot use Docker's configuration file: {error}; base images are pulled without the logins in it"
            );
        }
        logins
    }

    /// A broken login does not take the others with it.
    fn parse(text: &[u8]) -> Result<(Self, Option<LoginsError>), LoginsError> {
        // The words of such an error may repeat what is in the file.
        let configuration: Configuration =
            serde_json::from_slice(text).map_err(|error| LoginsError::Format {
                line: error.line(),
                column: error.column(),
            })?;
        let mut stored = BTreeMap::new();
        let mut broken = None;
        for (registry, entry) in configuration.auths.unwrap_or_default() {
            match entry.unwrap_or_default().login() {
                Ok(Some(login)) => drop(stored.insert(registry, login)),
                Ok(None) => {}
                Err(NotALogin) => broken = Some(LoginsError::Entry(registry)),
            }
        }
        let helpers = configuration.cred_helpers.unwrap_or_default().into_iter();
        let store = configuration.creds_store.filter(|store| !store.is_empty());
        let logins = Self {
            stored,
            helpers: helpers
                .map(|(registry, name)| (registry, Helper::named(&name)))
                .collect(),
            store: store.map(|name| Helper::named(&name)),
        };
        Ok((logins, broken))
    }

    /// The login for a host, as BuildKit calls it.
    pub(super) async fn of(&self, host: &str) -> Option<Login> {
        let registry = if host == DOCKER_HUB_HOST {
            DOCKER_HUB
        } else {
            host
        };
        if let Some(helper) = self.helpers.get(registry).or(self.store.as_ref())
            && let Some(login) = reported(helper, helper.get(registry).await).flatten()
        {
            return Some(login);
        }
        let same_host = || {
            let mut stored = self.stored.iter();
            stored.find(|(name, _)| hostname(name) == hostname(registry))
        };
        let exact = self.stored.get_key_value(registry);
        exact.or_else(same_host).map(|(_, login)| login.clone())
    }

    /// All logins, as the header `X-Registry-Config` of a build with the classic builder. Nothing if there are none.
    pub(super) async fn header(&self) -> Option<String> {
        let all = self.all().await;
        if all.is_empty() {
            return None;
        }
        let all: BTreeMap<_, _> = all
            .iter()
            .map(|(registry, login)| {
                let login = EngineLogin {
                    username: &login.user,
                    password: text(&login.password),
                    identitytoken: text(&login.identity_token),
                    serveraddress: registry,
                };
                (registry, login)
            })
            .collect();
        let json = Zeroizing::new(serde_json::to_vec(&all).ok()?);
        // Engines do not read the usual alphabet.
        Some(BASE64_URL_SAFE.encode(&*json))
    }

    async fn all(&self) -> BTreeMap<String, Login> {
        let mut all = self.stored.clone();
        if let Some(store) = &self.store {
            let registries = reported(store, store.list().await).unwrap_or_default();
            for registry in registries {
                match store.get(&registry).await {
                    Ok(Some(login)) => drop(all.insert(registry, login)),
                    Ok(None) => {}
                    Err(error) => {
                        // One that hangs is not asked again: the build has waited long enough.
                        let hangs = matches!(error, HelperError::Slow);
                        let _ = reported::<()>(store, Err(error));
                        if hangs {
                            break;
                        }
                    }
                }
            }
        }
        for (registry, helper) in &self.helpers {
            if let Some(login) = reported(helper, helper.get(registry).await).flatten() {
                all.insert(registry.clone(), login);
            }
        }
        all
    }
}

/// Tells the operator of a helper that fails.
fn reported<T>(helper: &Helper, answer: Result<T, HelperError>) -> Option<T> {
    answer
        .inspect_err(|error| {
            let helper = helper.program().display();
            warn!(%helper, "cannot get a login from Docker's credential helper: {error}");
        })
        .ok()
}

/// An entry whose base64 is none, or has no colon.
struct NotALogin;

impl Entry {
    /// The login of this entry. Where a helper has it, the entry is empty.
    fn login(self) -> Result<Option<Login>, NotALogin> {
        if let Some(token) = self.identitytoken.filter(|token| !token.is_empty()) {
            return Ok(Some(Login::with_token(token)));
        }
        let Some(auth) = self.auth.filter(|auth| !auth.is_empty()) else {
            let user = self.username.filter(|user| !user.is_empty());
            let login =
                user.map(|user| Login::with_password(user, self.password.unwrap_or_default()));
            return Ok(login);
        };
        let decoded = BASE64_STANDARD.decode(auth).map_err(|_| NotALogin)?;
        let decoded = Zeroizing::new(decoded);
        let decoded = std::str::from_utf8(&decoded).map_err(|_| NotALogin)?;
        let (user, password) = decoded.split_once(':').ok_or(NotALogin)?;
        // Old versions of Docker padded it.
        let password = password.trim_matches('\0');
        Ok(Some(Login::with_password(user.into(), password.into())))
    }
}

fn read_file(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>, LoginsError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let mut text = Zeroizing::new(Vec::new());
    file.take(MAX_FILE + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(LoginsError::TooLarge);
    }
    Ok(Some(text))
}

/// The host in a registry's name, which may be a URL.
fn hostname(registry: &str) -> &str {
    let registry = ["https://", "http://"]
        .iter()
        .find_map(|scheme| registry.strip_prefix(scheme))
        .unwrap_or(registry);
    registry.split_once('/').map_or(registry, |(host, _)| host)
}

#[cfg(test)]
mod tests;
