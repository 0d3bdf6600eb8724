//! Real webhooks as they arrive: what is taken, what is refused and why, and what a slow or rude client can do.

mod handshakes;
mod inbox;
mod keys;
pub mod kit;
mod repeated;
mod vectors;
mod wire;
mod xml;

use std::time::Duration;

use kit::{Gate, NOW, Wish};

const ORDER: &str = r#"{"order":{"id":1,"v":1}}"#;

#[tokio::test]
async fn a_signed_webhook_is_on_disk_before_the_provider_hears_its_answer() {
    let gate = Gate::open().await;
    let answer = gate.signed("/webhooks/plain?a=b", &[("X-Kind", "order"), ("X-Delivery", "d1")], ORDER).await;
    assert_eq!((answer.status, answer.header("x-taken"), answer.body.as_str()), (202, Some("yes"), "taken"));
    let stored = gate.stored().await;
    let request = &stored[0].request;
    assert_eq!((stored.len(), stored[0].message_id.as_deref()), (1, Some("d1")));
    assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/webhooks/plain?a=b"));
    assert_eq!(request.body, ORDER.as_bytes());
    assert!(request.headers.contains(&("x-kind".into(), "order".into())), "{:?}", request.headers);
    assert_eq!(gate.count("plain", "accepted"), 1);
}

#[tokio::test]
async fn a_second_copy_of_a_message_is_thanked_for_and_dropped() {
    let gate = Gate::open().await;
    for id in ["d1", "d1", "d2"] {
        let answer = gate.signed("/webhooks/plain", &[("x-kind", "order"), ("x-delivery", id)], ORDER).await;
        assert_eq!(answer.status, 202);
    }
    assert_eq!(gate.stored().await.len(), 2);
    assert_eq!((gate.count("plain", "accepted"), gate.count("plain", "duplicate")), (2, 1));
}

#[tokio::test]
async fn without_a_message_id_every_copy_is_taken() {
    let gate = Gate::open().await;
    for _ in 0..2 {
        assert_eq!(gate.signed("/webhooks/plain", &[("x-kind", "order")], ORDER).await.status, 202);
    }
    assert_eq!(gate.stored().await.len(), 2);
}

#[tokio::test]
async fn both_secrets_of_a_rotation_are_in_force() {
    let gate = Gate::open().await;
    for (secret, status) in [("new secret", 202), ("old secret", 202), ("older secret", 401)] {
        let signature = gate.signature("plain", secret, ORDER, NOW);
        let answer = gate.post("/webhooks/plain", &[("x-signature", &signature)], ORDER).await;
        assert_eq!(answer.status, status, "{secret}");
    }
}

#[tokio::test]
async fn what_is_not_signed_rightly_is_refused_with_a_plain_reason() {
    let gate = Gate::open().await;
    let good = gate.signature("plain", "new secret", ORDER, NOW);
    let twice = [("x-signature", good.as_str()), ("x-signature", good.as_str())];
    for (headers, body, reason) in [
        (&[][..], ORDER, "the signature is missing"),
        (&[("x-signature", "")], ORDER, "the signature is missing"),
        (&[("x-signature", "nonsense")], ORDER, "has not the form"),
        (&[("x-signature", "sha256=00")], ORDER, "does not match"),
        (&[("x-signature", &good)], "{}", "does not match"),
        (&twice, ORDER, "more than once"),
    ] {
        let answer = gate.post("/webhooks/plain", headers, body).await;
        assert_eq!(answer.status, 401, "{headers:?}");
        assert!(answer.body.contains(reason), "{headers:?}: {}", answer.body);
    }
    assert_eq!((gate.count("plain", "no_signature"), gate.count("plain", "bad_signature")), (4, 2));
    assert!(gate.stored().await.is_empty());
}

#[tokio::test]
async fn a_signature_is_good_for_five_minutes_on_both_sides() {
    let gate = Gate::open().await;
    for (seconds, status) in [(-301, 401), (-300, 202), (0, 202), (300, 202), (301, 401)] {
        let signature =
            gate.signature("timed", "new secret", ORDER, ringback::model::Timestamp(NOW.0 + seconds * 1000));
        let answer = gate.post("/webhooks/timed", &[("x-signature", &signature)], ORDER).await;
        assert_eq!(answer.status, status, "{seconds} s: {}", answer.body);
    }
    assert_eq!(gate.count("timed", "bad_timestamp"), 2);
}

#[tokio::test]
async fn a_token_that_came_in_a_header_is_not_kept() {
    let gate = Gate::open().await;
    let answer = gate.post("/webhooks/token", &[("x-token", "new secret"), ("x-kind", "order")], ORDER).await;
    assert_eq!(answer.status, 202);
    let kept = format!("{:?}", gate.stored().await[0].request.headers);
    assert!(kept.contains("x-kind") && !kept.contains("new secret"), "{kept}");
}

