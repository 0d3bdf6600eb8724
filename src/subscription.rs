//! Which handlers an event is for: `from`, `types`, `when`. Decided once, when the event is stored (RULES R7.5).

use sha2::{Digest, Sha256};

use crate::config::{From, Handler, Order};
use crate::event_body;
use crate::jq::{Json, Vars};
use crate::model::{Event, HandlerName, HoldReason, SourceName, StreamName};
use crate::store::{Herald, NewDelivery};

/// All handlers' subscriptions.
#[derive(Debug, Default)]
pub struct Subscriptions {
    handlers: Vec<Handler>,
}

/// What a handler's subscription says of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    Yes,
    /// `from` names other sources or streams.
    OtherSource,
    OtherType,
    /// `when` gave false.
    WhenFalse,
    /// `when` gave neither true nor false: the delivery is held for a person.
    WhenFailed(String),
}

impl Subscriptions {
    pub fn new<'a>(handlers: impl IntoIterator<Item = &'a Handler>) -> Subscriptions {
        Subscriptions { handlers: handlers.into_iter().cloned().collect() }
    }

    /// A delivery for each handler that the event is for. `source` is the identity of its source, which outlives every rename: what
    /// waits from before a rename stays in one order with what comes after it.
    pub fn deliveries(&self, event: &Event, source: &SourceName, order_key: &str) -> Vec<NewDelivery> {
        let mut body = None;
        let mut deliveries = Vec::new();
        for handler in &self.handlers {
            let hold = match matches(handler, event, &mut body) {
                Match::Yes => None,
                Match::WhenFailed(_) => Some(HoldReason::WhenFailed),
                Match::OtherSource | Match::OtherType | Match::WhenFalse => continue,
            };
            let order = match handler.order {
                Order::Key => Some(order_of(source, &event.stream.stream, order_key)),
                Order::Strict => Some(0),
                Order::None => None,
            };
            deliveries.push(NewDelivery { handler: handler.name.clone(), order, hold });
        }
        deliveries
    }

    /// What each handler's subscription says of the event, by name.
    pub fn explain(&self, event: &Event) -> Vec<(HandlerName, Match)> {
        let mut body = None;
        self.handlers.iter().map(|handler| (handler.name.clone(), matches(handler, event, &mut body))).collect()
    }
}

impl Herald for Subscriptions {
    fn deliveries(&self, event: &Event, about: Option<&HandlerName>) -> Vec<NewDelivery> {
        let mut deliveries = Subscriptions::deliveries(self, event, &event.stream.source, event.key.as_str());
        deliveries.retain(|delivery| Some(&delivery.handler) != about);
        deliveries
    }

    fn hears(&self, handler: &HandlerName) -> bool {
        self.handlers.iter().any(|known| known.name == *handler && known.from.contains(&From::Ringback))
    }
}

fn matches(handler: &Handler, event: &Event, body: &mut Option<Json>) -> Match {
    if !handler.from.is_empty() && !handler.from.iter().any(|from| comes_from(from, &event.stream)) {
        return Match::OtherSource;
    }
    if handler.from.is_empty() && event.stream.source.as_str() == OWN {
        return Match::OtherSource;
    }
    if !handler.types.is_empty() && !handler.types.iter().any(|pattern| type_matches(pattern, &event.event_type)) {
        return Match::OtherType;
    }
    let Some(when) = &handler.when else { return Match::Yes };
    if body.is_none() {
        match Json::parse(&event_body::standard(event)) {
            Ok(json) => *body = Some(json),
            Err(error) => return Match::WhenFailed(error),
        }
    }
    match when.truth(body.as_ref().expect("it was just put there"), &Vars::default()) {
        Ok(true) => Match::Yes,
        Ok(false) => Match::WhenFalse,
        Err(error) => Match::WhenFailed(error.to_string()),
    }
}

/// The source name of Ringback's own events: only for handlers that ask for it.
const OWN: &str = "ringback";

fn comes_from(from: &From, stream: &StreamName) -> bool {
    match from {
        From::Source(source) => *source == stream.source,
        From::Stream(source, name) => *source == stream.source && **name == *stream.stream,
        From::AnySource(name) => stream.source.as_str() != OWN && **name == *stream.stream,
        From::Ringback => stream.source.as_str() == OWN,
    }
}

/// `payment.*` matches every type below `payment.`; anything else only itself; `*` matches all.
pub fn type_matches(pattern: &str, event_type: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some("") => true,
        Some(prefix) => prefix.ends_with('.') && event_type.starts_with(prefix) && event_type.len() > prefix.len(),
        None => pattern == event_type,
    }
}

/// 64 bits of SHA-256 over stream and order key: equal values go one after another. 0 is `order = "strict"`.
fn order_of(source: &SourceName, stream: &str, order_key: &str) -> u64 {
    let mut hash = Sha256::new();
    for part in [source.as_str(), stream, order_key] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    u64::from_be_bytes(digest[..8].try_into().expect("a digest is longer than eight bytes")).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_pattern_matches_below_its_prefix_only() {
        for (pattern, name, want) in [
            ("payment.*", "payment.created", true),
            ("payment.*", "payment.a.b", true),
            ("payment.*", "payment", false),
            ("payment.*", "payments.created", false),
            ("payment.created", "payment.created", true),
            ("payment.created", "payment.created.x", false),
            ("*", "anything", true),
        ] {
            assert_eq!(type_matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn order_differs_by_stream_and_key() {
        let of = |source: &str, stream, key| order_of(&source.into(), stream, key);
        assert_ne!(of("a", "bc", "k"), of("ab", "c", "k"));
        assert_ne!(of("a", "bc", "k"), of("a", "bc", "l"));
        assert_eq!(of("a", "bc", "k"), of("a", "bc", "k"));
    }
    #[test]
    fn r7_3_a_renamed_source_stays_in_one_order_with_what_waits_from_before() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.toml");
        let text = "schema = 1\n[handlers.a]\nurl = \"http://127.0.0.1:1/\"\nsecret = { env = \"A\" }\n";
        std::fs::write(&path, text).expect("written");
        let (config, _) = crate::config::load(&path).expect("a configuration");
        let subscriptions = Subscriptions::new(config.handlers.values());
        let order = |now: &str| {
            let event = Event {
                id: "evt_1".into(),
                event_type: "s.updated".into(),
                kind: crate::model::ChangeKind::Updated,
                stream: StreamName::new(now, "s"),
                key: "k".into(),
                revision: 1,
                time: Default::default(),
                seen_at: Default::default(),
                seen_by: crate::model::SeenBy::Poll,
                data: None,
                previous: None,
                changed: None,
                first_sight: false,
                test: false,
            };
            subscriptions.deliveries(&event, &"eu".into(), "k")[0].order
        };
        assert_eq!(order("eu2"), order("eu"));
    }
}
