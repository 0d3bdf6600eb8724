//! The demo's handler: checks every signature by its own few lines, refuses now and then on purpose, and keeps count.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use base64::Engine as _;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::bank::Made;

/// Every so many accepted events one is refused first.
const REFUSE_EVERY: u64 = 4;

/// The receiver. Cheap to clone.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

/// Prints a word and a line.
type Say = Box<dyn Fn(&str, &str) + Send + Sync>;

struct Inner {
    key: Vec<u8>,
    say: Say,
    tally: Mutex<Tally>,
}

/// What arrived.
#[derive(Clone, Default)]
pub struct Tally {
    /// Accepted, by event id: what it was, how often.
    pub accepted: BTreeMap<String, (Made, u64)>,
    pub requests: u64,
    pub refused: BTreeMap<String, u64>,
    pub bad_signatures: u64,
    pub out_of_order: u64,
    pub last: Option<Instant>,
    revisions: BTreeMap<String, u64>,
}

impl Receiver {
    /// `secret` is the handler's `whsec_` secret; `say` prints a word and a line.
    pub fn new(secret: &str, say: impl Fn(&str, &str) + Send + Sync + 'static) -> Option<Receiver> {
        let key = base64::engine::general_purpose::STANDARD.decode(secret.strip_prefix("whsec_")?).ok()?;
        Some(Receiver(Arc::new(Inner { key, say: Box::new(say), tally: Mutex::default() })))
    }

    pub fn tally(&self) -> Tally {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.0.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn router(self) -> Router {
        Router::new().route("/hooks", post(take)).with_state(self)
    }

    fn signed(&self, id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> bool {
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(&self.0.key) else { return false };
        let mac = [id.as_bytes(), b".", timestamp.as_bytes(), b".", body].iter().fold(mac, |mut mac, part| {
            mac.update(part);
            mac
        });
        let offered = signatures.split(' ').filter_map(|s| s.strip_prefix("v1,"));
        offered
            .filter_map(|s| base64::engine::general_purpose::STANDARD.decode(s).ok())
            .any(|bytes| mac.clone().verify_slice(&bytes).is_ok())
    }
}

async fn take(State(receiver): State<Receiver>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    if !receiver.signed(id, timestamp, header("webhook-signature"), &body) {
        receiver.lock().bad_signatures += 1;
        (receiver.0.say)("BAD", "a request with a wrong signature");
        return StatusCode::UNAUTHORIZED;
    }
    let Ok(event) = serde_json::from_slice::<serde_json::Value>(&body) else { return StatusCode::BAD_REQUEST };
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let (key, event_type) = (text(&event["key"]), text(&event["type"]));
    let what = format!("{event_type:<16} {key}");
    let mut tally = receiver.lock();
    tally.requests += 1;
    let tries = tally.refused.get(id).copied().unwrap_or(0);
    if tries == 0 && tally.accepted.len() as u64 % REFUSE_EVERY == REFUSE_EVERY - 1 && !tally.accepted.contains_key(id)
    {
        tally.refused.insert(id.to_owned(), 1);
        drop(tally);
        (receiver.0.say)("refused", &format!("{what}   503 (on purpose), again in a second"));
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let known = ["payment.created", "payment.updated", "payment.settled"];
    let event_type = known.into_iter().find(|known| *known == event_type).unwrap_or("?");
    let made = Made { key: key.clone(), updated_at: text(&event["data"]["updatedAt"]), event_type };
    let revision = event["revision"].as_u64().unwrap_or(0);
    let first = !tally.accepted.contains_key(id);
    tally.accepted.entry(id.to_owned()).or_insert((made, 0)).1 += 1;
    let before = tally.revisions.insert(key, revision).unwrap_or(0);
    if first && revision <= before {
        tally.out_of_order += 1;
    }
    tally.last = Some(Instant::now());
    drop(tally);
    let attempt = if tries > 0 { format!(", attempt {}", tries + 1) } else { String::new() };
    let change = match (event["previous"]["status"].as_str(), event["data"]["status"].as_str()) {
        (Some(old), Some(new)) => format!("   {old} -> {new}"),
        _ => String::new(),
    };
    (receiver.0.say)("sent", &format!("{what}   200, signature valid{attempt}{change}"));
    StatusCode::OK
}
