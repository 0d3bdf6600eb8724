//! Outgoing HTTP, for polls and deliveries alike: one client per source or handler with its own proxy, CA, client certificate,
//! host allow-list, timeouts and size caps. Redirects are never followed.

mod proxy;
mod resolve;
mod timing;
pub mod tls;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use tokio::time::Instant;
use url::Url;

use crate::certificate::Presented;
use crate::config::{Network, Proxy, Tls, never_called};
use crate::fresh::Fresh;
use crate::model::Timings;
use crate::secret::Secret;
use proxy::Via;
pub use resolve::{LookUp, permitted, system};
use resolve::{REFUSED, Resolver};
pub use timing::Failed;
use timing::Watch;

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
    /// What an answer is whose body is longer, or does not come whole.
    pub over: Over,
}

/// What becomes of an answer of which the body is not all there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// It is worth nothing.
    Error,
    /// Its status and headers count, with what was read of the body: whether it was too long, broke off, cannot be decoded or hangs.
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
    pub connect_timeout: Duration,
    /// Idle connections kept to each host.
    pub pool_idle_max: usize,
    /// Every connection goes to this Unix socket.
    pub unix_socket: Option<PathBuf>,
}

/// Sends requests within the bounds of its options. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    /// Made again when a certificate or key changes.
    ways: Arc<Fresh<Ways>>,
    network: Network,
    named: Option<Arc<Named>>,
    presented: Presented,
}

/// By what requests go.
struct Ways {
    /// None: everything goes through a proxy.
    direct: Option<reqwest::Client>,
    proxied: Option<(reqwest::Client, Via)>,
    /// Connections on which TLS asks for another name than the address has. They are kept apart: elsewhere the name stands for itself.
    named: Option<reqwest::Client>,
}

/// The name that certificates must bear and that TLS asks for, instead of the address's own.
struct Named {
    name: String,
    /// The one host of which that is so; None: all that are called.
    host: Option<String>,
}

/// How an exchange went, and where its time did.
pub struct Exchanged {
    pub answer: Result<Incoming, SendError>,
    pub timings: Timings,
    /// Which part of making a connection failed.
    pub failed: Option<Failed>,
}

/// What sends a request and brings its answer: a [`Client`], or what a simulation puts in its place.
#[async_trait]
pub trait Exchange: Send + Sync + 'static {
    async fn exchange(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError>;

    /// The same, with the time of each part as far as it can be known.
    async fn timed(&self, request: Outgoing, bounds: Bounds) -> Exchanged {
        Exchanged { answer: self.exchange(request, bounds).await, timings: Timings::default(), failed: None }
    }
}

