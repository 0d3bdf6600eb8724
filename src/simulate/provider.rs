//! A made-up provider: records with their whole history, how they change, and the real webhooks that say so. Its listings stand in
//! `listing`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use bytes::Bytes;
use chrono::DateTime;

use super::dice::Dice;
use super::shapes::{Gone, Order, Shape};

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
    pub(super) skew: i64,
    pub(super) page: usize,
    made: u64,
    contents: u64,
    pub(super) down_until: i64,
    /// Good first pages since the provider last became calm.
    pub looks: u32,
    /// Whether the daemon has had one complete look: only then may an empty answer be told from an empty provider.
    pub known: bool,
    /// From where the daemon last asked, by parent; it must never go back.
    pub(super) asked_from: BTreeMap<String, i64>,
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
            asked_from: BTreeMap::new(),
            fault: None,
            posts: Vec::new(),
        };
        let first = if shape.document { 1 } else { dice.below(8) };
        for n in 0..first {
            let apart = if shape.cap.is_some() { 1_000 } else { dice.between(1, 900) };
            model.create(now - 1 - (first - n) as i64 * apart, dice);
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
        // More records in one moment than an answer can hold could be listed by nobody.
        let latest = self.records.values().flatten().map(|state| state.at).max();
        if self.shape.cap.is_some() && latest.is_some_and(|latest| now < latest + 700) {
            return "nothing".to_owned();
        }
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
                // A new version of the same content would be told by its webhook and be no change to the listing: which of them
                // is right cannot be said (RULES R5.2 takes the webhook's word), so that here each new version is a change.
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
    pub(super) fn record(&self, key: &str, state: &State, dice: &mut Dice, listed: bool) -> String {
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
}
