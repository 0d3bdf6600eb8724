//! A made-up provider: records with their whole history, the listings it gives of them, and how it misbehaves.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use chrono::DateTime;
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::dice::Dice;
use super::shapes::{Gone, Order, Shape};
use crate::client::{Incoming, SendError};

/// What a record was from one moment to the next. Content alone counts: `rev` and `stamp` are ignored by every simulated file.
#[derive(Clone, Debug)]
pub struct State {
    /// None: there was no such record.
    pub content: Option<u64>,
    pub rev: u64,
    /// The provider's time of the change.
    pub stamp: i64,
    pub created: i64,
    /// When it came to be, on our clock; in listings it shows from `shown` on.
    pub at: i64,
    pub shown: i64,
    /// When a page of a listing first showed it.
    pub served: Option<i64>,
}

/// A stream of the provider.
pub struct Model {
    pub shape: &'static Shape,
    /// Every state that each key was ever in, oldest first.
    pub records: BTreeMap<String, Vec<State>>,
    /// The provider's clock less ours.
    skew: i64,
    page: usize,
    made: u64,
    contents: u64,
    down_until: i64,
    /// Good first pages since the provider last became calm.
    pub looks: u32,
    /// Whether the daemon has had one complete look: only then may an empty answer be told from an empty provider.
    pub known: bool,
    /// From where the daemon last asked; it must never go back.
    asked_from: Option<i64>,
    /// A promise that was broken towards the provider.
    pub fault: Option<String>,
    /// Real webhooks to send.
    pub posts: Vec<Post>,
}

/// A real webhook on its way.
#[derive(Clone, Debug)]
pub struct Post {
    pub due: i64,
    pub message: String,
    pub key: String,
    pub body: Bytes,
    pub deletion: bool,
    /// On its way at this moment.
    pub sent: bool,
}

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
}

impl Model {
    pub fn new(shape: &'static Shape, dice: &mut Dice, now: i64) -> Model {
        let skews = [0, 0, 0, -700, 1_300, 45_000, -45_000, 400_000, -400_000];
        let mut model = Model {
            shape,
            records: BTreeMap::new(),
            skew: skews[dice.below(skews.len())],
            page: 1 + dice.below(4),
            made: 0,
            contents: 0,
            down_until: 0,
            looks: 0,
            known: false,
            asked_from: None,
            fault: None,
            posts: Vec::new(),
        };
        let first = if shape.document { 1 } else { dice.below(8) };
        for n in 0..first {
            model.create(now - 1 - (first - n) as i64 * dice.between(1, 900), dice);
        }
        if shape.gone == Gone::Absent {
            // Never deleted: a listing that loses all it had is held for a person, and nothing would be told.
            model.create(now - 1, dice);
        }
        for states in model.records.values_mut() {
            states.iter_mut().for_each(|state| state.shown = state.at);
        }
        model.posts.clear();
        model
    }

    fn anchor(&self) -> Option<&String> {
        (self.shape.gone == Gone::Absent).then(|| self.records.keys().next()).flatten()
    }

    fn stamp(&self, now: i64) -> i64 {
        let time = now + self.skew;
        time - time.rem_euclid(self.shape.tick)
    }

    fn fresh(&mut self) -> u64 {
        self.contents += 1;
        self.contents
    }

    fn create(&mut self, now: i64, dice: &mut Dice) -> String {
        self.made += 1;
        // Keys come in no order, except where the number is the key.
        let key = match self.shape.order {
            Order::Log => format!("{:06}", self.made),
            _ => format!("k{}-{}", dice.below(10), self.made),
        };
        let (content, stamp) = (self.fresh(), self.stamp(now));
        let state = State {
            content: Some(content),
            rev: if self.shape.order == Order::Log { self.made } else { 1 },
            stamp,
            created: stamp,
            at: now,
            shown: self.shown(now, dice),
            served: None,
        };
        self.records.insert(key.clone(), vec![state]);
        self.post(&key, now, dice);
        key
    }

    fn shown(&self, now: i64, dice: &mut Dice) -> i64 {
        if self.shape.lag > 0 && dice.chance(400) { now + dice.between(0, self.shape.lag) } else { now }
    }

