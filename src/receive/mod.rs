//! The way in for real webhooks: `POST /webhooks/<source>` and nothing else. Cap, verify, store, answer; what a webhook means is
//! found out later, by the inbox.
//!
//! A 2xx says: stored on disk. Our own trouble is 503 and never 4xx, so that no provider drops what we could not take.

mod handshake;
pub mod inbox;
mod listen;
mod route;
mod timed;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use governor::{DefaultDirectRateLimiter, Quota};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use tracing::warn;

use crate::clock::Clock;
use crate::config::Rate;
use crate::metrics::Metrics;
use crate::model::SourceName;
use crate::signature::{Refusal, Request};
use crate::source::{Source, Sources};
use crate::store::{InboundRequest, NewInbound, Store, StoreError};

pub use listen::{Limits, serve_tcp, serve_unix};
pub use route::{masked_body, message_id};

/// Asked of a provider to come again when we are in trouble, in seconds.
const COME_AGAIN: u64 = 30;

/// Takes real webhooks.
pub struct Receiver {
    sources: ArcSwap<Doors>,
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Metrics,
    rate: Rate,
    /// Bytes of a body.
    pub max_body: usize,
    /// Nothing is taken in for the time being (no room on the disk).
    rests: AtomicBool,
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
        Receiver { sources, store, clock, metrics, rate, max_body, rests: AtomicBool::new(false) }
    }

    /// Rests, or goes on: while it rests every genuine sender is asked to come again.
    pub fn rest(&self, rests: bool) {
        self.rests.store(rests, Ordering::Relaxed);
    }

    /// Takes new sources at a reload.
    pub fn replace(&self, sources: &Sources) {
        self.sources.store(Arc::new(doors(sources, self.rate)));
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
        if *method != Method::POST {
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
        Ok(door)
    }

    async fn take(&self, door: &Door, posted: Posted<'_>) -> Response<Full<Bytes>> {
        let (source, name) = (&door.source, &door.source.name);
        let Some(webhook) = &source.webhook else {
            return self.refuse(Some(name), StatusCode::NOT_FOUND, "unknown_source", "this source takes no webhooks");
        };
        let headers = pairs(posted.headers);
        let url = told(webhook.url.as_ref(), posted.target);
        let request = Request {
            method: posted.method.as_str(),
            url: url.as_ref(),
            headers: &headers,
            body: &posted.body,
            settings: &source.settings,
        };
        if let Some(scheme) = &webhook.scheme {
            match scheme.verify(&request, &webhook.secrets, self.clock.now()) {
                Ok(_) => {}
                // A key of ours that cannot be used is our own trouble: the provider shall come again.
                Err(Refusal::NoKey) => {
                    return self.trouble(name, "the webhook's secret is not of the form that its scheme needs");
                }
                Err(refusal) => {
                    return self.refuse(Some(name), StatusCode::UNAUTHORIZED, refusal.as_str(), &refusal.to_string());
                }
            }
        }
        if let Some(answer) = handshake::answer(source, &request) {
            return answer;
        }
        let (method, target) = (posted.method.to_string(), posted.target.to_owned());
        let mut request = InboundRequest { method, target, headers, body: posted.body };
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
fn told(url: Option<&url::Url>, target: &str) -> Option<url::Url> {
    let mut url = url?.clone();
    if let Some((_, query)) = target.split_once('?') {
        url.set_query(Some(query));
    }
    Some(url)
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
