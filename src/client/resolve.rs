//! Names to addresses, with the allow-list kept at the moment of dialling: a name that turns to another address is caught here.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::config::{Network, never_called};

/// Starts the text of an error that is a refusal of ours, so that it can be told from a failure of DNS.
pub const REFUSED: &str = "refused: ";

/// Asks for the addresses of a name.
pub type LookUp =
    Arc<dyn Fn(String) -> Pin<Box<dyn Future<Output = std::io::Result<Vec<IpAddr>>> + Send>> + Send + Sync>;

/// What the system knows.
pub fn system() -> LookUp {
    Arc::new(|host| {
        Box::pin(async move {
            let found = tokio::net::lookup_host((host.as_str(), 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    })
}

/// Resolves by the static host map, else by what it is given.
#[derive(Clone)]
pub struct Resolver {
    network: Network,
    look_up: LookUp,
    /// False for the way to a proxy, which the configuration names itself.
    guarded: bool,
}

impl Resolver {
    pub fn new(network: Network, look_up: LookUp, guarded: bool) -> Resolver {
        Resolver { network, look_up, guarded }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let Resolver { network, look_up, guarded } = self.clone();
        Box::pin(async move {
            let host = name.as_str().to_ascii_lowercase();
            let mapped = network.hosts.get(&host).copied();
            let found = match mapped {
                Some(ip) => vec![ip],
                None => look_up(host.clone()).await?,
            };
            let mut permitted = Vec::new();
            let mut reason = format!("`{host}` has no address");
            for ip in found {
                if let Some(never) = never_called(ip) {
                    reason = format!("`{host}` leads to {ip}, {never}: never called");
                } else if guarded && !network.allows(Some(&host), Some(ip)) {
                    reason = format!("`{host}` leads to {ip}, which `network.allow` does not hold");
                } else {
                    permitted.push(SocketAddr::new(ip, 0));
                }
            }
            if permitted.is_empty() {
                return Err(format!("{REFUSED}{reason}").into());
            }
            Ok(Box::new(permitted.into_iter()) as Addrs)
        })
    }
}
