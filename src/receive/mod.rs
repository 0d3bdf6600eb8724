//! The way in for real webhooks: `POST /webhooks/<source>` and nothing else. Cap, verify, store, answer; what a webhook means is
//! found out later, by the inbox.
//!
//! A 2xx says: stored on disk. Our own trouble is 503 and never 4xx, so that no provider drops what we could not take.

mod caller;
mod fetched;
mod floor;
mod handshake;
pub mod inbox;
mod keys;
mod listen;
mod route;
mod timed;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::config::{Cidr, Rate};
use crate::metrics::Metrics;
use crate::model::{SourceName, Timestamp};
use crate::provider::{Handshake, KeysSpec, Webhook};
use crate::secret::Secret;
use crate::signature::{Refusal, Request, Scheme};
use crate::source::{Source, SourceWebhook, Sources};
use crate::store::{InboundRequest, NewInbound, Store, StoreError};

use fetched::Fetched;
use handshake::Challenge;
use keys::{Keys, NoKey};

pub use fetched::Clients;
pub use listen::{Limits, serve};
pub use route::{masked_body, message_id};

/// Asked of a provider to come again when we are in trouble, in seconds.
const COME_AGAIN: u64 = 30;
/// Where the public keys of handlers are shown.
const KEYS_PATH: &str = "/.well-known/webhook-keys";

/// Takes real webhooks.
pub struct Receiver {
    sources: ArcSwap<Doors>,
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Metrics,
    rate: ArcSwap<Rate>,
    clients: ArcSwap<Clients>,
    fetched: Fetched,
    keys: Keys,
    /// Bytes of a body.
    max_body: AtomicUsize,
    /// Whose `X-Forwarded-For` is believed.
    trusted_proxies: ArcSwap<Vec<Cidr>>,
    /// The public keys of handlers, if they are shown here.
    keys_shown: ArcSwap<Option<Bytes>>,
    /// Nothing is taken in for the time being (no room on the disk).
    rests: AtomicBool,
    /// Sources of which nothing is taken in, as a handler has no room for what they bring.
    full: ArcSwap<HashMap<SourceName, String>>,
}

type Doors = HashMap<SourceName, Arc<Door>>;

/// A source that accepts real webhooks.
struct Door {
    source: Arc<Source>,
    rate: Option<DefaultDirectRateLimiter>,
}

/// A request with its whole body.
pub struct Posted<'a> {
    pub method: &'a Method,
    pub path: &'a str,
    /// Path and query as received.
    pub target: &'a str,
    pub headers: &'a HeaderMap,
    pub body: Bytes,
}

impl Receiver {
    pub fn new(
        sources: &Sources,
        store: Arc<dyn Store>,
        clock: Clock,
        metrics: Metrics,
        rate: Rate,
        max_body: usize,
    ) -> Receiver {
        let sources = ArcSwap::from_pointee(doors(sources, rate));
        Receiver {
            sources,
            store,
            clock,
            metrics,
            rate: ArcSwap::from_pointee(rate),
            clients: ArcSwap::from_pointee(Clients::new()),
            fetched: Fetched::default(),
            keys: Keys::default(),
            max_body: AtomicUsize::new(max_body),
            trusted_proxies: ArcSwap::default(),
            keys_shown: ArcSwap::default(),
            rests: AtomicBool::new(false),
            full: ArcSwap::default(),
        }
    }

    /// Believes these proxies when they say for whom they ask.
    pub fn trust(&self, proxies: &[Cidr]) {
        self.trusted_proxies.store(Arc::new(proxies.to_vec()));
    }

    /// Shows this document at [`KEYS_PATH`], or none.
    pub fn show_keys(&self, document: Option<String>) {
        self.keys_shown.store(Arc::new(document.map(Bytes::from)));
    }

    /// The document of public keys, if this is what is asked for and it is shown.
    fn keys_at(&self, method: &Method, path: &str) -> Option<Response<Full<Bytes>>> {
        let document = Option::clone(&self.keys_shown.load()).filter(|_| path == KEYS_PATH && method == Method::GET)?;
        let mut answer = Response::new(Full::new(document));
        answer.headers_mut().insert("content-type", HeaderValue::from_static("application/json"));
        answer.headers_mut().insert("cache-control", HeaderValue::from_static("max-age=300"));
        Some(answer)
    }

    /// Takes what sources go out by: certificates are fetched and subscriptions confirmed. Without it neither is.
    pub fn reach_out(&self, clients: Clients) {
        self.clients.store(Arc::new(clients));
    }

