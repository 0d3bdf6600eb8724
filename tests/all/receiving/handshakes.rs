//! Challenges of providers over a real socket: what is echoed, what is answered with a keyed hash, what is refused, and that none of
//! it becomes an event.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use ringback::client::{Bounds, Exchange, Incoming, Outgoing, SendError};
use ringback::receive::Clients;
use serde_json::Value;

use super::kit::{Gate, NOW, Wish};

/// How each provider asks, in the words of a provider file; before it stand a stream and a signature named `s` in `X-Signature`.
const WORDS: [(&str, &str); 12] = [
    (
        "slack",
        r#"
[[webhook.handshakes]]
when   = '.type == "url_verification"'
answer = { headers = { Content-Type = "text/plain" }, body = "{{ body.challenge }}" }
[[webhook.handshakes]]
when   = '$form.ssl_check == "1"'
"#,
    ),
    (
        "youtube-websub",
        r#"
[[webhook.handshakes]]
method = "GET"
when   = '$query["hub.mode"] == "subscribe"'
accept = '$query["hub.topic"] as $topic | $settings.pending_topics | any(. == $topic)'
answer = { body = "{{ query['hub.challenge'] }}" }
refuse = 404
"#,
    ),
    (
        "meta",
        r#"
[[webhook.handshakes]]
method = "GET"
when   = '$query["hub.mode"] == "subscribe"'
accept = '$query["hub.verify_token"] == $settings.verify_token'
answer = { body = "{{ query['hub.challenge'] }}" }
"#,
    ),
    (
        "zoom",
        r#"
[[webhook.handshakes]]
when   = '.event == "endpoint.url_validation"'
answer = { json = { plainToken = "{{ body.payload.plainToken }}", encryptedToken = "{{ body.payload.plainToken | hmac('sha256', secret) | hex }}" } }
"#,
    ),
    ("discord", "[[webhook.handshakes]]\nwhen = '.type == 1'\nanswer = { json = { type = 1 } }\n"),
    (
        "braintree",
        r#"
[[webhook.handshakes]]
method = "GET"
when   = '$query.bt_challenge != null'
accept = '$query.bt_challenge | test("^[a-f0-9]{20,32}$")'
answer = { body = "{{ settings.public_key }}|{{ query.bt_challenge | hmac('sha1', secret | hash('sha1')) | hex }}" }
"#,
    ),
    ("wise", "[[webhook.handshakes]]\nwhen = '$headers[\"x-test-notification\"] == \"true\"'\n"),
    (
        "microsoft-graph",
        r#"
[[webhook.handshakes]]
signed = false
when   = '$query.validationToken != null'
answer = { headers = { Content-Type = "text/plain" }, body = "{{ query.validationToken }}" }
"#,
    ),
    (
        "twitter",
        r#"
[[webhook.handshakes]]
method = "GET"
when   = '$query.crc_token != null'
answer = { json = { response_token = "sha256={{ query.crc_token | hmac('sha256', secret) | base64 }}" } }
"#,
    ),
    ("trello", "[[webhook.handshakes]]\nmethod = \"HEAD\"\n"),
    ("mailchimp", "[[webhook.handshakes]]\nmethod = \"GET\"\nanswer = { body = \"\" }\n"),
    (
        "twitch",
        r#"
[[webhook.handshakes]]
when   = '$headers["twitch-eventsub-message-type"] == "webhook_callback_verification"'
answer = { body = "{{ body.challenge }}" }
"#,
    ),
];

const START: &str = r#"
schema = 1
settings.pending_topics = { help = "topics that we asked for", default = [] }
settings.verify_token = { help = "the token that we told the provider", default = "" }
settings.public_key = { help = "the public half", default = "" }

[streams.events]
key    = ".id"
detect = "new"

[[webhook.messages]]
stream = "events"

[[webhook.signature]]
name   = "s"
type   = "hmac"
header = "X-Signature"
"#;

async fn gate(provider: &str, secret: &str, settings: &Value) -> Gate {
    let words = WORDS.iter().find(|(name, _)| *name == provider).map(|(_, words)| *words);
    let words = words.unwrap_or_else(|| panic!("nothing is said of {provider}"));
    let settings: Vec<String> = settings
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| format!("{name} = {}", toml::Value::try_from(value).expect("a value")))
        .collect();
    let config = format!(
        "schema = 1\n[sources.own]\nprovider = \"./provider.toml\"\nwebhook = {{ secret = {{ file = \"own\" }} }}\nsettings = {{ {} }}\n",
        settings.join(", ")
    );
    let files = [("provider.toml", format!("{START}{words}")), ("own", secret.to_owned())];
    Gate::of(Wish::default(), &config, &files).await
}