    /// Something happens at the provider. Says what.
    pub fn change(&mut self, now: i64, dice: &mut Dice) -> String {
        let keys: Vec<String> = self.records.keys().cloned().collect();
        let any = (!keys.is_empty()).then(|| keys[dice.below(keys.len())].clone());
        let Some(key) = any.filter(|_| self.shape.document || !dice.chance(250)) else {
            let key = if self.shape.document { String::new() } else { self.create(now, dice) };
            return format!("create {key} {:?}", self.records.get(&key).and_then(|states| states[0].content));
        };
        if self.shape.order == Order::Log {
            return format!("create {} in the log", self.create(now, dice));
        }
        let last = self.records[&key].last().expect("every record has a state").clone();
        let gone = last.content.is_none();
        let may_go = self.shape.gone != Gone::Never && self.anchor() != Some(&key);
        let mut next = State {
            rev: last.rev + 1,
            stamp: self.stamp(now),
            at: now,
            shown: self.shown(now, dice).max(last.shown),
            served: None,
            ..last.clone()
        };
        let what = dice.below(100);
        let said = match what {
            _ if gone => {
                // Often with the very content it had: the same change must not get the same id again.
                let before = self.records[&key].iter().rev().find_map(|state| state.content);
                next.content = if dice.chance(500) { before } else { Some(self.fresh()) };
                next.created = next.stamp;
                "re-create"
            }
            0..25 if may_go => {
                next.content = None;
                "delete"
            }
            25..45 => {
                let mut contents: Vec<u64> = self.records[&key].iter().filter_map(|state| state.content).collect();
                if self.shape.webhooks {
                    contents.retain(|content| Some(*content) != last.content);
                }
                next.content =
                    if contents.is_empty() { Some(self.fresh()) } else { Some(contents[dice.below(contents.len())]) };
                "put back"
            }
            45..52 if !self.shape.webhooks => "touch",
            52..60 if self.shape.quiet_edits => {
                (next.rev, next.stamp) = (last.rev, last.stamp);
                next.content = Some(self.fresh());
                "quietly edit"
            }
            60..68 if self.shape.future => {
                next.stamp += dice.between(1, 40) * 60_000;
                next.content = Some(self.fresh());
                "date ahead"
            }
            _ => {
                next.content = Some(self.fresh());
                "edit"
            }
        };
        let line = format!("{said} {key} {:?} rev {}", next.content, next.rev);
        self.records.get_mut(&key).expect("it was just found").push(next);
        self.post(&key, now, dice);
        line
    }

