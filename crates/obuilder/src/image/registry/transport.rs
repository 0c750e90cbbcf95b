//! One question to one registry: TLS or not, logins, tokens, redirects, and how long an answer may take. Nothing is tried twice here, but
//! for a login that was asked for.
//!
//! A login, or a token had with it, is sent to the registry it is for (and to the token endpoint that the registry names), and never
//! follows a redirect to anybody else.

use std::time::Duration;

use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderValue, LOCATION, RANGE, RETRY_AFTER,
};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Method, Response, StatusCode, Url};
use tokio::time::{Instant, timeout, timeout_at};

use super::challenge::Challenge;
use super::credentials::{self, Login};
use super::endpoint::{Endpoint, host_of, is_listed, is_loopback};
use super::token::{Token, Tokens};
use super::trouble::Trouble;
use super::{RegistryConfig, RegistryLimits, challenge, refusal};
use crate::image::FetchError;

/// How often an answer may send us elsewhere.
const MAX_REDIRECTS: usize = 6;
/// The longest answer of a token endpoint, in bytes.
const MAX_TOKEN_ANSWER: u64 = 1 << 20;
/// How few bytes within the time for stalls are no progress.
pub(super) const LEAST_PROGRESS: u64 = 16 << 10;
/// The longest time for stalls that makes sense.
const LONGEST_STALL: Duration = Duration::from_secs(24 * 3600);
/// Who we are to token endpoints and in registries' logs.
const CLIENT_ID: &str = "ocluster-obuilder";
/// How long a header for basic authentication is used before the login is read again, in seconds.
const BASIC_LIFE: u64 = 60;

/// Speaks with registries.
#[derive(Debug)]
pub(super) struct Transport {
    client: Client,
    /// For loopback addresses, which a proxy of the environment could not reach.
    direct: Client,
    tokens: Tokens,
    pub(super) config: RegistryConfig,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// Whom.
    pub(super) endpoint: &'a Endpoint,
    pub(super) method: &'a Method,
    /// `manifests` or `blobs`, and a tag or digest.
    pub(super) what: (&'a str, &'a str),
    /// The types of answers that are understood.
    pub(super) accept: &'a str,
    /// The first byte that is wanted.
    pub(super) from: u64,
}

impl Transport {
    /// Reads certificates, and makes no connection yet. Blocks.
    pub(super) fn new(config: RegistryConfig) -> Result<Self, FetchError> {
        // The process may have chosen one before; any will do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let limit = config.limits.connect;
        let builder = |certificates: &[Certificate]| {
            let builder = Client::builder()
                .user_agent(concat!("ocluster-obuilder/", env!("CARGO_PKG_VERSION")))
                .redirect(Policy::none())
                .connect_timeout(limit)
                .referer(false);
            certificates
                .iter()
                .cloned()
                .fold(builder, ClientBuilder::add_root_certificate)
        };
        let mut certificates = Vec::new();
        for file in &config.ca_certificates {
            let refused = |why: String| {
                FetchError::Request(format!(
                    "cannot use {} as certificates of authorities: {why}",
                    file.display()
                ))
            };
            let text = std::fs::read(file).map_err(|error| refused(error.to_string()))?;
            let listed = Certificate::from_pem_bundle(&text)
                .map_err(|_| refused("it is not PEM".to_owned()))?;
            if listed.is_empty() {
                return Err(refused("there is no certificate in it".to_owned()));
            }
            certificates.extend(listed);
        }
        let build = |builder: ClientBuilder| {
            builder.build().map_err(|error| {
                let why = Trouble::of_http("them", &error).why();
                FetchError::Source(format!("cannot speak with registries: {why}"))
            })
        };
        Ok(Self {
            direct: build(builder(&certificates).no_proxy())?,
            client: build(builder(&certificates))?,
            tokens: Tokens::default(),
            config,
        })
    }

