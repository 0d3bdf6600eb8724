//! How the made-up provider answers: pages of a listing as it is at that moment, and the trouble it has.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::DateTime;
use http::{HeaderMap, HeaderValue};
use sha2::Digest as _;

use super::dice::Dice;
use super::provider::{Model, State};
use super::shapes::{Gone, Order, PARENTS};
use crate::client::{Incoming, Outgoing, SendError};

/// An answer, and how long it takes.
pub struct Reply {
    pub after: i64,
    pub answer: Result<Incoming, SendError>,
    pub said: String,
}

/// What the provider may do at a request.
#[derive(Clone, Copy)]
struct Asked {
    now: i64,
    first: bool,
    /// An empty answer may be a lie that the daemon can see through: not of a slice or of one parent, which may well be empty.
    whole: bool,
}

/// A page, and which states of which records it shows.
struct Page {
    body: String,
    shown: Vec<(String, usize)>,
    /// The address of the next one.
    next: Option<String>,
    /// It reaches the listing's total.
    ended: bool,
}

impl Model {
    /// Answers a request.
    pub fn answer(&mut self, request: &Outgoing, now: i64, calm: bool, dice: &mut Dice) -> Reply {
        let url = &request.url;
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let parent = url.path().split('/').nth(2);
        let first = !query.contains_key("after")
            && query.get("offset").is_none_or(|offset| offset == "0")
            && query.get("page").is_none_or(|page| *page == self.shape.first_page().to_string());
        let whole = parent.is_none() && !query.contains_key("until");
        let asked = Asked { now, first, whole };
        // Numbered pages are stepped by the cursor within a run, so that there a run's first request is not to be told.
        if asked.first
            && !query.contains_key("limit")
            && !self.shape.looks_back
            && let Some(from) = query.get("since").and_then(|since| self.from(since))
        {
            let before = self.asked_from.insert(parent.unwrap_or_default().to_owned(), from);
            if before.is_some_and(|before| from < before) {
                self.fault = Some(format!("the mark went back: asked from {from} after {before:?}"));
            }
        }
        let after = dice.between(1, 400);
        if !calm && let Some(reply) = self.trouble(asked, dice) {
            return reply;
        }
        let tag = self.tag(now);
        if request.headers.get(http::header::IF_NONE_MATCH).is_some_and(|known| *known == tag) {
            self.looks += u32::from(calm);
            return Reply { after, answer: Ok(incoming(304, self.headers(now), String::new())), said: "304".into() };
        }
        let Page { body, shown, next, ended } = self.page(&query, parent, asked, calm, dice);
        let ended = match query.get("until") {
            // Numbered pages end with an empty one; their first may come many times in a run.
            _ if query.contains_key("limit") => shown.is_empty() || ended,
            // The last slice is the one that reaches the present.
            Some(until) => next.is_none() && self.from(until).is_some_and(|until| until > now + self.skew - 10_000),
            None => next.is_none(),
        };
        // A round is over with its last parent.
        let ended = ended && parent.is_none_or(|parent| PARENTS.last() == Some(&parent));
        if calm && ended {
            self.looks += 1;
        }
        let truncated = !calm && dice.chance(15);
        let body = if truncated { body[..body.len() - 1 - dice.below(body.len() - 1)].to_owned() } else { body };
        if !truncated {
            for (key, at) in &shown {
                self.records.get_mut(key).expect("it was listed")[*at].served.get_or_insert(now);
            }
        }
        let said = format!("{url} -> {} records{}", shown.len(), if truncated { ", cut off" } else { "" });
        let mut headers = self.headers(now);
        let link = next.and_then(|next| HeaderValue::from_str(&format!("<{next}>; rel=\"next\"")).ok());
        headers.extend(link.map(|link| (http::header::LINK, link)));
        headers.extend(self.shape.tagged.then_some((http::header::ETAG, tag)));
        Reply { after, answer: Ok(incoming(200, headers, body)), said }
    }

    /// What stands for the whole listing.
    fn tag(&self, now: i64) -> HeaderValue {
        let shown: Vec<_> = self.listing(now).iter().map(|(key, _, state)| (*key, state.content)).collect();
        let text = format!("\"{}\"", hex::encode(sha2::Sha256::digest(format!("{shown:?}"))));
        HeaderValue::from_str(&text).expect("hexadecimal digits are a header")
    }

