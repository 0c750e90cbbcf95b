//! Who is asked for an image: a registry, or one of its mirrors. And with whom we may speak without TLS.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};

use reqwest::Url;
use tokio::sync::OnceCell;

use super::RegistryConfig;
use super::credentials::Login;
use super::trouble::Trouble;
use crate::image::Reference;

/// Where Docker's own registry really is.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";

/// A registry or mirror, for one pull.
#[derive(Debug)]
pub(super) struct Endpoint {
    /// The name in messages.
    pub(super) name: String,
    /// The name under which a login is looked up.
    pub(super) login_name: String,
    /// Whether there is another one after it.
    pub(super) is_mirror: bool,
    host: String,
    repository: String,
    scheme: Scheme,
    /// What [`Scheme::Either`] turned out to be.
    pub(super) found: OnceCell<&'static str>,
    /// The login, once it was looked up.
    pub(super) login: OnceCell<Option<Login>>,
    failed: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Https,
    Http,
    /// A loopback address: TLS if it is spoken there.
    Either,
}

impl Endpoint {
    /// All that are to be asked for an image, in this order; the last is the registry itself.
    pub(super) fn all(config: &RegistryConfig, image: &Reference) -> Vec<Self> {
        let mirrors = config.mirrors.iter();
        let urls = mirrors
            .filter(|mirrors| mirrors.registry == image.host())
            .flat_map(|mirrors| &mirrors.urls);
        let mut all: Vec<Self> = urls
            .map(|url| Self {
                name: format!("the mirror {url}"),
                login_name: url.host.clone(),
                is_mirror: true,
                host: url.host.clone(),
                repository: format!("{}{}", url.prefix, image.repository()),
                scheme: if url.plain {
                    Scheme::Http
                } else {
                    Scheme::Https
                },
                found: OnceCell::new(),
                login: OnceCell::new(),
                failed: AtomicBool::new(false),
            })
            .collect();
        let host = match image.host() {
            "docker.io" => DOCKER_HUB_HOST,
            host => host,
        };
        all.push(Self {
            name: host.to_owned(),
            login_name: image.host().to_owned(),
            is_mirror: false,
            host: host.to_owned(),
            repository: image.repository().to_owned(),
            scheme: if is_listed(&config.plain_http, host) {
                Scheme::Http
            } else if config.loopback && is_loopback(host) {
                Scheme::Either
            } else {
                Scheme::Https
            },
            found: OnceCell::new(),
            login: OnceCell::new(),
            failed: AtomicBool::new(false),
        });
        all
    }