    /// Rests, or goes on: while it rests every genuine sender is asked to come again.
    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// Senders of these sources are asked to come again, for the reasons given; those of all others are heard.
    pub fn rest_sources(&self, full: HashMap<SourceName, String>) {
        self.full.store(Arc::new(full));
    }

    /// Takes new bounds at a reload; the rate holds from the next [`Receiver::replace`] on.
    pub fn bound(&self, rate: Rate, max_body: usize) {
        self.rate.store(Arc::new(rate));
        self.max_body.store(max_body, Ordering::Relaxed);
    }

    /// Takes new sources at a reload.
    pub fn replace(&self, sources: &Sources) {
        self.sources.store(Arc::new(doors(sources, **self.rate.load())));
    }

    /// Answers a request whose body is there whole.
    pub async fn handle(&self, posted: Posted<'_>) -> Response<Full<Bytes>> {
        match self.admit(posted.method, posted.path) {
            Ok(door) => self.take(&door, posted).await,
            Err(refusal) => *refusal,
        }
    }

    /// Judges what a head tells, before any body is read: path, method, rate.
    fn admit(&self, method: &Method, path: &str) -> Result<Arc<Door>, Box<Response<Full<Bytes>>>> {
        let found = path.strip_prefix("/webhooks/").and_then(|name| self.sources.load().get(name).cloned());
        let Some(door) = found else {
            let reason = "no source of this name takes webhooks";
            return Err(Box::new(self.refuse(None, StatusCode::NOT_FOUND, "unknown_source", reason)));
        };
        let name = &door.source.name;
        let webhook = door.source.provider.webhook.as_ref();
        let asks = |webhook: &Webhook| webhook.handshakes.iter().any(|h| h.method == method.as_str());
        if *method != Method::POST && !webhook.is_some_and(asks) {
            let mut answer = self.refuse(Some(name), StatusCode::METHOD_NOT_ALLOWED, "method", "webhooks are posted");
            answer.headers_mut().insert("allow", HeaderValue::from_static("POST"));
            return Err(Box::new(answer));
        }
        if door.rate.as_ref().is_some_and(|rate| rate.check().is_err()) {
            let mut answer = self.refuse(Some(name), StatusCode::TOO_MANY_REQUESTS, "rate", "over `receive.rate`");
            answer.headers_mut().insert("retry-after", HeaderValue::from(1));
            return Err(Box::new(answer));
        }
        if self.rests.load(Ordering::Relaxed) {
            return Err(Box::new(self.trouble(name, "less than `min_free` is left on the disk")));
        }
        if let Some(reason) = self.full.load().get(name) {
            return Err(Box::new(self.trouble(name, reason)));
        }
        Ok(door)
    }

    async fn take(&self, door: &Door, posted: Posted<'_>) -> Response<Full<Bytes>> {
        let (source, name) = (&door.source, &door.source.name);
        let (Some(webhook), Some(spec)) = (&source.webhook, &source.provider.webhook) else {
            return self.refuse(Some(name), StatusCode::NOT_FOUND, "unknown_source", "this source takes no webhooks");
        };
        let (method, target) = (posted.method.to_string(), posted.target.to_owned());
        let mut request = InboundRequest { method, target, headers: pairs(posted.headers), body: posted.body };
        if let Some(challenge) = handshake::find(spec, source, &request, false) {
            return self.shake(challenge, source, &request, webhook.secrets.first()).await;
        }
        let key = match self.verify(source, webhook, &request).await {
            Ok(key) => key,
            Err(refusal) => return *refusal,
        };
        if let Some(challenge) = handshake::find(spec, source, &request, true) {
            return self.shake(challenge, source, &request, webhook.secrets.get(key)).await;
        }
        if *posted.method != Method::POST {
            let reason = "this is no challenge that the provider file knows";
            return self.refuse(Some(name), StatusCode::BAD_REQUEST, "no_challenge", reason);
        }
        let message_id = route::message_id(source, &request);
        if let Some(body) = route::masked_body(source, &request) {
            request.body = body;
        }
        if let Some(scheme) = &webhook.scheme {
            request.headers.retain(|(name, _)| !scheme.is_secret(name));
        }
        let inbound = NewInbound { source: name.clone(), message_id, request: Arc::new(request) };
        match self.store.put_inbound(inbound).await {
            Ok(stored) => {
                let result = match stored {
                    crate::store::InboundStored::New => "accepted",
                    crate::store::InboundStored::Duplicate => "duplicate",
                };
                self.metrics.webhook(Some(name), result);
                accepted(source)
            }
            Err(StoreError::Conflict | StoreError::Stale) => self.trouble(name, "the store was changed in between"),
            Err(StoreError::Busy(reason) | StoreError::Broken(reason)) => self.trouble(name, &reason),
        }
    }

