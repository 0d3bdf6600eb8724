//! Requests in which something stands twice, once signed and once not: what is verified and what is read must be the same.

use ringback::store::EventFilter;
use serde_json::Value;

use super::kit::{Gate, NOW, Wish};

const CONFIG: &str = r#"
schema = 1
[sources.liqpay]
provider = "liqpay"
webhook  = { secret = { file = "liqpay" } }
[sources.braintree]
provider = "braintree"
settings = { public_key = "integration_public_key" }
webhook  = { secret = { file = "braintree" } }
[sources.twitch]
provider = "twitch"
webhook  = { secret = { file = "twitch" } }
[sources.standard]
provider = "standard-webhooks"
webhook  = { secret = { file = "standard" } }
[sources.twilio]
provider = "twilio"
webhook  = { secret = { file = "twilio" }, url = "https://hooks.example.test/in/twilio" }
"#;

async fn gate() -> Gate {
    let files = [
        ("liqpay", "sandbox_private"),
        ("braintree", "integration_private_key"),
        ("twitch", "s3cre77890ab"),
        ("standard", "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="),
        ("twilio", "12345"),
    ];
    Gate::of(Wish::default(), CONFIG, &files.map(|(name, text)| (name, text.to_owned()))).await
}

/// The signature covers a CRC of the body alone: one seen is enough to write another body that it fits.
#[tokio::test]
async fn another_body_under_a_signature_that_was_used_is_a_repeat() {
    let forged = r#"{"id":"WH-FORGED","create_time":"2025-10-09T08:53:20Z","resource_type":"sale","event_type":"PAYMENT.SALE.COMPLETED","summary":"1100100011101101100101110011101100000000000000000000000000000000","resource":{"id":"X","state":"completed"}}"#;
    let (headers, genuine) = recorded("paypal/request-sale.json");
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("providers/fixtures/paypal");
    let chain = std::fs::read_to_string(folder.join("certificates.pem")).expect("a fixture");
    let config = r#"
schema = 1
[sources.paypal]
provider = "paypal"
settings = { webhook_id = "4JH86294D6297924G" }
webhook  = { public_key = { file = "chain" } }
"#;
    let gate = Gate::of(Wish::default(), config, &[("chain", chain)]).await;
    assert_eq!(post(&gate, "paypal", &headers, &genuine).await, 200);
    assert_eq!(
        post(&gate, "paypal", &headers, forged).await,
        200,
        "the signature fits: it is no weaker than PayPal's own"
    );
    gate.take_in().await;
    let events = gate.store.events(EventFilter { limit: 10, ..EventFilter::default() }).await.expect("events").events;
    assert_eq!(events.len(), 1, "{events:?}");
    assert!(events[0].key.as_str().starts_with("WH-0G27"), "{events:?}");
}

/// A recorded request of a provider: its headers, one for each value, and its body.
fn recorded(file: &str) -> (Vec<(String, String)>, String) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("providers/fixtures").join(file);
    let request: Value = serde_json::from_slice(&std::fs::read(path).expect("a fixture")).expect("JSON");
    let mut headers = Vec::new();
    for (name, value) in request["headers"].as_object().expect("headers") {
        let values = value.as_array().cloned().unwrap_or_else(|| vec![value.clone()]);
        headers.extend(values.iter().map(|value| (name.clone(), value.as_str().expect("text").to_owned())));
    }
    (headers, request["body"].as_str().expect("a body").to_owned())
}

async fn post(gate: &Gate, source: &str, headers: &[(String, String)], body: &str) -> u16 {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    gate.post(&format!("/webhooks/{source}"), &headers, body).await.status
}

#[tokio::test]
async fn what_is_added_to_a_genuine_request_is_refused_and_never_read() {
    let gate = gate().await;
    for (source, genuine, forged) in [
        ("liqpay", "liqpay/request-pay.json", "liqpay/request-repeated.json"),
        ("braintree", "braintree/request-check.json", "braintree/request-repeated.json"),
        ("twitch", "twitch/request-online.json", "twitch/request-repeated-id.json"),
        ("standard", "standard-webhooks/request-accept.json", "standard-webhooks/request-repeated-id.json"),
        ("standard", "standard-webhooks/request-accept.json", "standard-webhooks/request-other-id.json"),
    ] {
        let (headers, body) = recorded(forged);
        assert_eq!(post(&gate, source, &headers, &body).await, 401, "{forged}");
        // What is added may also stand before what is signed.
        let reversed: Vec<(String, String)> = headers.into_iter().rev().collect();
        let fields: Vec<&str> = body.split('&').rev().collect();
        let body = if body.starts_with('{') { body.clone() } else { fields.join("&") };
        assert_eq!(post(&gate, source, &reversed, &body).await, 401, "{forged} the other way round");
        let (headers, body) = recorded(genuine);
        assert_eq!(post(&gate, source, &headers, &body).await / 100, 2, "{genuine}");
        assert_eq!(gate.count(source, "accepted"), 1, "{genuine}");
    }
}

#[tokio::test]
async fn what_is_repeated_and_named_by_nobody_is_taken() {
    let gate = gate().await;
    let (mut headers, body) = recorded("twitch/request-online.json");
    headers.extend([("X-Forwarded-For".into(), "192.0.2.1".into()), ("x-forwarded-for".into(), "192.0.2.2".into())]);
    assert_eq!(post(&gate, "twitch", &headers, &body).await / 100, 2);
}

/// The field of the signature holds several, of which one must be ours: what stands beside it is not signed, and makes no second event.
#[tokio::test]
async fn a_notification_sent_again_with_another_text_beside_its_signature_is_one_event() {
    let gate = gate().await;
    let (headers, body) = recorded("braintree/request-check.json");
    let padded = body.replacen("&bt_payload", "%26other%7C00&bt_payload", 1);
    let with_more = format!("{body}&unsigned=1");
    let without_break = body.strip_suffix("%0A").expect("it ends in a line break").to_owned();
    for body in [&body, &padded, &with_more, &without_break] {
        assert_eq!(post(&gate, "braintree", &headers, body).await, 200);
        gate.take_in().await;
    }
    let page = gate.store.events(EventFilter { limit: 10, ..EventFilter::default() }).await.expect("events");
    assert_eq!(page.events.len(), 1);
    let event = gate.store.event(&page.events[0].id).await.expect("read").expect("it is there").event;
    assert!(!String::from_utf8_lossy(&event.data.expect("its record")).contains("unsigned"));
}

/// Who could choose what is signed for a challenge could sign any notification.
#[tokio::test]
async fn a_challenge_is_answered_for_the_text_that_was_looked_at_and_no_other() {
    let gate = gate().await;
    let hex = "20f9f8ed05f77439fe955c977e4c8a53";
    let forged = "PG5vdGlmaWNhdGlvbi8%2B";
    let ask = async |query: &str| gate.send("GET", &format!("/webhooks/braintree?{query}"), &[], "").await;
    let right = ask(&format!("bt_challenge={hex}")).await;
    assert_eq!((right.status, right.body.len()), (200, "integration_public_key|".len() + 40));
    assert_eq!(ask(&format!("bt_challenge={forged}&bt_challenge={hex}")).await.status, 403);
    let first = ask(&format!("bt_challenge={hex}&bt_challenge={forged}")).await;
    assert_eq!((first.status, first.body), (200, right.body));
    assert!(gate.clock.now() == NOW && gate.stored().await.is_empty());
}
