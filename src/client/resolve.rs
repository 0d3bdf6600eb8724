//! Names to addresses, with the allow-list kept at the moment of dialling: a name that turns to another address is caught here.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::{SendError, timing};
use crate::config::{Network, never_called};

/// Starts the text of an error that is a refusal of ours, so that it can be told from a failure of DNS.
pub const REFUSED: &str = "refused: ";

tokio::task_local! {
    /// The host to dial in place of the one that is asked for: what `tls.server_name` stands before.
    static INSTEAD: Option<String>;
}

/// Carries out a request whose host is only the name for TLS.
pub async fn instead<T>(dialled: Option<String>, request: impl Future<Output = T>) -> T {
    match dialled {
        Some(_) => INSTEAD.scope(dialled, request).await,
        None => request.await,
    }
}

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
    /// Hosts that the list says nothing of: the proxies, which the configuration names itself.
    trusted: Vec<String>,
}

impl Resolver {
    pub fn new(network: Network, look_up: LookUp) -> Resolver {
        Resolver { network, look_up, trusted: Vec::new() }
    }

    /// With hosts that need not be on the list.
    pub fn trusting(self, hosts: Vec<String>) -> Resolver {
        Resolver { trusted: hosts, ..self }
    }
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        let dialled = INSTEAD.try_with(Clone::clone).ok().flatten();
        Box::pin(timing::look_up(async move {
            let host = dialled.unwrap_or_else(|| name.as_str().to_owned());
            let found = resolver.permitted(&host).await?;
            Ok(Box::new(found.into_iter().map(|ip| SocketAddr::new(ip, 0))) as Addrs)
        }))
    }
}

impl Resolver {
    /// The addresses of a host that may be called; the error of a refusal starts with [`REFUSED`].
    pub async fn permitted(&self, host: &str) -> Result<Vec<IpAddr>, Box<dyn std::error::Error + Send + Sync>> {
        let host = host.to_ascii_lowercase();
        let literal: Option<IpAddr> = host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        let found = match literal.or_else(|| self.network.hosts.get(&host).copied()) {
            Some(ip) => vec![ip],
            None => (self.look_up)(host.clone()).await?,
        };
        // An address written as such is judged as one: it has no name that could be on the list.
        let name = literal.is_none().then_some(host.as_str());
        let mut permitted = Vec::new();
        let mut reason = format!("`{host}` has no address");
        for ip in found {
            if let Some(never) = never_called(ip) {
                reason = format!("`{host}` leads to {ip}, {never}: never called");
            } else if !self.trusted.contains(&host) && !self.network.allows(name, Some(ip)) {
                reason = format!("`{host}` leads to {ip}, which `network.allow` does not hold");
            } else {
                permitted.push(ip);
            }
        }
        if permitted.is_empty() { Err(format!("{REFUSED}{reason}").into()) } else { Ok(permitted) }
    }
}

/// The addresses of a host that a protocol other than HTTP may call.
pub async fn permitted(network: &Network, look_up: &LookUp, host: &str) -> Result<Vec<IpAddr>, SendError> {
    let resolver = Resolver::new(network.clone(), look_up.clone());
    resolver.permitted(host).await.map_err(|error| match error.to_string().strip_prefix(REFUSED) {
        Some(refused) => SendError::HostRefused(refused.to_owned()),
        None => SendError::Unreachable(format!("`{host}` cannot be resolved: {error}")),
    })
}
