//! What a stored webhook leads to: records taken in, a notice, nothing, or a reason why it cannot be read.

use std::time::Duration;

use ringback::model::ProblemKind;
use ringback::store::EventFilter;

use super::kit::{Gate, NOW};

async fn events(gate: &Gate) -> Vec<String> {
    let page = gate.store.events(EventFilter { limit: 100, ..EventFilter::default() }).await.expect("events");
    let mut lines: Vec<String> =
        page.events.iter().map(|event| format!("{} {}", event.event_type, event.key)).collect();
    lines.reverse();
    lines
}

async fn post(gate: &Gate, target: &str, kind: &str, body: &str) {
    assert_eq!(gate.signed(target, &[("x-kind", kind)], body).await.status, 202);
}

#[tokio::test]
async fn every_record_of_a_message_becomes_an_event() {
    let gate = Gate::open().await;
    post(&gate, "/webhooks/plain", "", r#"{"event":"push.two","items":[{"id":"a"},{"id":"b"}]}"#).await;
    post(&gate, "/webhooks/plain", "", r#"{"event":"push.again","items":[{"id":"b"},{"id":"c"}]}"#).await;
    gate.take_in().await;
    assert_eq!(events(&gate).await, ["pushes.created a", "pushes.created b", "pushes.created c"]);
    assert_eq!(gate.store.inbox().await.expect("the inbox").pending, 0);
    gate.take_in().await;
    assert_eq!(events(&gate).await.len(), 3, "a settled webhook is not taken again");
}

#[tokio::test]
async fn a_form_is_read_by_its_fields() {
    let gate = Gate::open().await;
    let body = "kind=pushed&payload=%7B%22id%22%3A%22f+1%22%7D";
    let as_form = [("content-type", "application/x-www-form-urlencoded")];
    assert_eq!(gate.signed("/webhooks/plain", &as_form, body).await.status, 202);
    gate.take_in().await;
    assert_eq!(events(&gate).await, ["pushes.created f 1"]);
}

#[tokio::test]
async fn copies_of_one_record_go_in_in_order_of_receipt() {
    let gate = Gate::open().await;
    for version in [1, 2, 2, 1, 3] {
        post(&gate, "/webhooks/plain", "order", &format!(r#"{{"order":{{"id":7,"v":{version}}}}}"#)).await;
    }
    gate.take_in().await;
    // Before a first listing nobody knows whether the first copy is a creation (RULES R3.1).
    assert_eq!(events(&gate).await, ["orders.updated 7"; 3]);
    let page = gate.store.events(EventFilter { limit: 100, ..EventFilter::default() }).await.expect("events");
    let mut revisions: Vec<u64> = page.events.iter().map(|event| event.revision).collect();
    revisions.reverse();
    assert_eq!(revisions, [1, 2, 3]);
}

#[tokio::test]
async fn a_notice_asks_for_a_poll_and_an_unknown_kind_is_kept_as_ignored() {
    let gate = Gate::open().await;
    post(&gate, "/webhooks/plain?kind=changed", "", "not JSON, and nobody minds").await;
    post(&gate, "/webhooks/plain", "", r#"{"event":"ping"}"#).await;
    gate.take_in().await;
    assert!(events(&gate).await.is_empty());
    let inbox = gate.store.inbox().await.expect("the inbox");
    assert_eq!((inbox.pending, inbox.ignored, inbox.unreadable), (0, 1, 0));
    assert_eq!(gate.count("plain", "ignored"), 1);
    let due = gate.store.claim_stream(ringback::store::Which::Due, super::SHORT).await.expect("claimed");
    assert_eq!(due.map(|claim| claim.lease.stream.to_string()).as_deref(), Some("plain/orders"));
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_with_its_reason_and_holds_up_nothing() {
    let gate = Gate::open().await;
    for body in ["<html>", r#"{"event":7}"#, r#"{"event":"push","items":{}}"#, r#"{"event":"push","items":[{"no":1}]}"#]
    {
        post(&gate, "/webhooks/plain", "", body).await;
    }
    post(&gate, "/webhooks/plain", "", r#"{"event":"push","items":[{"id":"z"}]}"#).await;
    gate.take_in().await;
    assert_eq!(events(&gate).await, ["pushes.created z"]);
    let inbox = gate.store.inbox().await.expect("the inbox");
    assert_eq!((inbox.pending, inbox.unreadable), (0, 4));
    let problems = gate.store.problems().await.expect("problems");
    let told = problems.iter().find(|problem| problem.kind == ProblemKind::WebhookUnmatched).expect("a problem");
    assert_eq!((told.subject.as_str(), told.count), ("plain", 4));
}

/// Rings of a bell: all of them look alike, and the provider gives them no id.
const PULSE: &str = r#"{"event":"pulse"}"#;

#[tokio::test]
async fn r5_6_pure_events_of_equal_content_are_told_apart_by_the_time_they_were_signed_at() {
    let gate = Gate::open().await;
    let at = |seconds: u64| gate.signature("timed", "new secret", PULSE, NOW.plus(Duration::from_secs(seconds)));
    // Two rings within a minute, and the first sent again as it was, because its answer got lost.
    for signature in [at(0), at(60), at(0)] {
        let answer = gate.post("/webhooks/timed", &[("x-signature", &signature)], PULSE).await;
        assert_eq!(answer.status, 202, "{}", answer.body);
    }
    assert_eq!(gate.store.inbox().await.expect("the inbox").pending, 3, "without a message id every copy is taken");
    gate.take_in().await;
    let keys = events(&gate).await;
    assert_eq!(keys.len(), 2, "{keys:?}");
    assert!(keys[0] != keys[1] && keys.iter().all(|key| key.len() == "pulses.created ".len() + 32), "{keys:?}");
    assert_eq!(gate.store.inbox().await.expect("the inbox").unreadable, 0);
}

#[tokio::test]
async fn r5_6_a_pure_event_is_known_by_its_message_id_where_it_has_one() {
    let gate = Gate::open().await;
    for id in ["d1", "d2", "d1"] {
        assert_eq!(gate.signed("/webhooks/plain", &[("x-delivery", id)], PULSE).await.status, 202);
    }
    gate.take_in().await;
    assert_eq!(events(&gate).await, ["pulses.created d1", "pulses.created d2"]);
    // Several records of one message are several events.
    let several = r#"{"event":"pulses","items":[{"n":1},{"n":1}]}"#;
    assert_eq!(gate.signed("/webhooks/plain", &[], several).await.status, 202);
    gate.take_in().await;
    assert_eq!(events(&gate).await.len(), 4);
}