#[async_trait]
impl Exchange for Client {
    async fn exchange(&self, request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError> {
        self.send(request, bounds).await
    }

    async fn timed(&self, request: Outgoing, bounds: Bounds) -> Exchanged {
        let watch = Watch::default();
        let answer = watch.over(self.send(request, bounds)).await;
        Exchanged { answer, timings: watch.timings(), failed: watch.failed() }
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
        Client::with_look_up(options, resolve::system())
    }

    /// As [`Client::new`], with something else in place of the system's name service.
    pub fn with_look_up(options: &ClientOptions, look_up: LookUp) -> Result<Client, String> {
        Client::made(options, look_up, None)
    }

    /// As [`Client::new`], where `tls.server_name` is the name of this host alone: others that are called go by their own.
    pub fn naming(options: &ClientOptions, host: &str) -> Result<Client, String> {
        Client::made(options, resolve::system(), Some(host.to_ascii_lowercase()))
    }

    /// The same, which notes there what certificates servers show.
    pub fn noting(self, presented: &Presented) -> Client {
        Client { presented: presented.clone(), ..self }
    }

    fn made(options: &ClientOptions, look_up: LookUp, host: Option<String>) -> Result<Client, String> {
        let name = options.tls.server_name.as_ref().map(|name| name.to_ascii_lowercase());
        let named = name.map(|name| Arc::new(Named { name, host }));
        let (given, for_ways) = (options.clone(), named.clone());
        let make = move || Ways::new(&given, &look_up, for_ways.as_deref());
        let ways = Arc::new(Fresh::new(tls::files(&options.tls, &options.network), make)?);
        Ok(Client { ways, network: options.network.clone(), named, presented: Presented::default() })
    }

    /// Sends one request and reads its answer within the bounds.
    pub async fn send(&self, mut request: Outgoing, bounds: Bounds) -> Result<Incoming, SendError> {
        let (place, secured) = (place(&request.url), request.url.scheme() == "https");
        let ways = self.ways.get();
        let via = ways.proxied.as_ref().and_then(|(client, via)| Some((client, via.place(&request.url)?)));
        self.permit(&request.url, via.is_some())?;
        let dialled = self.rename(&mut request)?;
        let straight = if dialled.is_some() { &ways.named } else { &ways.direct };
        let (client, via) = match (via, straight) {
            (Some((client, via)), _) => (client, Some(via)),
            (None, Some(client)) => (client, None),
            (None, None) => {
                return Err(SendError::Proxy(format!("there is neither a proxy nor a straight way to {place}")));
            }
        };
        let outgoing = client.request(request.method, request.url).headers(request.headers).body(request.body);
        // Behind a proxy TLS without TLS of the host's is the proxy's own.
        let shower = if secured { Some(place.as_str()) } else { via };
        let deadline = Instant::now() + bounds.timeout;
        let sent = tokio::time::timeout_at(deadline, resolve::instead(dialled, outgoing.send())).await;
        let sent = sent.map_err(|_| late(&place, via, bounds.timeout))?;
        let response = sent.map_err(|error| classify(&error, &place, via))?;
        timing::head();
        let shown = response.extensions().get::<reqwest::tls::TlsInfo>().and_then(|info| info.peer_certificate());
        if let (Some(shower), Some(shown)) = (shower, shown) {
            self.presented.note(shower, shown);
        }
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        if let (407, Some(via)) = (status, via) {
            return Err(SendError::Proxy(format!("the proxy {via} wants a user and a password (407)")));
        }
        let body = read(response, bounds, deadline, &place).await?;
        Ok(Incoming { status, headers, body })
    }

    /// Puts the name that TLS is to ask for in the address's place; the answer is the host to dial for it. The request itself goes on
    /// naming the host of its address.
    fn rename(&self, request: &mut Outgoing) -> Result<Option<String>, SendError> {
        let host = request.url.host_str().unwrap_or_default().to_owned();
        let holds =
            |named: &&Arc<Named>| request.url.scheme() == "https" && named.host.as_ref().is_none_or(|of| *of == host);
        let Some(named) = self.named.as_ref().filter(holds) else { return Ok(None) };
        let name = &named.name;
        let wrong = |_| SendError::HostRefused(format!("`tls.server_name` is `{name}`, which is no host name"));
        let authority = request.url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        if let Ok(value) = http::HeaderValue::from_str(&authority) {
            request.headers.entry(http::header::HOST).or_insert(value);
        }
        request.url.set_host(Some(name)).map_err(wrong)?;
        Ok(Some(host))
    }

    /// The allow-list on addresses written as such, and on names that a proxy will resolve; names that are resolved here are checked
    /// with their addresses when dialled.
    fn permit(&self, url: &Url, proxied: bool) -> Result<(), SendError> {
        let refused = |reason: String| Err(SendError::HostRefused(reason));
        let (name, ip) = match url.host() {
            Some(url::Host::Ipv4(ip)) => (None, Some(IpAddr::V4(ip))),
            Some(url::Host::Ipv6(ip)) => (None, Some(IpAddr::V6(ip))),
            Some(url::Host::Domain(name)) => (Some(name), None),
            None => return refused("the address has no host".into()),
        };
        if let Some((ip, reason)) = ip.and_then(|ip| Some((ip, never_called(ip)?))) {
            return refused(format!("{ip} is {reason}: never called"));
        }
        if (ip.is_some() || proxied) && !self.network.allows(name, ip) {
            return refused(format!("`{}` is not in `network.allow`", url.host_str().unwrap_or_default()));
        }
        Ok(())
    }
}

impl Ways {
    fn new(options: &ClientOptions, look_up: &LookUp, named: Option<&Named>) -> Result<Ways, String> {
        let proxies = proxy::proxies(options)?;
        if proxies.is_some() && named.is_some() {
            return Err(
                "`tls.server_name` and a proxy exclude each other: the proxy is told the address's own name".into()
            );
        }
        let resolver = || Resolver::new(options.network.clone(), look_up.clone());
        let straight = || build(options, Protocols::All, resolver(), Vec::new());
        let direct = match &proxies {
            Some(proxies) if proxies.via.takes_all() => None,
            _ => Some(straight()?),
        };
        let proxied = match proxies {
            Some(proxies) => {
                // The proxy's own name is resolved here, and with `socks4` and `socks5` the hosts too: those are judged as ever.
                let client = build(options, Protocols::All, resolver().trusting(proxies.hosts), proxies.proxies)?;
                Some((client, proxies.via))
            }
            None => None,
        };
        let named = named.map(|_| build(options, Protocols::Http1, resolver(), Vec::new())).transpose()?;
        Ok(Ways { direct, proxied, named })
    }
}

enum Protocols {
    All,
    /// HTTP/2 would take the authority from the address, which bears the other name.
    Http1,
}

fn build(
    options: &ClientOptions,
    protocols: Protocols,
    resolver: Resolver,
    proxies: Vec<reqwest::Proxy>,
) -> Result<reqwest::Client, String> {
    let mut builder = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(options.connect_timeout)
        .pool_max_idle_per_host(options.pool_idle_max)
        .pool_idle_timeout(Duration::from_secs(60))
        .tcp_nodelay(true)
        .user_agent(concat!("ringback/", env!("CARGO_PKG_VERSION")))
        .dns_resolver(Arc::new(resolver))
        .connector_layer(timing::ConnectLayer)
        .tls_info(true)
        .no_proxy();
    if let Some(socket) = &options.unix_socket {
        builder = builder.unix_socket(socket.as_path());
    }
    let tls = |protocols: &[&[u8]]| tls::for_http(&options.tls, &options.network, protocols);
    builder = match protocols {
        Protocols::All => builder.tls_backend_preconfigured(tls(&[b"h2", b"http/1.1"])?),
        Protocols::Http1 => builder.http1_only().tls_backend_preconfigured(tls(&[b"http/1.1"])?),
    };
    for proxy in proxies {
        builder = builder.proxy(proxy);
    }
    builder.build().map_err(|error| format!("the HTTP client cannot be built: {}", innermost(&error)))
}

async fn read(
    mut response: reqwest::Response,
    bounds: Bounds,
    deadline: Instant,
    place: &str,
) -> Result<Bytes, SendError> {
    let expected = response.content_length().unwrap_or(0).min(bounds.body_max as u64) as usize;
    let mut body = BytesMut::with_capacity(expected);
    let fault = loop {
        match tokio::time::timeout_at(deadline, response.chunk()).await {
            Ok(Ok(None)) => return Ok(body.freeze()),
            Ok(Ok(Some(chunk))) => {
                let room = bounds.body_max - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(room)]);
                if chunk.len() > room {
                    let max = bounds.body_max;
                    break SendError::TooLarge(format!("the answer of {place} is larger than {max} bytes"));
                }
            }
            Ok(Err(error)) => {
                break SendError::Broken(format!("the answer of {place} broke off: {}", innermost(&error)));
            }
            Err(_) => break SendError::Timeout(no_answer(place, bounds.timeout)),
        }
    };
    match bounds.over {
        Over::Error => Err(fault),
        Over::Cut => Ok(body.freeze()),
    }
}

