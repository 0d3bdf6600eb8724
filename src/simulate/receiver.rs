//! A made-up handler: it refuses now and then, and sometimes accepts without its answer getting through. What it got is what the
//! oracle judges; what can be seen wrong at once is said at once.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use http::HeaderMap;
use serde::Deserialize;

use super::dice::Dice;
use crate::client::{Incoming, Outgoing, SendError};

/// Counted refusals of one event at most: fewer than the handler's retries, so that nothing is ever given up.
const REFUSALS: u32 = 6;

/// An event as it was accepted for the first time.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub id: String,
    pub kind: Kind,
    /// What the record then was; None: it was deleted.
    pub content: Option<u64>,
    pub revision: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Created,
    Updated,
    Deleted,
}

/// What a handler remembers.
#[derive(Default)]
pub struct Receiver {
    seen: HashMap<String, Seen>,
    /// Accepted events by (source, key), in the order of acceptance.
    pub arrived: BTreeMap<(String, String), Vec<Arrival>>,
    /// The event of each (source, key) that was tried and not yet accepted.
    open: HashMap<(String, String), String>,
    pub accepted: u64,
}

struct Seen {
    body: Bytes,
    accepted: bool,
    refusals: u32,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "type")]
    event_type: String,
    source: String,
    key: String,
    revision: u64,
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    content: Option<u64>,
}

/// What the handler does with an attempt.
pub struct Taken {
    pub answer: Result<Incoming, SendError>,
    pub after: i64,
    pub said: String,
}

impl Receiver {
    /// Takes an attempt. Err: it breaks a promise that can be seen from here.
    pub fn take(&mut self, request: &Outgoing, calm: bool, dice: &mut Dice) -> Result<Taken, String> {
        let id = request.headers.get("webhook-id").and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned();
        let body: Body = serde_json::from_slice(&request.body).map_err(|error| format!("unreadable body: {error}"))?;
        let place = (body.source.clone(), body.key.clone());
        let what = format!("{}/{} rev {} {id}", body.source, body.key, body.revision);
        let seen = self.seen.entry(id.clone()).or_insert_with(|| Seen {
            body: request.body.clone(),
            accepted: false,
            refusals: 0,
        });
        if seen.body != request.body {
            return Err(format!("id used again for other content: {what}"));
        }
        if !seen.accepted
            && let Some(other) = self.open.get(&place).filter(|other| **other != id)
        {
            return Err(format!("order: {what} is sent while {other} of the same key is not yet accepted"));
        }
        let fate = if calm { 1000 } else { dice.below(1000) };
        let refused = |status: u16| Ok(Incoming { status, headers: HeaderMap::new(), body: Bytes::new() });
        let (answer, accept) = match fate {
            0..30 if seen.refusals < REFUSALS => {
                seen.refusals += 1;
                (refused(500), false)
            }
            30..45 => (refused(503), false),
            45..55 => (Err(SendError::Unreachable("ledger.invalid:80 cannot be reached".into())), false),
            55..80 if seen.refusals < REFUSALS => {
                seen.refusals += 1;
                (Err(SendError::Timeout("no whole answer within 10s".into())), true)
            }
            80..95 if seen.refusals < REFUSALS => {
                seen.refusals += 1;
                (Err(SendError::Broken("the exchange broke off".into())), true)
            }
            _ => (refused(204), true),
        };
        let said = match &answer {
            Ok(answer) => format!("{what} -> {}", answer.status),
            Err(error) => format!("{what} -> {error}{}", if accept { ", but accepted" } else { "" }),
        };
        if !accept && !seen.accepted {
            self.open.insert(place, id);
        } else if !seen.accepted {
            seen.accepted = true;
            self.open.remove(&place);
            self.arrive(id, body)?;
        }
        Ok(Taken {
            after: if matches!(answer, Err(SendError::Timeout(_))) { 10_000 } else { dice.between(0, 60) },
            answer,
            said,
        })
    }

    fn arrive(&mut self, id: String, body: Body) -> Result<(), String> {
        let kind = match body.event_type.rsplit('.').next() {
            Some("created") => Kind::Created,
            Some("updated") => Kind::Updated,
            Some("deleted") => Kind::Deleted,
            _ => return Err(format!("unknown type {}", body.event_type)),
        };
        let content = if kind == Kind::Deleted { None } else { body.data.content };
        let what = format!("{}/{} {kind:?} rev {} {id}", body.source, body.key, body.revision);
        let arrived = self.arrived.entry((body.source, body.key)).or_default();
        if let Some(last) = arrived.last() {
            if last.revision >= body.revision {
                return Err(format!("order: {what} came after rev {}", last.revision));
            }
            let follows = match last.kind {
                Kind::Deleted => kind == Kind::Created,
                Kind::Created | Kind::Updated => kind != Kind::Created,
            };
            if !follows {
                return Err(format!("kind: {what} came after {:?}", last.kind));
            }
        }
        arrived.push(Arrival { id, kind, content, revision: body.revision });
        self.accepted += 1;
        Ok(())
    }
}