    /// Which of the keys signed a request; the refusal is its whole answer.
    async fn verify(
        &self,
        source: &Source,
        webhook: &SourceWebhook,
        inbound: &InboundRequest,
    ) -> Result<usize, Box<Response<Full<Bytes>>>> {
        let (name, Some(scheme)) = (&source.name, &webhook.scheme) else { return Ok(0) };
        let url = told(webhook.url.as_ref(), &inbound.target);
        let request = Request {
            method: &inbound.method,
            url: url.as_deref(),
            headers: &inbound.headers,
            body: &inbound.body,
            settings: &source.settings,
        };
        let refused = |refusal: &Refusal| {
            Box::new(self.refuse(Some(name), StatusCode::UNAUTHORIZED, refusal.as_str(), &refusal.to_string()))
        };
        let now = self.clock.now();
        let fetches = source.provider.webhook.as_ref().and_then(|spec| {
            let spec = spec.keys.iter().find(|(name, _)| *name == scheme.name)?;
            webhook.public_keys.is_empty().then_some(&spec.1)
        });
        if let Some(spec) = fetches {
            return self.verify_fetched(source, scheme, spec, &request, now).await;
        }
        let wanted = scheme.certificate_url(&request).map_err(|refusal| refused(&refusal))?;
        let fetched = match wanted.filter(|_| !scheme.has_certificate(webhook.keys())) {
            Some(url) => Some(self.certificate(name, webhook, scheme, &url, now).await?),
            None => None,
        };
        match scheme.verify(&request, fetched.as_ref().map_or(webhook.keys(), std::slice::from_ref), now) {
            Ok(verified) => Ok(verified.key),
            // A key of ours that cannot be used is our own trouble: the provider shall come again.
            Err(Refusal::NoKey) => {
                let reason = "the webhook's secret or public key is not of the form that its scheme needs";
                Err(Box::new(self.trouble(name, reason)))
            }
            // Signed rightly, and only out of time by a clock of ours that is not to be trusted (RULES R8.3).
            Err(refusal) if refusal.rests_on_time() && self.clock.is_doubtful() => {
                Err(Box::new(self.trouble(name, &format!("the clock of this machine is in doubt: {refusal}"))))
            }
            Err(refusal) => Err(refused(&refusal)),
        }
    }

    /// Verifies with keys that are fetched. What is known and does not verify is asked for once more.
    async fn verify_fetched(
        &self,
        source: &Source,
        scheme: &Scheme,
        spec: &KeysSpec,
        request: &Request<'_>,
        now: Timestamp,
    ) -> Result<usize, Box<Response<Full<Bytes>>>> {
        let name = &source.name;
        let refused = |refusal: &Refusal| {
            Box::new(self.refuse(Some(name), StatusCode::UNAUTHORIZED, refusal.as_str(), &refusal.to_string()))
        };
        let id = scheme.key_id(request).map_err(|refusal| refused(&refusal))?;
        let client = self.clients.load().get(name).cloned();
        let client = client.ok_or_else(|| Box::new(self.trouble(name, "nothing is fetched here")))?;
        let mut again = false;
        loop {
            let key = match self.keys.of(&*client, source, spec, id.as_deref(), again, now).await {
                Ok(key) => key,
                Err(NoKey::Unknown) => return Err(refused(&Refusal::UnknownKey)),
                Err(NoKey::Trouble(reason)) => {
                    return Err(Box::new(
                        self.trouble(name, &format!("its public key could not be fetched: {reason}")),
                    ));
                }
            };
            match scheme.verify(request, &[key], now) {
                // There is one key to them all, whoever fetched it.
                Ok(_) => return Ok(0),
                // The set may have a new key since it was fetched.
                Err(Refusal::UnknownKey | Refusal::ExpiredKey | Refusal::WrongSignature) if !again => again = true,
                Err(Refusal::NoKey) => {
                    let reason = "what the provider gave as its public key is not of the form that the scheme needs";
                    return Err(Box::new(self.trouble(name, reason)));
                }
                Err(refusal) if refusal.rests_on_time() && self.clock.is_doubtful() => {
                    let reason = format!("the clock of this machine is in doubt: {refusal}");
                    return Err(Box::new(self.trouble(name, &reason)));
                }
                Err(refusal) => return Err(refused(&refusal)),
            }
        }
    }

