//! The demo's provider: a made-up bank with a payments API, no webhooks, and something new every second or two.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;
use serde_json::json;

use crate::model::Timestamp;

/// A payment as the API shows it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    id: String,
    account: String,
    amount: String,
    currency: &'static str,
    status: &'static str,
    created_at: String,
    updated_at: String,
}

/// A change that the bank made after the daemon's first look: each one must arrive exactly once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    pub key: String,
    pub updated_at: String,
    pub event_type: &'static str,
}

/// The bank. Cheap to clone.
#[derive(Clone)]
pub struct Bank(Arc<Mutex<Books>>);

struct Books {
    payments: BTreeMap<String, (Payment, Instant)>,
    made: Vec<Made>,
    polls: u64,
    dice: u64,
    clock: Timestamp,
    started: Instant,
}

/// A payment that changed is left alone for this long, so that two changes are never one look apart.
const REST: Duration = Duration::from_secs(4);
pub const USER: &str = "ringback";
pub const PASSWORD: &str = "demo-password";

impl Bank {
    /// A bank with some payments from before; `seed` decides what happens.
    pub fn new(seed: u64, now: Timestamp) -> Bank {
        let books = Books {
            payments: BTreeMap::new(),
            made: Vec::new(),
            polls: 0,
            dice: seed | 1,
            clock: now,
            started: Instant::now(),
        };
        let bank = Bank(Arc::new(Mutex::new(books)));
        for _ in 0..25 {
            bank.books().create("PENDING");
        }
        bank.books().made.clear();
        bank
    }

    fn books(&self) -> std::sync::MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one change: a new payment, or one that is settled or corrected.
    pub fn change(&self) -> Made {
        self.books().change()
    }

    pub fn made(&self) -> Vec<Made> {
        self.books().made.clone()
    }

    /// How often the listing was asked for.
    pub fn polls(&self) -> u64 {
        self.books().polls
    }

    pub fn router(self) -> Router {
        Router::new().route("/api/v2/payments", get(list)).with_state(self)
    }
}

impl Books {
    /// A small generator is enough: the demo needs variety, not secrecy.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % sides
    }

    /// The bank's own time, never twice the same millisecond.
    fn tick(&mut self) -> String {
        let wall =
            Timestamp(self.clock.0.max(self.clock.0 + i64::try_from(self.started.elapsed().as_millis()).unwrap_or(0)));
        self.clock = Timestamp(self.clock.0 + 1).max(wall);
        self.started = Instant::now();
        self.clock.to_utc().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
    }

    fn create(&mut self, status: &'static str) -> Made {
        let number = self.payments.len() + 1;
        let (id, at) = (format!("P-{number:03}"), self.tick());
        let payment = Payment {
            id: id.clone(),
            account: format!("UA{:02}", self.roll(5)),
            amount: format!("{}.{:02}", 10 + self.roll(90_000), self.roll(100)),
            currency: "UAH",
            status,
            created_at: at.clone(),
            updated_at: at.clone(),
        };
        self.payments.insert(id.clone(), (payment, Instant::now()));
        self.note(id, at, "payment.created")
    }

    fn change(&mut self) -> Made {
        let rested: Vec<String> = self
            .payments
            .iter()
            .filter(|(_, (payment, at))| at.elapsed() > REST && payment.status != "SETTLED")
            .map(|(id, _)| id.clone())
            .collect();
        if rested.is_empty() || self.roll(3) == 0 {
            return self.create("PENDING");
        }
        let pick = self.roll(rested.len() as u64) as usize;
        let (id, at, settles) = (rested[pick].clone(), self.tick(), self.roll(3) > 0);
        let amount = format!("{}.{:02}", 10 + self.roll(90_000), self.roll(100));
        let Some((payment, changed)) = self.payments.get_mut(&id) else { return self.create("PENDING") };
        (payment.updated_at, *changed) = (at.clone(), Instant::now());
        if settles {
            payment.status = "SETTLED";
        } else {
            payment.amount = amount;
        }
        self.note(id, at, if settles { "payment.settled" } else { "payment.updated" })
    }

    fn note(&mut self, key: String, updated_at: String, event_type: &'static str) -> Made {
        let made = Made { key, updated_at, event_type };
        self.made.push(made.clone());
        made
    }
}

async fn list(State(bank): State<Bank>, headers: HeaderMap, Query(query): Query<BTreeMap<String, String>>) -> Response {
    use base64::Engine as _;
    let expected = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
    let given = headers.get("authorization").and_then(|v| v.to_str().ok()).and_then(|v| v.strip_prefix("Basic "));
    if given != Some(expected.as_str()) {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "who are you?" }))).into_response();
    }
    let number = |name: &str, default: usize| query.get(name).and_then(|v| v.parse().ok()).unwrap_or(default);
    let (page, size) = (number("page", 1).max(1), number("pageSize", 50).clamp(1, 50));
    let since = query.get("updatedSince").cloned().unwrap_or_default();
    let mut books = bank.books();
    books.polls += 1;
    let mut found: Vec<&Payment> =
        books.payments.values().map(|(payment, _)| payment).filter(|p| p.updated_at >= since).collect();
    found.sort_by(|a, b| (&a.updated_at, &a.id).cmp(&(&b.updated_at, &b.id)));
    let shown: Vec<&Payment> = found.iter().skip((page - 1) * size).take(size).copied().collect();
    Json(json!({ "total": found.len(), "data": shown })).into_response()
}