    fn headers(&self, now: i64) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let date =
            DateTime::from_timestamp_millis(now + self.skew).map(|time| time.format("%a, %d %b %Y %H:%M:%S GMT"));
        let value = date.and_then(|date| HeaderValue::from_str(&date.to_string()).ok());
        headers.extend(value.map(|value| (http::header::DATE, value)));
        headers
    }

    /// Outages and wrong answers.
    fn trouble(&mut self, asked: Asked, dice: &mut Dice) -> Option<Reply> {
        let now = asked.now;
        let reply = |said: &str, answer| Some(Reply { after: 5, answer, said: said.to_owned() });
        let status = |status: u16, headers: HeaderMap, body: &str| Ok(incoming(status, headers, body.to_owned()));
        if now < self.down_until {
            return reply("down", Err(SendError::Unreachable("api.invalid:80 cannot be reached".into())));
        }
        match dice.below(1000) {
            0..10 => {
                self.down_until = now + dice.between(1_000, 30_000);
                reply("503", status(503, HeaderMap::new(), ""))
            }
            10..25 => reply("500", status(500, HeaderMap::new(), "{\"error\":1}")),
            25..35 => {
                let mut headers = HeaderMap::new();
                headers.insert(http::header::RETRY_AFTER, HeaderValue::from(dice.between(1, 8)));
                reply("429", status(429, headers, ""))
            }
            35..45 => Some(Reply {
                after: 30_000,
                answer: Err(SendError::Timeout("no whole answer within 30s".into())),
                said: "no answer".into(),
            }),
            45..55 => reply("broken off", Err(SendError::Broken("the exchange broke off".into()))),
            55..65 => reply("HTML", status(200, self.headers(now), "<html><body>Please log in</body></html>")),
            // A document is whatever the answer is.
            65..75 if !self.shape.document => {
                reply("an error object", status(200, self.headers(now), "{\"error\":\"try later\"}"))
            }
            // Only where something was known before, and only as a whole listing: of a page in the middle nobody could tell.
            75..80 => reply("401", status(401, HeaderMap::new(), "")),
            80..95 if asked.first && asked.whole && self.known && !self.shape.document => {
                reply("an empty list", status(200, self.headers(now), "{\"items\":[],\"next\":null}"))
            }
            _ => None,
        }
    }

    /// What the listing's filter says.
    fn from(&self, since: &str) -> Option<i64> {
        match self.shape.order {
            Order::Log => since.parse().ok(),
            _ => DateTime::parse_from_rfc3339(since).ok().map(|time| time.timestamp_millis()),
        }
    }

    /// The listing as it is at this moment.
    fn listing(&self, now: i64) -> Vec<(&String, usize, &State)> {
        let mut listed = Vec::new();
        for (key, states) in &self.records {
            let Some(at) = states.iter().rposition(|state| state.shown <= now) else { continue };
            if states[at].content.is_some() || self.shape.gone == Gone::Flagged {
                listed.push((key, at, &states[at]));
            }
        }
        match self.shape.order {
            Order::ById | Order::Log => {}
            Order::Rising => listed.sort_by(|a, b| (a.2.stamp, a.0).cmp(&(b.2.stamp, b.0))),
            Order::Falling => listed.sort_by(|a, b| (b.2.stamp, b.0).cmp(&(a.2.stamp, a.0))),
        }
        listed
    }

    fn page(
        &self,
        query: &BTreeMap<String, String>,
        parent: Option<&str>,
        asked: Asked,
        calm: bool,
        dice: &mut Dice,
    ) -> Page {
        let mut listed = self.listing(asked.now);
        if let Some(parent) = parent {
            listed.retain(|(key, ..)| self.shape.parent_of(key) == parent);
        }
        if self.shape.document {
            let (key, at, state) = listed[0];
            let body = self.record(key, state, dice, true);
            return Page { body, shown: vec![(key.clone(), at)], next: None, ended: true };
        }
        if let Some(since) = query.get("since") {
            let log = self.shape.order == Order::Log;
            let from = self.from(since);
            // The filter includes its bound.
            listed.retain(|(_, _, state)| {
                from.is_none_or(|from| if log { state.rev as i64 >= from } else { state.stamp >= from })
            });
        }
        let bound = |name: &str| query.get(name).and_then(|text| self.from(text));
        if let (Some(from), Some(until)) = (bound("from"), bound("until")) {
            listed.retain(|(_, _, state)| (from..until).contains(&state.stamp));
        }
        if let Some(cap) = self.shape.cap {
            listed.truncate(cap);
        }
        if let Some(after) = query.get("after") {
            // Keyset: a page begins behind the last record of the one before, wherever that now stands.
            let (stamp, id) = after.split_once('~').map_or((0, after.as_str()), |(s, id)| (s.parse().unwrap_or(0), id));
            listed.retain(|(key, _, state)| match self.shape.order {
                Order::ById | Order::Log => key.as_str() > id,
                Order::Rising => (state.stamp, key.as_str()) > (stamp, id),
                Order::Falling => (state.stamp, key.as_str()) < (stamp, id),
            });
        }
        let total = listed.len();
        let limit: Option<usize> = query.get("limit").and_then(|limit| limit.parse().ok());
        let numbered = query.get("page").and_then(|page| page.parse::<usize>().ok());
        // A page is counted by the size asked for, whatever size it then has.
        let before = numbered.map(|page| (page - self.shape.first_page()) * limit.unwrap_or(1));
        if let Some(before) = before.or_else(|| query.get("offset").and_then(|offset| offset.parse().ok())) {
            listed.drain(..before.min(listed.len()));
        }
        let size = match limit {
            // The size asked for; now and then the provider gives less without a word.
            Some(limit) if !calm && numbered.is_none() && dice.chance(300) => self.page.min(limit),
            Some(limit) => limit,
            None if self.shape.paged => self.page,
            None => usize::MAX,
        };
        let more = listed.len() > size;
        let ended = !more && self.shape.gone == Gone::Absent;
        listed.truncate(size);
        let token = listed.last().filter(|_| more).map(|(key, _, state)| match self.shape.order {
            Order::ById | Order::Log => (*key).clone(),
            Order::Rising | Order::Falling => format!("{}~{key}", state.stamp),
        });
        let items: Vec<String> = listed.iter().map(|(key, _, state)| self.record(key, state, dice, true)).collect();
        let next = token.as_ref().map_or("null".to_owned(), |token| format!("\"{token}\""));
        let since = query.get("since").map(|since| format!("since={}&", since.replace('+', "%2B"))).unwrap_or_default();
        let address = token.map(|token| format!("http://api.invalid/{}?{since}after={token}", self.shape.name));
        let url = address.as_ref().map_or("null".to_owned(), |address| format!("\"{address}\""));
        let body = format!(r#"{{"items":[{}],"next":{next},"next_url":{url},"total":{total}}}"#, items.join(","));
        Page { body, shown: listed.iter().map(|(key, at, _)| ((*key).clone(), *at)).collect(), next: address, ended }
    }
}

fn incoming(status: u16, headers: HeaderMap, body: String) -> Incoming {
    Incoming { status, headers, body: Bytes::from(body) }
}