    /// Its real webhook: mostly soon, sometimes late, twice or not at all.
    fn post(&mut self, key: &str, now: i64, dice: &mut Dice) {
        if !self.shape.webhooks {
            return;
        }
        let state = self.records[key].last().expect("every record has a state").clone();
        let deletion = state.content.is_none();
        if deletion && self.shape.gone == Gone::Absent {
            // A copy of a record that comes after a listing has shown its end cannot be told from a return by anybody who did
            // not see the end's own revision (RULES R5.5); such copies are lost instead.
            self.posts.retain(|post| post.key != key || post.deletion);
        }
        // What only a webhook told may also end by a webhook alone: a listing that never showed a record cannot tell its end
        // (RULES R6.1), so this one is never lost.
        let copies = [0, 1, 1, 1, 1, 2][dice.below(6)].max(usize::from(deletion && self.shape.gone == Gone::Absent));
        for _ in 0..copies {
            let due = now + if dice.chance(150) { dice.between(5_000, 40_000) } else { dice.between(0, 2_000) };
            let message = format!("{key}-{}-{}", state.rev, self.records[key].len());
            let kind = if deletion { "deleted" } else { "changed" };
            let last = self.records[key].iter().rev().find_map(|state| state.content);
            // Some providers say of a deletion only what the record last was.
            let rev = if deletion && self.shape.last_words { state.rev - 1 } else { state.rev };
            let record = self.record(key, &State { content: last, rev, ..state.clone() }, dice, false);
            let body = Bytes::from(format!(r#"{{"id":"{message}","type":"{kind}","record":{record}}}"#));
            self.posts.push(Post { due, message, key: key.to_owned(), body, deletion, sent: false });
        }
    }

    /// The record as JSON: members in no certain order, with values that mean nothing.
    fn record(&self, key: &str, state: &State, dice: &mut Dice, listed: bool) -> String {
        let time = |ms: i64| DateTime::from_timestamp_millis(ms).map(|t| t.to_rfc3339()).unwrap_or_default();
        let content = state.content.map_or("null".to_owned(), |content| content.to_string());
        let mut text = String::with_capacity(200);
        let (id, rev) = (format!("\"id\":\"{key}\""), format!("\"rev\":{}", state.rev));
        let flip = dice.chance(100);
        let (first, second) = if flip { (rev, id) } else { (id, rev) };
        let _ = write!(
            text,
            r#"{{{first},"content":{content},{second},"updatedAt":"{}","createdAt":"{}""#,
            time(state.stamp),
            time(state.created)
        );
        if self.shape.order == Order::Log {
            let _ = write!(text, r#","seq":{}"#, state.rev);
        }
        if self.shape.gone == Gone::Flagged {
            let _ = write!(text, r#","gone":{}"#, state.content.is_none());
        }
        // A webhook's copy has fewer members than the listing's.
        if listed {
            let tags = if dice.chance(100) { r#"["b","a"]"# } else { r#"["a","b"]"# };
            let _ = write!(text, r#","tags":{tags},"noise":{}"#, u8::from(dice.chance(100)));
        }
        text.push('}');
        text
    }

    /// Answers a request.
    pub fn answer(&mut self, url: &Url, now: i64, calm: bool, dice: &mut Dice) -> Reply {
        let query: BTreeMap<String, String> = url.query_pairs().into_owned().collect();
        let first = !query.contains_key("after") && query.get("offset").is_none_or(|offset| offset == "0");
        let asked = Asked { now, first };
        if asked.first
            && let Some(from) = query.get("since").and_then(|since| self.from(since))
        {
            if self.asked_from.is_some_and(|before| from < before) {
                self.fault = Some(format!("the mark went back: asked from {from} after {:?}", self.asked_from));
            }
            self.asked_from = Some(from);
        }
        let after = dice.between(1, 400);
        if !calm && let Some(reply) = self.trouble(asked, dice) {
            return reply;
        }
        let (body, shown) = self.page(&query, asked, calm, dice);
        if calm && asked.first {
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
        Reply { after, answer: Ok(incoming(200, self.headers(now), body)), said }
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
            75..90 if asked.first && self.known && !self.shape.document => {
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
        asked: Asked,
        calm: bool,
        dice: &mut Dice,
    ) -> (String, Vec<(String, usize)>) {
        let mut listed = self.listing(asked.now);
        if self.shape.document {
            let (key, at, state) = listed[0];
            return (self.record(key, state, dice, true), vec![(key.clone(), at)]);
        }
        if let Some(since) = query.get("since") {
            let log = self.shape.order == Order::Log;
            let from = self.from(since);
            // The filter includes its bound.
            listed.retain(|(_, _, state)| {
                from.is_none_or(|from| if log { state.rev as i64 >= from } else { state.stamp >= from })
            });
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
        if let Some(offset) = query.get("offset") {
            listed.drain(..offset.parse().unwrap_or(0).min(listed.len()));
        }
        let size = match query.get("limit").and_then(|limit| limit.parse().ok()) {
            // The size asked for; now and then the provider gives less without a word.
            Some(limit) if !calm && dice.chance(300) => self.page.min(limit),
            Some(limit) => limit,
            None if self.shape.paged => self.page,
            None => usize::MAX,
        };
        let more = listed.len() > size;
        listed.truncate(size);
        let token = listed.last().filter(|_| more).map(|(key, _, state)| match self.shape.order {
            Order::ById | Order::Log => (*key).clone(),
            Order::Rising | Order::Falling => format!("{}~{key}", state.stamp),
        });
        let items: Vec<String> = listed.iter().map(|(key, _, state)| self.record(key, state, dice, true)).collect();
        let next = token.as_ref().map_or("null".to_owned(), |token| format!("\"{token}\""));
        let url = token.map_or("null".to_owned(), |token| {
            let since =
                query.get("since").map(|since| format!("since={}&", since.replace('+', "%2B"))).unwrap_or_default();
            format!("\"http://api.invalid/{}?{since}after={token}\"", self.shape.name)
        });
        let body = format!(r#"{{"items":[{}],"next":{next},"next_url":{url}}}"#, items.join(","));
        (body, listed.iter().map(|(key, at, _)| ((*key).clone(), *at)).collect())
    }
}

fn incoming(status: u16, headers: HeaderMap, body: String) -> Incoming {
    Incoming { status, headers, body: Bytes::from(body) }
}