#[tokio::test]
async fn other_paths_and_methods_lead_nowhere() {
    let gate = Gate::open().await;
    for target in
        ["/", "/webhooks", "/webhooks/", "/webhooks/nobody", "/webhooks/closed", "/webhooks/plain/", "/metrics"]
    {
        assert_eq!(gate.signed(target, &[], ORDER).await.status, 404, "{target}");
    }
    for method in ["GET", "PUT", "DELETE", "OPTIONS"] {
        let mut client = gate.connect().await;
        client.send(&kit::request(method, "/webhooks/plain", &[], "")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    assert_eq!((gate.count("", "unknown_source"), gate.count("plain", "method")), (7, 4));
}

#[tokio::test]
async fn r8_3_our_own_trouble_asks_the_provider_to_come_again() {
    let broken = Gate::with(Wish { broken: true, ..Wish::default() }).await;
    let answer = broken.signed("/webhooks/plain", &[], ORDER).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{answer:?}");
    assert_eq!(broken.post("/webhooks/plain", &[], ORDER).await.status, 401, "a refusal needs no store");

    // The secret is text where the scheme needs base64: nobody but us can mend that.
    let gate = Gate::open().await;
    let answer = gate.post("/webhooks/whsec", &[("x-signature", "00")], ORDER).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")));
    assert!(!answer.body.contains("secret"), "what is wrong with us is not told to others: {}", answer.body);
    assert_eq!(gate.count("whsec", "trouble"), 1);
}

#[tokio::test]
async fn r8_3_a_genuine_webhook_is_asked_to_come_again_while_our_own_clock_is_in_doubt() {
    let gate = Gate::open().await;
    let provider = NOW.plus(Duration::from_secs(86_400));
    let genuine = gate.signature("timed", "new secret", ORDER, provider);
    let post = async |signature: &str| gate.post("/webhooks/timed", &[("x-signature", signature)], ORDER).await;
    assert_eq!(post(&genuine).await.status, 401, "our clock is right for all we know: the webhook is a day ahead");

    // The machine came up a day behind, before this release was made.
    gate.clock.set_released(NOW.plus(Duration::from_secs(3600)));
    let answer = post(&genuine).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")), "{}", answer.body);
    let forged = gate.signature("timed", "a guess", ORDER, provider);
    assert_eq!(post(&forged).await.status, 401, "a wrong signature is wrong by any clock");

    // The time server sets the wall; until somebody looks, the daemon still counts by the old one.
    gate.clock.set_released(NOW);
    gate.clock.set_wall(86_400_000);
    assert_eq!(post(&genuine).await.status, 503);
    assert!(gate.clock.look().is_some());
    assert_eq!(post(&genuine).await.status, 202);
    // Whether the step was for the better is not known at once: what was in time before it is not refused for good either.
    let before = gate.signature("timed", "new secret", ORDER, NOW);
    assert_eq!(post(&before).await.status, 503);
    gate.clock.advance(Duration::from_secs(600));
    assert_eq!(post(&before).await.status, 401);
}

#[tokio::test]
async fn a_source_that_floods_is_told_to_wait_and_others_are_not() {
    let gate = Gate::with(Wish { rate: "3/h", ..Wish::default() }).await;
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(gate.signed("/webhooks/plain", &[], ORDER).await);
    }
    assert_eq!(seen.iter().map(|answer| answer.status).collect::<Vec<_>>(), [202, 202, 202, 429, 429]);
    let wait: u64 = seen[4].header("retry-after").and_then(|text| text.parse().ok()).expect("Retry-After");
    assert!((1..=1200).contains(&wait), "{wait}");
    assert_eq!(gate.post("/webhooks/token", &[("x-token", "new secret")], ORDER).await.status, 202);
    assert_eq!(gate.count("plain", "rate"), 2);
}

#[tokio::test]
async fn a_reload_opens_and_closes_doors() {
    let gate = Gate::open().await;
    let mut fewer = gate.sources.clone();
    fewer.remove("plain");
    gate.receiver.replace(&fewer);
    assert_eq!(gate.signed("/webhooks/plain", &[], ORDER).await.status, 404);
    gate.receiver.replace(&gate.sources);
    assert_eq!(gate.signed("/webhooks/plain", &[], ORDER).await.status, 202);
}

/// Long enough for any machine, short against the real limits.
const SHORT: Duration = Duration::from_millis(150);

#[tokio::test]
async fn below_min_free_every_sender_is_asked_to_come_again_and_nothing_is_stored() {
    let gate = Gate::open().await;
    gate.receiver.rest(true);
    let answer = gate.signed("/webhooks/plain", &[("x-kind", "order")], ORDER).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("30")));
    assert_eq!(
        gate.post("/webhooks/nobody", &[], ORDER).await.status,
        404,
        "which sources there are is no secret of the disk's"
    );
    gate.receiver.rest(false);
    assert_eq!(gate.signed("/webhooks/plain", &[("x-kind", "order")], ORDER).await.status, 202);
    assert_eq!(gate.stored().await.len(), 1);
}
