//! Conditional requests: what the provider said of its last accepted listing is sent back, and a 304 answer means that nothing
//! is new. For streams that say so, of one page, or where the first page's validators stand for the whole list. A 304 is not a
//! listing, and none is asked for where one is owed (RULES R6.4). Pure.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::{Deserialize, Serialize};

use crate::provider::Conditional;
use crate::source::SourceStream;
use crate::store::{Phase, StreamState};

/// What is stored as a stream's validators.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Validators {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    etag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    last_modified: Option<String>,
}

/// Whether the stream's answers may be asked for conditionally at all.
fn applies(stream: &SourceStream) -> bool {
    // Of several listings no one's validators stand for the others.
    stream.spec.conditional != Conditional::No && stream.spec.parent.is_none() && stream.spec.window.is_none()
}

/// Headers to ask with. Empty on the first look, under a changed definition, and where the stream does not say so.
pub(super) fn headers(stream: &SourceStream, state: &StreamState) -> Vec<(HeaderName, HeaderValue)> {
    let settled =
        state.phase == Phase::Live && state.definition == stream.definition && state.comparison == stream.comparison;
    match &state.validators {
        Some(stored) if settled && applies(stream) => sent(stored),
        Some(_) | None => Vec::new(),
    }
}

/// What is stored is ours; if it cannot be read all the same, the listing is asked for in full.
fn sent(stored: &str) -> Vec<(HeaderName, HeaderValue)> {
    let validators: Validators = serde_json::from_str(stored).unwrap_or_default();
    let pairs = [(header::IF_NONE_MATCH, validators.etag), (header::IF_MODIFIED_SINCE, validators.last_modified)];
    let values = pairs.into_iter().filter_map(|(name, value)| {
        let value = HeaderValue::from_bytes(value?.as_bytes()).ok()?;
        Some((name, value))
    });
    values.collect()
}

/// What to store with the run's verdict. None: the provider gave nothing, or the stream does not say so.
pub(super) fn validators(stream: &SourceStream, headers: &HeaderMap) -> Option<String> {
    if applies(stream) { received(headers) } else { None }
}

fn received(headers: &HeaderMap) -> Option<String> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let validators = Validators { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) };
    if validators == Validators::default() {
        return None;
    }
    Some(serde_json::to_string(&validators).expect("two texts are JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_provider_said_is_sent_back_word_for_word() {
        let mut answer = HeaderMap::new();
        answer.insert(header::ETAG, HeaderValue::from_static("W/\"a\\\"b\""));
        answer.insert(header::LAST_MODIFIED, HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
        let stored = received(&answer).expect("validators");
        let sent = sent(&stored);
        assert_eq!(sent[0], (header::IF_NONE_MATCH, answer[header::ETAG].clone()));
        assert_eq!(sent[1], (header::IF_MODIFIED_SINCE, answer[header::LAST_MODIFIED].clone()));
    }

    #[test]
    fn without_validators_nothing_is_stored_and_unreadable_ones_are_not_sent() {
        assert_eq!(received(&HeaderMap::new()), None);
        for stored in ["", "nonsense", "{}", r#"{"etag":"a\nb"}"#] {
            assert!(sent(stored).is_empty(), "{stored}");
        }
    }
}
