//! Names to addresses, with the allow-list kept at the moment of dialling: a name that turns to another address is caught here.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::{Network, is_metadata};

/// Starts the text of an error that is a refusal of ours, so that it can be told from a failure of DNS.
pub const REFUSED: &str = "refused: ";

/// Resolves by the static host map, else by the system.
#[derive(Clone, Debug)]
pub struct Resolver {
    network: Network,
}

impl Resolver {
    pub fn new(network: Network) -> Resolver {
        Resolver { network }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let network = self.network.clone();
        Box::pin(async move {
            let host = name.as_str().to_ascii_lowercase();
            let found: Vec<SocketAddr> = match network.hosts.get(&host) {
                Some(ip) => vec![SocketAddr::new(*ip, 0)],
                None => tokio::net::lookup_host((host.as_str(), 0)).await?.collect(),
            };
            let permitted: Vec<SocketAddr> = found
                .into_iter()
                .filter(|address| !is_metadata(address.ip()) && network.allows(Some(&host), Some(address.ip())))
                .collect();
            if permitted.is_empty() {
                return Err(format!(
                    "{REFUSED}`{host}` is not in `network.allow`, or its addresses are always refused"
                )
                .into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}