    /// The scheme, if it is clear without asking.
    pub(super) fn scheme(&self) -> Option<&'static str> {
        match self.scheme {
            Scheme::Https => Some("https"),
            Scheme::Http => Some("http"),
            Scheme::Either => self.found.get().copied(),
        }
    }

    /// The address of `manifests` or `blobs` with this tag or digest; of the whole registry without `what`.
    pub(super) fn url(&self, scheme: &str, what: Option<(&str, &str)>) -> Result<Url, Trouble> {
        let mut url = format!("{scheme}://{}/v2/", self.host);
        if let Some((kind, name)) = what {
            url.push_str(&format!("{}/{kind}/{name}", self.repository));
        }
        url.parse()
            .map_err(|_| Trouble::Request(format!("{} has no address", self.name)))
    }

    /// What a token has to be good for.
    pub(super) fn scope(&self) -> String {
        format!("repository:{}:pull", self.repository)
    }

    /// Remembers that it did not help this pull.
    pub(super) fn set_failed(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// Whether it did not help this pull before.
    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

/// Whether `host` (with its port, if it has one) is on a list of `HOST` and `HOST:PORT`.
pub(super) fn is_listed(list: &[String], host: &str) -> bool {
    list.iter()
        .any(|listed| listed == host || listed == without_port(host))
}

/// Whether `host` (with or without a port) is this machine and no other.
pub(super) fn is_loopback(host: &str) -> bool {
    let name = without_port(host);
    name == "localhost"
        || name == "[::1]"
        || name
            .parse()
            .is_ok_and(|address: Ipv4Addr| address.is_loopback())
}

/// Whether the host of `url` is this machine by its name: a loopback address, or one that the system takes for it.
pub(super) fn is_own(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_end_matches('.');
    let address = host.trim_start_matches('[').trim_end_matches(']');
    match address.parse() {
        Ok(address) => is_own_address(address),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

/// Whether what is sent to `address` stays on this machine whatever its network is.
pub(super) fn is_own_address(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

pub(super) fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => name,
        _ => host,
    }
}

/// A URL's host with its port, if that is not the scheme's usual one.
pub(super) fn host_of(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Endpoint, Scheme, is_listed, is_loopback, is_own};
    use crate::image::RegistryConfig;

    #[test]
    fn only_loopback_addresses_and_listed_hosts_may_do_without_tls() {
        for host in [
            "localhost",
            "localhost:5000",
            "127.0.0.1:1",
            "127.9.9.9",
            "[::1]:5000",
            "[::1]",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "localhost.example",
            "127.0.0.1.example",
            "128.0.0.1",
            "[::2]:1",
            "127",
            "a",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
        let list = ["a".to_owned(), "b:5000".to_owned()];
        assert!(is_listed(&list, "a") && is_listed(&list, "a:80") && is_listed(&list, "b:5000"));
        assert!(!is_listed(&list, "b") && !is_listed(&list, "b:5001") && !is_listed(&list, "c"));
    }

    #[test]
    fn mirrors_come_before_the_registry_and_only_before_theirs() {
        let mut config = RegistryConfig::new("/nowhere".into());
        config.mirrors = vec![
            "docker.io=https://a:1,http://b/proxy"
                .parse()
                .expect("mirrors"),
            "ghcr.io=https://c".parse().expect("mirrors"),
        ];
        let all = Endpoint::all(&config, &"busybox".parse().expect("a name"));
        let urls: Vec<_> = all
            .iter()
            .map(|endpoint| {
                let scheme = endpoint.scheme().expect("a scheme");
                let url = endpoint.url(scheme, Some(("manifests", "latest")));
                url.expect("a url").to_string()
            })
            .collect();
        assert_eq!(
            urls,
            [
                "https://a:1/v2/library/busybox/manifests/latest",
                "http://b/v2/proxy/library/busybox/manifests/latest",
                "https://registry-1.docker.io/v2/library/busybox/manifests/latest",
            ]
        );
        assert!(
            all.iter()
                .map(|endpoint| endpoint.is_mirror)
                .eq([true, true, false])
        );
    }

    #[test]
    fn a_registry_elsewhere_speaks_tls_unless_it_is_listed() {
        let mut config = RegistryConfig::new("/nowhere".into());
        let scheme = |config: &RegistryConfig, name: &str| {
            let all = Endpoint::all(config, &name.parse().expect("a name"));
            all.last().expect("a registry").scheme
        };
        assert_eq!(scheme(&config, "a.example:5000/x"), Scheme::Https);
        assert_eq!(scheme(&config, "localhost:5000/x"), Scheme::Either);
        config.plain_http = vec!["a.example:5000".into()];
        assert_eq!(scheme(&config, "a.example:5000/x"), Scheme::Http);
        assert_eq!(scheme(&config, "a.example:5001/x"), Scheme::Https);
        config.loopback = false;
        assert_eq!(scheme(&config, "localhost:5000/x"), Scheme::Https);
    }

    #[test]
    fn this_machine_is_known_however_it_is_written() {
        let own = |host: &str| is_own(&format!("https://{host}/v2/").parse().expect("a url"));
        for host in [
            "localhost",
            "LOCALHOST.:5000",
            "x.localhost",
            "127.1",
            "0x7f.0.0.1:1",
            "2130706433",
            "0.0.0.0",
            "[::1]:5000",
            "[::]",
            "[::ffff:127.0.0.1]",
        ] {
            assert!(own(host), "{host}");
        }
        for host in ["a.example", "localhost.example", "10.0.0.1", "[::2]"] {
            assert!(!own(host), "{host}");
        }
    }
}