    /// The certificate at an address, with the roots that the source was given.
    async fn certificate(
        &self,
        name: &SourceName,
        webhook: &SourceWebhook,
        scheme: &Scheme,
        url: &url::Url,
        now: Timestamp,
    ) -> Result<Secret, Box<Response<Full<Bytes>>>> {
        let client = self.clients.load().get(name).cloned();
        let found = match client {
            Some(client) => {
                let fits = |text: &Secret| scheme.has_certificate(std::slice::from_ref(text));
                self.fetched.text(&*client, name, url, fits, now).await
            }
            None => Err("nothing is fetched here".into()),
        };
        let certificate = found
            .map_err(|error| Box::new(self.trouble(name, &format!("its certificate could not be fetched: {error}"))))?;
        let texts = std::iter::once(&certificate).chain(&webhook.public_keys).map(Secret::expose);
        Ok(Secret::new(texts.collect::<Vec<_>>().join("\n")))
    }

    /// Answers a challenge.
    async fn shake(
        &self,
        handshake: &Handshake,
        source: &Source,
        request: &InboundRequest,
        secret: Option<&Secret>,
    ) -> Response<Full<Bytes>> {
        let name = &source.name;
        let (url, answer) = match handshake::judge(handshake, source, request, secret) {
            Ok(Challenge::Answer(answer)) => (None, answer),
            Ok(Challenge::Confirm(url, answer)) => (Some(url), answer),
            Ok(Challenge::Refuse(status)) => {
                return self.refuse(Some(name), status, "challenge_refused", "a challenge that was not wanted");
            }
            Err(reason) => return self.refuse(Some(name), StatusCode::BAD_REQUEST, "challenge_refused", &reason),
        };
        if let Some(url) = url {
            let client = self.clients.load().get(name).cloned();
            let Some(client) = client else { return self.trouble(name, "nothing is called from here") };
            if let Err(error) = fetched::call(&*client, &url).await {
                return self.trouble(name, &format!("the confirmation could not be called: {error}"));
            }
        }
        self.metrics.webhook(Some(name), "challenge");
        info!(source.name = %name, "a challenge of the provider was answered");
        answer
    }

    /// A refusal: counted, logged with its plain reason, never with body or secret.
    fn refuse(
        &self,
        source: Option<&SourceName>,
        status: StatusCode,
        word: &'static str,
        reason: &str,
    ) -> Response<Full<Bytes>> {
        self.metrics.webhook(source, word);
        let name = source.map(SourceName::as_str).unwrap_or_default();
        warn!(source.name = name, status = status.as_u16(), "webhook refused: {reason}");
        plain(status, reason)
    }

    fn trouble(&self, source: &SourceName, reason: &str) -> Response<Full<Bytes>> {
        self.metrics.webhook(Some(source), "trouble");
        warn!(source.name = %source, "a webhook could not be taken: {reason}");
        let mut answer = plain(StatusCode::SERVICE_UNAVAILABLE, "not now, please come again");
        answer.headers_mut().insert("retry-after", HeaderValue::from(COME_AGAIN));
        answer
    }
}

fn doors(sources: &Sources, rate: Rate) -> Doors {
    let open = sources.values().filter(|source| source.webhook.is_some() && source.config.enabled);
    open.map(|source| (source.name.clone(), Arc::new(Door { source: source.clone(), rate: limiter(rate) }))).collect()
}

fn limiter(rate: Rate) -> Option<DefaultDirectRateLimiter> {
    let quota = Quota::with_period(rate.per.checked_div(rate.count)?)?;
    Some(governor::RateLimiter::direct(quota.allow_burst(std::num::NonZeroU32::new(rate.count)?)))
}

/// Header names in lower case with their values; a value that is no text is kept as far as it is.
fn pairs(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(n, v)| (n.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned())).collect()
}

/// The address that the provider called: what it was told, with the query that arrived.
fn told(url: Option<&url::Url>, target: &str) -> Option<String> {
    let told = url?.as_str().split('#').next().unwrap_or_default();
    Some(match target.split_once('?') {
        // A parser would write some characters otherwise, and the provider has signed what it sent.
        Some((_, query)) => format!("{}?{query}", told.split('?').next().unwrap_or_default()),
        None => told.to_owned(),
    })
}

/// What the provider wants to hear.
fn accepted(source: &Source) -> Response<Full<Bytes>> {
    let Some(webhook) = &source.provider.webhook else { return plain(StatusCode::OK, "") };
    let mut response = Response::builder().status(webhook.answer.status);
    for (name, value) in &webhook.answer.headers {
        response = response.header(name, value);
    }
    response.body(Full::new(Bytes::from(webhook.answer.body.clone()))).unwrap_or_else(|_| plain(StatusCode::OK, ""))
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert("content-type", HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

/// How long a stop waits for requests under way.
pub const STOP_GRACE: Duration = Duration::from_secs(10);
