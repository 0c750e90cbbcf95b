//! Names of hosts become addresses here where images are not to reach this machine's own services: a name that leads to a loopback
//! address leads nowhere, unless the operator named it.

use std::error::Error;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tokio::net::lookup_host;

use super::RegistryConfig;
use super::endpoint::{is_own_address, without_port};

/// Looks names up as the system does, and leaves out addresses of this machine.
#[derive(Debug)]
pub(super) struct Elsewhere {
    /// Hosts that may be anywhere.
    named: Vec<String>,
}

impl Elsewhere {
    /// With all that `config` names.
    pub(super) fn new(config: &RegistryConfig) -> Self {
        let mirrors = config.mirrors.iter().flat_map(|mirrors| &mirrors.urls);
        let mirrors = mirrors.map(|url| &url.host);
        let named = config.plain_http.iter().chain(mirrors);
        let mut named: Vec<String> = named.map(|host| without_port(host).to_owned()).collect();
        // A proxy of the environment may have this name. No URL with it gets here.
        named.push("localhost".to_owned());
        Self { named }
    }
}

impl Resolve for Elsewhere {
    fn resolve(&self, name: Name) -> Resolving {
        let is_named = self.named.iter().any(|named| named == name.as_str());
        Box::pin(async move {
            let found = lookup_host((name.as_str(), 0)).await?;
            let found: Vec<_> = found
                .filter(|address| is_named || !is_own_address(address.ip()))
                .collect();
            if found.is_empty() {
                let why = "its address is this machine itself, which must be allowed explicitly";
                return Err(Box::<dyn Error + Send + Sync>::from(why));
            }
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use reqwest::dns::Resolve as _;

    use super::Elsewhere;
    use crate::image::RegistryConfig;

    #[tokio::test]
    async fn a_name_that_leads_to_this_machine_leads_nowhere_unless_it_is_named() {
        let mut config = RegistryConfig::new("/nowhere".into());
        // An address needs no network to be looked up.
        let name = || "127.0.0.1".parse().expect("a name");
        assert!(Elsewhere::new(&config).resolve(name()).await.is_err());
        config.plain_http = vec!["127.0.0.1:5000".into()];
        let found = Elsewhere::new(&config).resolve(name()).await;
        assert_eq!(found.expect("an address").count(), 1);
    }
}
