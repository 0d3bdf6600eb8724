//! Outgoing HTTP, for polls and deliveries alike: one client per source or handler with its own proxy, CA, client certificate,
//! host allow-list, timeouts and size caps. Redirects are never followed.

mod resolve;

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use url::Url;

use crate::config::{Network, Proxy, Tls, TlsVersion, is_metadata};
use crate::secret::Secret;
use resolve::{REFUSED, Resolver};

/// A request to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    pub method: Method,
    pub url: Url,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Bounds of one exchange.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// For the whole exchange, body included.
    pub timeout: Duration,
    /// Bytes of the answer after decompression.
    pub body_max: usize,
    /// What a longer answer is: an error, or cut off.
    pub over: Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    Error,
    Cut,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why there is no answer. Each message is a sentence for a person and holds no secret.
#[derive(Debug, Clone, thiserror::Error, PartialEq)]
pub enum SendError {
    /// Not on the allow-list, or an address that is always refused.
    #[error("{0}")]
    HostRefused(String),
    /// DNS, connect or TLS failed: nothing was sent.
    #[error("{0}")]
    Unreachable(String),
    /// The proxy's fault, not the host's.
    #[error("{0}")]
    Proxy(String),
    #[error("{0}")]
    Timeout(String),
    /// The connection broke before the answer was whole.
    #[error("{0}")]
    Broken(String),
    #[error("{0}")]
    TooLarge(String),
}

/// What a client is built from: one for each source or handler.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    pub network: Network,
    pub proxy: Proxy,
    pub proxy_password: Option<Secret>,
    pub tls: Tls,
    pub tls_key: Option<Secret>,
    pub connect_timeout: Duration,
    /// Idle connections kept to each host.
    pub pool_idle_max: usize,
}

/// Sends requests within the bounds of its options. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    inner: reqwest::Client,
    network: Network,
    proxied: bool,
}

/// What sends a request and brings its answer: a [`Client`], or what a simulation puts in its place.
#[async_trait]
pub trait Exchange: Send + Sync + 'static {
    async fn exchange(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError>;
}