fn no_answer(place: &str, limit: Duration) -> String {
    format!("{place} gave no whole answer within {limit:?}")
}

/// The time is over before there is an answer. As long as the connection is still being made, nothing of the request was sent.
fn late(place: &str, via: Option<&str>, limit: Duration) -> SendError {
    match via {
        _ if !timing::connecting() => SendError::Timeout(no_answer(place, limit)),
        None => SendError::Unreachable(format!("{place} did not accept a connection within {limit:?}")),
        Some(via) => SendError::Proxy(format!(
            "{place} cannot be reached through the proxy {via}: no connection within {limit:?}"
        )),
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

/// Whose fault it is. `via`: the proxy between us and the host.
fn classify(error: &reqwest::Error, place: &str, via: Option<&str>) -> SendError {
    let cause = innermost(error);
    let chain = chain(error);
    if let Some(refused) = chain.iter().find_map(|text| text.strip_prefix(REFUSED)) {
        return SendError::HostRefused(refused.to_owned());
    }
    if let (Some(via), true) = (via, error.is_connect()) {
        // Only the host itself can present a wrong certificate: the tunnel stands by then.
        let of_the_host = chain.iter().any(|text| text.contains("certificate") || text.contains("HandshakeFailure"));
        if !of_the_host {
            return SendError::Proxy(format!("{place} cannot be reached through the proxy {via}: {cause}"));
        }
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