#[tokio::test]
async fn every_recorded_challenge_is_answered_as_its_provider_wants_to_hear() {
    let text = include_str!("../../fixtures/vectors/handshakes.json");
    let cases: Vec<Value> = serde_json::from_str(text).expect("the cases are JSON");
    let mut seen = BTreeSet::new();
    for case in &cases {
        let part = |value: &Value, name: &str| value[name].as_str().unwrap_or_default().to_owned();
        let name = format!("{}: {}", part(case, "provider"), part(case, "name"));
        let secret = Some(part(case, "secret")).filter(|s| !s.is_empty()).unwrap_or_else(|| "secret".into());
        let gate = gate(&part(case, "provider"), &secret, &case["config"]).await;
        let (request, wanted) = (&case["request"], &case["response"]);
        let url: url::Url = part(request, "url").parse().expect("an address");
        let target = format!("/webhooks/own{}", url.query().map(|query| format!("?{query}")).unwrap_or_default());
        let body = part(request, "body");
        let mut headers: Vec<(String, String)> = request["headers"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect();
        headers.push(("X-Signature".into(), gate.signature("own", &secret, &body, NOW)));
        let headers: Vec<(&str, &str)> = headers.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let answer = gate.send(&part(request, "method"), &target, &headers, &body).await;
        match wanted["status"].as_u64() {
            Some(status) => assert_eq!(u64::from(answer.status), status, "{name}: {answer:?}"),
            None => assert!((200..300).contains(&answer.status), "{name}: {answer:?}"),
        }
        if let Some(body) = wanted["body"].as_str() {
            assert_eq!(answer.body, body, "{name}");
        }
        if !wanted["json"].is_null() {
            assert_eq!(serde_json::from_str::<Value>(&answer.body).expect("JSON"), wanted["json"], "{name}");
        }
        for (header, value) in wanted["headers"].as_object().into_iter().flatten() {
            let found = answer.header(header).unwrap_or_default();
            assert!(found.starts_with(value.as_str().unwrap_or_default()), "{name}: {header}: {found}");
        }
        assert!(gate.stored().await.is_empty(), "{name}: a challenge became a webhook");
        seen.insert(part(case, "provider"));
    }
    assert!(cases.len() >= 13 && seen.len() >= 11, "only {} cases of {seen:?}", cases.len());
}

#[tokio::test]
async fn a_challenge_that_must_be_signed_is_not_answered_to_strangers() {
    let gate = gate("zoom", "one", &Value::Null).await;
    let body = r#"{"event":"endpoint.url_validation","payload":{"plainToken":"t"}}"#;
    let stranger = gate.signature("own", "another", body, NOW);
    for headers in [&[][..], &[("x-signature", stranger.as_str())]] {
        let answer = gate.send("POST", "/webhooks/own", headers, body).await;
        assert_eq!(answer.status, 401);
        assert!(!answer.body.contains("encryptedToken"), "{}", answer.body);
    }
    assert_eq!(gate.count("own", "challenge"), 0);
    let signed = gate.signature("own", "one", body, NOW);
    assert_eq!(gate.send("POST", "/webhooks/own", &[("x-signature", &signed)], body).await.status, 200);
    assert_eq!(gate.count("own", "challenge"), 1);
}

#[tokio::test]
async fn what_is_not_quite_a_challenge_is_an_ordinary_request() {
    let gate = gate("braintree", "one", &Value::Null).await;
    for (method, target, status) in [
        ("GET", "/webhooks/own?bt_challenge=NOT+HEX", 403),
        ("GET", "/webhooks/own?other=1", 401),
        ("GET", "/webhooks/own", 401),
        ("HEAD", "/webhooks/own", 405),
        ("PUT", "/webhooks/own", 405),
    ] {
        assert_eq!(gate.send(method, target, &[], "").await.status, status, "{method} {target}");
    }
    // Signed or not, only a POST is a webhook.
    let signature = gate.signature("own", "one", "", NOW);
    let answer = gate.send("GET", "/webhooks/own?other=1", &[("x-signature", &signature)], "").await;
    assert_eq!(answer.status, 400);
    let body = r#"{"id":1}"#;
    let signature = gate.signature("own", "one", body, NOW);
    assert_eq!(gate.send("POST", "/webhooks/own", &[("x-signature", &signature)], body).await.status, 200);
    assert_eq!(gate.stored().await.len(), 1);
}

/// Stands in for the network: what was called, and what comes back.
struct Outside {
    called: Mutex<Vec<String>>,
    answers: Vec<(String, u16, String)>,
}

#[async_trait]
impl Exchange for Outside {
    async fn exchange(&self, request: Outgoing, _: Bounds) -> Result<Incoming, SendError> {
        let url = request.url.to_string();
        let found = self.answers.iter().find(|(start, _, _)| url.starts_with(start.as_str()));
        self.called.lock().expect("not poisoned").push(url);
        let (_, status, body) = found.ok_or_else(|| SendError::Unreachable("nobody there".into()))?;
        Ok(Incoming { status: *status, headers: http::HeaderMap::new(), body: body.clone().into() })
    }
}

impl Outside {
    fn with(answers: &[(&str, u16, &str)]) -> Arc<Outside> {
        let answers = answers.iter().map(|(url, status, body)| ((*url).into(), *status, (*body).into())).collect();
        Arc::new(Outside { called: Mutex::default(), answers })
    }

    fn reached_by(outside: &Arc<Outside>) -> Clients {
        let one: Arc<dyn Exchange> = outside.clone();
        Clients::from([("own".into(), one)])
    }

    fn called(&self) -> Vec<String> {
        self.called.lock().expect("not poisoned").clone()
    }
}

#[tokio::test]
async fn a_subscription_is_confirmed_only_on_an_allowed_host_and_only_when_signed() {
    let words = r#"
[[webhook.handshakes]]
when  = '.Type == "SubscriptionConfirmation"'
fetch = "{{ body.SubscribeURL }}"
host  = ["sns.*.example.com"]
"#;
    let config =
        "schema = 1\n[sources.own]\nprovider = \"./provider.toml\"\nwebhook = { secret = { file = \"own\" } }\n";
    let files = [("provider.toml", format!("{START}{words}")), ("own", "one".to_owned())];
    let gate = Gate::of(Wish::default(), config, &files).await;
    let outside =
        Outside::with(&[("https://sns.eu-1.example.com/ok", 200, ""), ("https://sns.eu-1.example.com/", 500, "")]);
    let body = |url: &str| format!(r#"{{"Type":"SubscriptionConfirmation","SubscribeURL":"{url}"}}"#);
    let post = async |url: &str| {
        let body = body(url);
        let signature = gate.signature("own", "one", &body, NOW);
        gate.send("POST", "/webhooks/own", &[("x-signature", &signature)], &body).await.status
    };
    assert_eq!(post("https://sns.eu-1.example.com/ok?t=1").await, 503, "there is no way out yet");
    gate.receiver.reach_out(Outside::reached_by(&outside));
    for (url, status) in [
        ("https://sns.eu-1.example.com/ok?t=1", 200),
        ("https://sns.eu-1.example.com/broken", 503),
        ("http://sns.eu-1.example.com/ok", 403),
        ("https://sns.eu-1.example.com:8443/ok", 403),
        ("https://u@sns.eu-1.example.com/ok", 403),
        ("https://sns.eu-1.example.com.evil.test/ok", 403),
        ("https://evil.test/sns.eu-1.example.com", 403),
        ("https://sns.a.b.example.com/ok", 403),
        ("https://169.254.169.254/latest", 403),
        ("no address", 403),
    ] {
        assert_eq!(post(url).await, status, "{url}");
    }
    assert_eq!(outside.called(), ["https://sns.eu-1.example.com/ok?t=1", "https://sns.eu-1.example.com/broken"]);
    let unsigned = gate.send("POST", "/webhooks/own", &[], &body("https://sns.eu-1.example.com/ok")).await;
    assert_eq!((unsigned.status, outside.called().len()), (401, 2));
}

/// Cases of schemes with certificates, as the provider's library judges them.
fn cases(scheme: &str) -> Vec<Value> {
    let text = include_str!("../../fixtures/vectors/verify.json");
    let cases: Vec<Value> = serde_json::from_str(text).expect("the cases are JSON");
    cases.into_iter().filter(|case| case["scheme"] == scheme).collect()
}

async fn certified(scheme: &str, more: &str) -> Gate {
    let config = format!(
        "schema = 1\n[sources.own]\nprovider = \"./provider.toml\"\nsettings = {{ webhook_id = \"4JH86294D6297924G\" }}\nwebhook = {{ scheme = \"{scheme}\"{more} }}\n"
    );
    let provider = include_str!("../../fixtures/vectors/schemes.toml").to_owned();
    let root = cases("paypal-rsa-crc32")[0]["config"]["trusted_roots_pem"].as_str().expect("a root").to_owned();
    Gate::of(Wish::default(), &config, &[("provider.toml", provider), ("root.pem", root)]).await
}

#[tokio::test]
async fn a_certificate_is_fetched_once_from_where_it_may_come_and_judged() {
    for (scheme, more, least) in [("aws-sns", "", 11), ("paypal-rsa-crc32", ", public_key = \"root.pem\"", 7)] {
        let cases = cases(scheme);
        assert!(cases.len() >= least, "{} cases of {scheme}", cases.len());
        for case in &cases {
            let gate = certified(scheme, more).await;
            let pem = |name: &str| case["config"][name].as_str().unwrap_or_default().to_owned();
            let chain = pem("certificate_pem") + &pem("intermediate_pem");
            let outside = Outside::with(&[("https://", 200, &chain)]);
            gate.receiver.reach_out(Outside::reached_by(&outside));
            let headers: Vec<(&str, &str)> = case["headers"]
                .as_object()
                .expect("headers")
                .iter()
                .map(|(n, v)| (n.as_str(), v.as_str().expect("text")))
                .collect();
            let body = case["body"].as_str().expect("a body");
            let wanted = if case["expect"] == "accept" { 200 } else { 401 };
            for _ in 0..2 {
                let answer = gate.post("/webhooks/own", &headers, body).await;
                assert_eq!(answer.status, wanted, "{}: {}", case["id"], answer.body);
            }
            assert!(outside.called().len() <= 1, "{}: {:?}", case["id"], outside.called());
            if case["id"].as_str().is_some_and(|id| id.contains("cert-")) {
                assert!(outside.called().is_empty(), "{}: {:?}", case["id"], outside.called());
            }
        }
    }
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_refused_and_one_that_cannot_be_had_is_our_trouble() {
    let case = &cases("paypal-rsa-crc32")[0];
    let headers: Vec<(&str, &str)> = case["headers"]
        .as_object()
        .expect("headers")
        .iter()
        .map(|(n, v)| (n.as_str(), v.as_str().expect("text")))
        .collect();
    let body = case["body"].as_str().expect("a body");
    let pem = |name: &str| case["config"][name].as_str().unwrap_or_default().to_owned();
    let chain = pem("certificate_pem") + &pem("intermediate_pem");
    let sns = cases("aws-sns")[0]["config"]["certificate_pem"].as_str().expect("one").to_owned();
    for (more, answer, status) in [
        (", public_key = \"root.pem\"", Some(chain.as_str()), 200),
        // Without the given root only the system's count, which know nothing of a test's.
        ("", Some(chain.as_str()), 401),
        // No chain without what stands between.
        (", public_key = \"root.pem\"", Some(pem("certificate_pem").as_str()), 401),
        // A good chain, made out to somebody else.
        (", public_key = \"root.pem\"", Some((sns + &pem("intermediate_pem")).as_str()), 401),
        (", public_key = \"root.pem\"", Some("<html>"), 503),
        (", public_key = \"root.pem\"", None, 503),
    ] {
        let gate = certified("paypal-rsa-crc32", more).await;
        let outside = match answer {
            Some(text) => Outside::with(&[("https://api.paypal.com/", 200, text)]),
            None => Outside::with(&[]),
        };
        gate.receiver.reach_out(Outside::reached_by(&outside));
        let answered = gate.post("/webhooks/own", &headers, body).await;
        assert_eq!(answered.status, status, "{more} {answered:?}");
    }
}

#[tokio::test]
async fn strangers_who_name_certificates_neither_make_us_hammer_the_provider_nor_push_out_the_good_one() {
    let case = &cases("paypal-rsa-crc32")[0];
    let header = |name: &str| case["headers"][name].as_str().unwrap_or_default().to_owned();
    let genuine: Vec<(String, String)> =
        case["headers"].as_object().expect("headers").keys().map(|name| (name.clone(), header(name))).collect();
    let body = case["body"].as_str().expect("a body");
    let chain: String = ["certificate_pem", "intermediate_pem"]
        .iter()
        .map(|name| case["config"][*name].as_str().unwrap_or_default())
        .collect();
    let gate = certified("paypal-rsa-crc32", ", public_key = \"root.pem\"").await;
    let known = header("PAYPAL-CERT-URL");
    let outside = Outside::with(&[(&known, 200, &chain), ("https://", 200, "<html>")]);
    gate.receiver.reach_out(Outside::reached_by(&outside));
    let post = async |url: &str, without: &str| {
        let headers = genuine.iter().filter(|(name, _)| name != without);
        let headers = headers.map(|(n, v)| (n.as_str(), if n == "PAYPAL-CERT-URL" { url } else { v.as_str() }));
        gate.post("/webhooks/own", &headers.collect::<Vec<_>>(), body).await.status
    };
    assert_eq!(post(&known, "").await, 200);
    for n in 0..100 {
        let url = format!("https://www.paypal.com/{n}");
        assert_eq!(post(&url, "PAYPAL-TRANSMISSION-SIG").await, 401, "nothing is asked for who signs nothing");
    }
    assert_eq!(outside.called().len(), 1);
    // As many as a day can bring: more than are kept.
    for minute in 0..20 {
        for n in 0..20 {
            assert_eq!(post(&format!("https://www.paypal.com/{minute}/{n}"), "").await, 503);
        }
        assert_eq!(post(&known, "").await, 200, "minute {minute}");
        gate.clock.advance(std::time::Duration::from_secs(61));
    }
    let called = outside.called();
    assert!(called.len() <= 1 + 20 * 6, "{} calls", called.len());
    assert_eq!(called.iter().filter(|url| **url == known).count(), 1, "the good one was known all along");
    // A day later it would be asked for anew; strangers are in the way, and it stays good.
    gate.clock.advance(std::time::Duration::from_secs(25 * 3600));
    for n in 0..20 {
        assert_eq!(post(&format!("https://www.paypal.com/late/{n}"), "").await, 503);
    }
    assert_eq!(post(&known, "").await, 200);
}

#[tokio::test]
async fn only_topics_that_are_named_are_confirmed_and_taken() {
    let all = cases("aws-sns");
    let found = |end: &str| all.iter().find(|case| case["id"].as_str().is_some_and(|id| id.ends_with(end)));
    let (message, confirmation) = (found("ascii-v1").expect("one"), found("subscription-confirmation").expect("one"));
    let certificate = message["config"]["certificate_pem"].as_str().expect("one").to_owned();
    let ours = "arn:aws:sns:us-west-2:123456789012:MyTopic";
    for (topics, status) in [
        (format!("[\"arn:aws:sns:us-west-2:1:Other\", \"{ours}\"]"), 200),
        (format!("\"{ours}\""), 200),
        (format!("\"{ours}OfOld\""), 401),
        ("[]".to_owned(), 401),
        ("[\"arn:aws:sns:us-west-2:999999999999:MyTopic\"]".to_owned(), 401),
    ] {
        let config = format!(
            "schema = 1\n[sources.own]\nprovider = \"aws-sns\"\nsettings = {{ topics = {topics} }}\nwebhook = {{}}\n"
        );
        let gate = Gate::of(Wish::default(), &config, &[]).await;
        let outside = Outside::with(&[
            ("https://sns.us-east-1.amazonaws.com/SimpleNotificationService", 200, &certificate),
            ("https://sns.us-west-2.amazonaws.com/?Action=ConfirmSubscription", 200, ""),
        ]);
        gate.receiver.reach_out(Outside::reached_by(&outside));
        for case in [confirmation, message] {
            let answer = gate.post("/webhooks/own", &[], case["body"].as_str().expect("a body")).await;
            assert_eq!(answer.status, status, "{topics}: {}", answer.body);
        }
        let confirmed = outside.called().iter().any(|url| url.contains("ConfirmSubscription"));
        assert_eq!((confirmed, gate.stored().await.len()), (status == 200, usize::from(status == 200)), "{topics}");
    }
}