#[async_trait]
impl Exchange for Client {
    async fn exchange(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError> {
        self.send(request, bounds).await
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Client")
    }
}

impl Client {
    /// Builds a client; the error is a sentence that names the file or key at fault.
    pub fn new(options: &ClientOptions) -> Result<Client, String> {
        let resolver = Resolver::new(options.network.clone());
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(options.connect_timeout)
            .pool_max_idle_per_host(options.pool_idle_max)
            .pool_idle_timeout(Duration::from_secs(60))
            .tcp_nodelay(true)
            .user_agent(concat!("ringback/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Arc::new(resolver))
            .no_proxy();
        for path in options.network.ca_files.iter().chain(&options.tls.ca_files) {
            for certificate in certificates(path)? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        if let Some(identity) = identity(options)? {
            builder = builder.identity(identity);
        }
        builder = match options.tls.min_version {
            Some(TlsVersion::V1_3) => builder.tls_version_min(reqwest::tls::Version::TLS_1_3),
            Some(TlsVersion::V1_2) | None => builder,
        };
        let proxied = options.proxy != Proxy::None;
        for proxy in proxies(options)? {
            builder = builder.proxy(proxy);
        }
        let inner =
            builder.build().map_err(|error| format!("the HTTP client cannot be built: {}", innermost(&error)))?;
        Ok(Client { inner, network: options.network.clone(), proxied })
    }

    /// Sends one request and reads its answer within the bounds.
    pub async fn send(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError> {
        let place = place(&request.url);
        self.permit(&request.url)?;
        let outgoing = self.inner.request(request.method, request.url).headers(request.headers).body(request.body);
        let exchange = async {
            let response = outgoing.send().await.map_err(|error| classify(&error, &place, self.proxied))?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = read(response, bounds, &place).await?;
            Ok(Incoming { status, headers, body })
        };
        match tokio::time::timeout(bounds.timeout, exchange).await {
            Ok(done) => done,
            Err(_) => Err(SendError::Timeout(format!("{place} gave no whole answer within {:?}", bounds.timeout))),
        }
    }

    /// The allow-list on names, and on addresses written as such; resolved addresses are checked when dialled.
    fn permit(&self, url: &Url) -> Result<(), SendError> {
        let refused = |reason: String| Err(SendError::HostRefused(reason));
        let address = match url.host() {
            Some(url::Host::Ipv4(ip)) => Some(IpAddr::V4(ip)),
            Some(url::Host::Ipv6(ip)) => Some(IpAddr::V6(ip)),
            Some(url::Host::Domain(_)) => None,
            None => return refused("the address has no host".into()),
        };
        if let Some(ip) = address {
            if is_metadata(ip) {
                return refused(format!("{ip} is a link-local address (cloud metadata): always refused"));
            }
            if !self.network.allows(None, Some(ip)) {
                return refused(format!("{ip} is not in `network.allow`"));
            }
        }
        Ok(())
    }
}

async fn read(mut response: reqwest::Response, bounds: Bounds, place: &str) -> Result<Bytes, SendError> {
    let expected = response.content_length().unwrap_or(0).min(bounds.body_max as u64) as usize;
    let mut body = BytesMut::with_capacity(expected);
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body.freeze()),
            Ok(Some(chunk)) => {
                let room = bounds.body_max - body.len();
                if chunk.len() > room {
                    if bounds.over == Over::Error {
                        let max = bounds.body_max;
                        return Err(SendError::TooLarge(format!("the answer of {place} is larger than {max} bytes")));
                    }
                    body.extend_from_slice(&chunk[..room]);
                    return Ok(body.freeze());
                }
                body.extend_from_slice(&chunk);
            }
            Err(error) => {
                return Err(SendError::Broken(format!("the answer of {place} broke off: {}", innermost(&error))));
            }
        }
    }
}

/// Host and port: what a person needs, without a path or query that may hold a secret.
fn place(url: &Url) -> String {
    let host = url.host_str().unwrap_or("?");
    match url.port_or_known_default() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

fn classify(error: &reqwest::Error, place: &str, proxied: bool) -> SendError {
    let cause = innermost(error);
    let chain = chain(error);
    if let Some(refused) = chain.iter().find_map(|text| text.strip_prefix(REFUSED)) {
        return SendError::HostRefused(refused.to_owned());
    }
    if proxied && error.is_connect() && chain.iter().any(|text| text.contains("proxy") || text.contains("tunnel")) {
        return SendError::Proxy(format!("the proxy did not let {place} through: {cause}"));
    }
    if error.is_timeout() && error.is_connect() {
        return SendError::Unreachable(format!("{place} did not accept a connection in time"));
    }
    if error.is_connect() {
        return SendError::Unreachable(format!("{place} cannot be reached: {cause}"));
    }
    SendError::Broken(format!("the exchange with {place} broke off: {cause}"))
}

fn chain(error: &reqwest::Error) -> Vec<String> {
    let mut texts = Vec::new();
    let mut next = std::error::Error::source(error);
    while let Some(error) = next {
        texts.push(error.to_string());
        next = error.source();
    }
    texts
}

fn innermost(error: &reqwest::Error) -> String {
    chain(error).pop().unwrap_or_else(|| "unknown cause".into())
}

fn certificates(path: &Path) -> Result<Vec<reqwest::Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    let found = reqwest::Certificate::from_pem_bundle(&pem)
        .map_err(|_| format!("{}: holds no PEM certificates", path.display()))?;
    if found.is_empty() {
        return Err(format!("{}: holds no PEM certificates", path.display()));
    }
    Ok(found)
}

fn identity(options: &ClientOptions) -> Result<Option<reqwest::Identity>, String> {
    let (Some(cert), Some(key)) = (&options.tls.cert, &options.tls_key) else { return Ok(None) };
    let mut pem = std::fs::read(cert).map_err(|error| format!("{}: cannot be read: {error}", cert.display()))?;
    pem.push(b'\n');
    pem.extend_from_slice(key.expose().as_bytes());
    let identity = reqwest::Identity::from_pem(&pem);
    identity.map(Some).map_err(|_| format!("{} and its key are not a PEM certificate and private key", cert.display()))
}

fn proxies(options: &ClientOptions) -> Result<Vec<reqwest::Proxy>, String> {
    match &options.proxy {
        Proxy::None => Ok(Vec::new()),
        Proxy::Environment => {
            let variable = |name: &str| std::env::var(name).or_else(|_| std::env::var(name.to_lowercase())).ok();
            let mut proxies = Vec::new();
            for (name, make) in
                [("HTTPS_PROXY", reqwest::Proxy::https as fn(String) -> _), ("HTTP_PROXY", reqwest::Proxy::http)]
            {
                if let Some(url) = variable(name).filter(|url| !url.is_empty()) {
                    let proxy = make(url).map_err(|_| format!("{name} is not the address of a proxy"))?;
                    proxies.push(proxy.no_proxy(reqwest::NoProxy::from_env()));
                }
            }
            Ok(proxies)
        }
        Proxy::Url { url, user, no_proxy, .. } => {
            let mut proxy =
                reqwest::Proxy::all(url.as_str()).map_err(|_| format!("`{url}` is not the address of a proxy"))?;
            if let (Some(user), Some(password)) = (user, &options.proxy_password) {
                proxy = proxy.basic_auth(user, password.expose());
            }
            let list: Vec<&str> = no_proxy.iter().map(|rule| rule.strip_prefix('*').unwrap_or(rule)).collect();
            Ok(vec![proxy.no_proxy(reqwest::NoProxy::from_string(&list.join(",")))])
        }
    }
}