    /// The answer, if it is a good one, with its body not read yet: its status is 200, or 206 or 416 if a part was asked for.
    pub(super) async fn ask(&self, question: &Question<'_>) -> Result<Response, Trouble> {
        let endpoint = question.endpoint;
        let url = endpoint.url(self.scheme(endpoint).await?, Some(question.what))?;
        let host = host_of(&url);
        let scope = endpoint.scope();
        let mut token = self.tokens.get(&host, &scope);
        for last in [false, true] {
            let response = self.follow(question, &url, token.as_ref()).await?;
            if response.status() != StatusCode::UNAUTHORIZED
                || !is_same_origin(response.url(), &url)
            {
                return refusal::checked(response, endpoint, &self.config, question.from > 0);
            }
            self.tokens.forget(&host, &scope);
            let Some(challenge) = challenge::read(response.headers()).filter(|_| !last) else {
                return refusal::checked(response, endpoint, &self.config, question.from > 0);
            };
            let fresh = self.token(endpoint, &challenge, &url, &scope).await?;
            self.tokens.keep(&host, &scope, fresh.clone());
            token = Some(fresh);
        }
        Err(Trouble::Request(format!("{} wants a login", endpoint.name)))
    }

    /// Whether to speak TLS with the endpoint. On a loopback address that is found out.
    async fn scheme(&self, endpoint: &Endpoint) -> Result<&'static str, Trouble> {
        if let Some(scheme) = endpoint.scheme() {
            return Ok(scheme);
        }
        let url = &endpoint.url("https", None)?;
        let found = endpoint.found.get_or_init(|| async {
            match self
                .within(self.client(url).get(url.clone()), &endpoint.name)
                .await
            {
                // A certificate that we do not trust is TLS, and not to be answered by doing without.
                Err((_, Some(error))) if error.is_connect() && !is_about_certificate(&error) => {
                    "http"
                }
                _ => "https",
            }
        });
        Ok(found.await)
    }

    /// Asks, and goes where the answers send us.
    async fn follow(
        &self,
        question: &Question<'_>,
        url: &Url,
        token: Option<&Token>,
    ) -> Result<Response, Trouble> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let host = host_of(&at);
            let mut request = self
                .client(&at)
                .request(question.method.clone(), at.clone())
                .header(ACCEPT, question.accept)
                .header(ACCEPT_ENCODING, "identity");
            if question.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", question.from));
            }
            if let Some(token) = token.filter(|_| is_same_origin(&at, url)) {
                request = request.header(AUTHORIZATION, token.header.clone());
            }
            let response = self
                .within(request, &host)
                .await
                .map_err(|(trouble, _)| trouble)?;
            if !is_redirect(response.status()) {
                return Ok(response);
            }
            at = self.next(&at, response.headers())?;
        }
        Err(Trouble::Source(format!(
            "{} sends us elsewhere more than {MAX_REDIRECTS} times",
            question.endpoint.name
        )))
    }

    /// Where a redirect leads. One from TLS to plain HTTP is followed only if the operator allowed that host.
    fn next(&self, from: &Url, headers: &HeaderMap) -> Result<Url, Trouble> {
        let host = host_of(from);
        let to = headers
            .get(LOCATION)
            .and_then(|to| from.join(to.to_str().ok()?).ok());
        let to =
            to.ok_or_else(|| Trouble::Source(format!("{host} sends us elsewhere, but not where")))?;
        self.allow(&to, from.scheme() == "http")
            .map_err(|why| Trouble::Source(format!("{host} sends us to {why}")))?;
        Ok(to)
    }

    /// Whether we may speak with the host of `url` as it says; loopback addresses without TLS only if who sent us there does without, too.
    fn allow(&self, url: &Url, by_plain: bool) -> Result<(), String> {
        let host = host_of(url);
        match url.scheme() {
            "https" => Ok(()),
            "http" if is_listed(&self.config.plain_http, &host) => Ok(()),
            "http" if by_plain && is_loopback(&host) => Ok(()),
            "http" => Err(format!(
                "{host} without TLS, which must be allowed explicitly for such a host"
            )),
            _ => Err("something that is not the web".to_owned()),
        }
    }

    /// What proves to the registry at `url` that we may: a token for `scope`, or name and password.
    async fn token(
        &self,
        endpoint: &Endpoint,
        challenge: &Challenge,
        url: &Url,
        scope: &str,
    ) -> Result<Token, Trouble> {
        let login = self.login(endpoint).await;
        match (challenge, login) {
            (Challenge::Basic, Some(Login::Password { user, password })) => {
                Token::new(&credentials::basic(user, password), BASIC_LIFE)
                    .ok_or_else(|| Trouble::Request(refusal::bad_login(endpoint)))
            }
            (Challenge::Basic, _) => {
                Err(Trouble::Request(refusal::no_login(endpoint, &self.config)))
            }
            (Challenge::Bearer { realm, service }, login) => {
                let name = &endpoint.name;
                let realm: Url = realm.parse().map_err(|_| {
                    Trouble::Source(format!("{name} names no place to get tokens at"))
                })?;
                self.allow(&realm, url.scheme() == "http").map_err(|why| {
                    Trouble::Source(format!("{name} sends us for tokens to {why}"))
                })?;
                let request = self.token_request(realm.clone(), service.as_deref(), scope, login);
                let host = host_of(&realm);
                let response = self
                    .within(request, &host)
                    .await
                    .map_err(|(trouble, _)| trouble)?;
                if !response.status().is_success() {
                    return Err(refusal::of_token(
                        &response,
                        &host,
                        endpoint,
                        login,
                        &self.config,
                    ));
                }
                let answer = self.body(response, MAX_TOKEN_ANSWER, &host).await?;
                Token::read(&answer)
                    .ok_or_else(|| Trouble::Source(format!("{host} answers with no token")))
            }
        }
    }

    /// The question for a token: as Docker asks, with name and password, or with an identity token to be changed.
    fn token_request(
        &self,
        mut realm: Url,
        service: Option<&str>,
        scope: &str,
        login: Option<&Login>,
    ) -> reqwest::RequestBuilder {
        let service = service.unwrap_or_default();
        if let Some(Login::IdentityToken(token)) = login {
            let form = zeroize::Zeroizing::new(
                reqwest::Url::parse_with_params(
                    "form:",
                    [
                        ("grant_type", "refresh_token"),
                        ("service", service),
                        ("client_id", CLIENT_ID),
                        ("scope", scope),
                        ("refresh_token", token.as_str()),
                    ],
                )
                .map(|url| url.query().unwrap_or_default().to_owned())
                .unwrap_or_default(),
            );
            return self
                .client(&realm)
                .post(realm)
                .header(
                    reqwest::header::CONTENT_TYPE,
                    "application/x-www-form-urlencoded",
                )
                .body(form.to_string());
        }
        {
            let mut query = realm.query_pairs_mut();
            if !service.is_empty() {
                query.append_pair("service", service);
            }
            query.append_pair("scope", scope);
            query.append_pair("client_id", CLIENT_ID);
        }
        let request = self.client(&realm).get(realm);
        match login {
            Some(Login::Password { user, password }) => {
                let mut header = HeaderValue::from_str(&credentials::basic(user, password)).ok();
                if let Some(header) = &mut header {
                    header.set_sensitive(true);
                }
                match header {
                    Some(header) => request.header(AUTHORIZATION, header),
                    None => request,
                }
            }
            _ => request,
        }
    }

    fn client(&self, url: &Url) -> &Client {
        if is_loopback(&host_of(url)) {
            &self.direct
        } else {
            &self.client
        }
    }

    /// Our login at the endpoint; it is looked up once in a pull.
    async fn login<'a>(&self, endpoint: &'a Endpoint) -> Option<&'a Login> {
        let file = self.config.docker_config.as_deref();
        let login = endpoint
            .login
            .get_or_init(|| credentials::login(file, &endpoint.login_name));
        login.await.as_ref()
    }

    /// Sends a request and waits for the answer's head.
    async fn within(
        &self,
        request: reqwest::RequestBuilder,
        host: &str,
    ) -> Result<Response, (Trouble, Option<reqwest::Error>)> {
        let limit = self.config.limits.answer;
        match timeout(limit, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => {
                let trouble = Trouble::of_http(host, &error);
                Err((trouble, Some(error)))
            }
            Err(_) => Err((
                Trouble::passing(format!("{host} did not answer within {limit:?}")),
                None,
            )),
        }
    }

    /// A small body.
    pub(super) async fn body(
        &self,
        mut response: Response,
        most: u64,
        host: &str,
    ) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        let mut watch = StallWatch::new(&self.config.limits);
        while let Some(chunk) = watch.chunk(&mut response, host).await? {
            if (body.len() + chunk.len()) as u64 > most {
                return Err(Trouble::Source(format!(
                    "{host} sends more than the {most} bytes that such an answer may have"
                )));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// Ends the reading of a body that stands still, or comes too slowly for too long.
pub(super) struct StallWatch {
    stall: Pace,
    rate: Pace,
}

/// So many bytes have to come in each piece of time.
struct Pace {
    least: u64,
    time: Duration,
    since: u64,
    deadline: Instant,
}

impl Pace {
    fn new(least: u64, time: Duration) -> Self {
        let time = time.min(LONGEST_STALL);
        Self {
            least,
            time,
            since: 0,
            deadline: Instant::now() + time,
        }
    }

    fn count(&mut self, bytes: u64) {
        self.since += bytes;
        if self.since >= self.least {
            self.since = 0;
            self.deadline = Instant::now() + self.time;
        }
    }
}

impl StallWatch {
    pub(super) fn new(limits: &RegistryLimits) -> Self {
        Self {
            stall: Pace::new(LEAST_PROGRESS, limits.stall),
            rate: Pace::new(limits.least_within(limits.rate_time), limits.rate_time),
        }
    }

    /// The next piece of a body, if there is more. The time between two calls does not count if it is excused.
    pub(super) async fn chunk(
        &mut self,
        response: &mut Response,
        host: &str,
    ) -> Result<Option<bytes::Bytes>, Trouble> {
        let (stall, rate) = (&self.stall, &self.rate);
        let chunk = timeout_at(stall.deadline.min(rate.deadline), response.chunk()).await;
        let too_slow = |_| {
            Trouble::passing(if stall.deadline <= rate.deadline {
                format!("{host} stopped sending for {:?}", stall.time)
            } else {
                format!(
                    "{host} sent less than {} bytes in {:?}",
                    rate.least, rate.time
                )
            })
        };
        let chunk = chunk
            .map_err(too_slow)?
            .map_err(|error| Trouble::of_http(host, &error))?;
        let bytes = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
        self.stall.count(bytes);
        self.rate.count(bytes);
        Ok(chunk)
    }

    /// Says that we had to wait for something else for so long.
    pub(super) fn excuse(&mut self, time: Duration) {
        self.stall.deadline += time;
        self.rate.deadline += time;
    }
}

/// How long an answer asks us to wait.
pub(super) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let then = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(then.duration_since(jiff::Timestamp::now())).unwrap_or_default())
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

fn is_same_origin(one: &Url, other: &Url) -> bool {
    one.scheme() == other.scheme()
        && one.host_str() == other.host_str()
        && one.port_or_known_default() == other.port_or_known_default()
}

/// Whether TLS was spoken, and the certificate was not good.
fn is_about_certificate(error: &reqwest::Error) -> bool {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return matches!(
                error,
                rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_)
            );
        }
        // An error of input and output skips what it wraps when it is asked for its source.
        let wrapped = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        next = match wrapped {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        };
    }
    false
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};

    use super::retry_after;

    fn wait(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_str(text).expect("a value"));
        retry_after(&headers)
    }

    #[test]
    fn waits_are_read_as_seconds_and_as_dates() {
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Fri, 31 Dec 1999 23:59:59 GMT"), Some(Duration::ZERO));
        assert!(wait("Fri, 31 Dec 2100 23:59:59 GMT").is_some_and(|wait| wait.as_secs() > 1 << 30));
        assert_eq!(wait("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }
}
