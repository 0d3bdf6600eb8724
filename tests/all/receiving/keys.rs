//! Public keys that are fetched: by the id that a request names or as a whole set, kept, asked for again when a key is not known, and
//! never at the pace of a stranger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ringback::client::{Bounds, Exchange, Incoming, Outgoing, SendError};
use ringback::receive::Clients;
use ringback::signature::{TokenAlgorithm, sign_token};
use serde_json::{Value, json};
use sha2::Digest as _;

use super::kit::{Gate, NOW, Wish};

const BY_ID: &str = "keys = { path = \"/key/get\", json = { secret = \"{{ secrets.s }}\", key_id = \"{{ key_id }}\" }, read = \".key\" }";
const SET: &str = "keys = { url = \"https://login.example/jwks\" }";

/// A provider that shows its keys, and remembers who asked.
#[derive(Default)]
struct Provider {
    keys: Mutex<BTreeMap<String, Value>>,
    asked: Mutex<Vec<(String, String)>>,
    down: Mutex<bool>,
}

#[async_trait]
impl Exchange for Provider {
    async fn exchange(&self, request: Outgoing, _: Bounds) -> Result<Incoming, SendError> {
        let body = String::from_utf8_lossy(&request.body).into_owned();
        self.asked.lock().expect("lock").push((format!("{} {}", request.method, request.url), body.clone()));
        if *self.down.lock().expect("lock") {
            return Err(SendError::Unreachable("provider.example:443 cannot be reached".into()));
        }
        let keys = self.keys.lock().expect("lock");
        let answer = match serde_json::from_str::<Value>(&body) {
            Ok(asked) => keys.get(asked["key_id"].as_str().unwrap_or_default()).map(|key| json!({ "key": key })),
            Err(_) => Some(json!({ "keys": keys.values().collect::<Vec<_>>() })),
        };
        let status = if answer.is_some() { 200 } else { 404 };
        let body = answer.unwrap_or_default().to_string().into();
        Ok(Incoming { status, headers: Default::default(), body })
    }
}

impl Provider {
    /// Shows a new key under this id; gives its private half.
    fn adds(&self, id: &str) -> String {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a pair");
        let public = pair.public_key().as_ref();
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let key =
            json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": part(&public[1..33]), "y": part(&public[33..65]) });
        self.keys.lock().expect("lock").insert(id.to_owned(), key);
        let private = pair.to_pkcs8v1().expect("a private key");
        format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(private.as_ref()))
    }

    fn asked(&self) -> Vec<(String, String)> {
        std::mem::take(&mut *self.asked.lock().expect("lock"))
    }
}

async fn gate(keys: &str, provider: &Arc<Provider>) -> Gate {
    let file = format!(
        "schema = 1\nbase_url = \"https://provider.example\"\nsecrets.s = \"one\"\nstreams.s = {{ key = \".id\", detect = \"new\" }}\n\
         [[webhook.signature]]\ntype = \"jwt\"\nheader = \"X-Token\"\n\
         timestamp = {{ claim = \"iat\", unit = \"s\" }}\nbody_hash = {{ claim = \"hash\" }}\n{keys}\n[[webhook.messages]]\nstream = \"s\"\n"
    );
    let config = "schema = 1\n[sources.hook]\nprovider = \"./provider.toml\"\nsecrets = { s = { file = \"s\" } }\nwebhook = {}\n";
    let gate = Gate::of(Wish::default(), config, &[("provider.toml", file), ("s", "s3cret".into())]).await;
    let mut clients = Clients::new();
    clients.insert("hook".into(), provider.clone());
    gate.receiver.reach_out(clients);
    gate
}

/// The status that a message signed with this key under this id is answered with.
async fn posts(gate: &Gate, private: &str, id: &str) -> u16 {
    let body = r#"{"id":"1"}"#;
    let claims = json!({ "iat": NOW.0 / 1000, "hash": hex::encode(sha2::Sha256::digest(body)) }).to_string();
    let head = json!({ "kid": id }).as_object().expect("an object").clone();
    let token = sign_token(TokenAlgorithm::Es256, private, head, &claims).expect("signed");
    gate.post("/webhooks/hook", &[("x-token", &token)], body).await.status
}

#[tokio::test]
async fn a_key_is_fetched_by_its_id_once_and_another_id_by_itself() {
    let provider = Arc::new(Provider::default());
    let (one, two) = (provider.adds("k1"), provider.adds("k2"));
    let gate = gate(BY_ID, &provider).await;
    for (private, id, status, asked) in
        [(&one, "k1", 200, 1), (&one, "k1", 200, 0), (&two, "k2", 200, 1), (&two, "k1", 401, 0), (&one, "none", 401, 1)]
    {
        assert_eq!(posts(&gate, private, id).await, status, "{id}");
        let requests = provider.asked();
        assert_eq!(requests.len(), asked, "{id}: {requests:?}");
        for (line, body) in requests {
            assert_eq!(line, "POST https://provider.example/key/get");
            assert_eq!(body, format!(r#"{{"secret":"s3cret","key_id":"{id}"}}"#));
        }
    }
}

#[tokio::test]
async fn a_stranger_who_makes_up_ids_does_not_make_us_hammer_the_provider() {
    let provider = Arc::new(Provider::default());
    let one = provider.adds("k1");
    let gate = gate(BY_ID, &provider).await;
    assert_eq!(posts(&gate, &one, "k1").await, 200);
    let mut answers = Vec::new();
    for number in 0..20 {
        answers.push(posts(&gate, &one, &format!("made-up-{number}")).await);
    }
    assert!(provider.asked().len() <= 6);
    assert_eq!((answers[0], answers[19]), (401, 503), "what cannot be judged may come again");
    assert_eq!(posts(&gate, &one, "k1").await, 200, "known keys go on");
    assert_eq!(posts(&gate, &one, &"x".repeat(300)).await, 401, "no key has such a name");
}

#[tokio::test]
async fn a_set_of_keys_serves_all_ids_and_a_provider_that_is_down_is_our_trouble() {
    let provider = Arc::new(Provider::default());
    let (one, two) = (provider.adds("k1"), provider.adds("k2"));
    *provider.down.lock().expect("lock") = true;
    let gate = gate(SET, &provider).await;
    assert_eq!(posts(&gate, &one, "k1").await, 503);
    *provider.down.lock().expect("lock") = false;
    provider.asked();
    assert_eq!((posts(&gate, &one, "k1").await, posts(&gate, &two, "k2").await), (200, 200));
    let asked = provider.asked();
    assert_eq!(asked, [("GET https://login.example/jwks".to_owned(), String::new())]);
    let three = provider.adds("k3");
    assert_eq!(posts(&gate, &three, "k3").await, 401, "the set is too young to be asked for again");
    assert_eq!(provider.asked().len(), 0);
    gate.clock.advance(std::time::Duration::from_secs(60));
    assert_eq!(posts(&gate, &three, "k3").await, 200);
    assert_eq!(provider.asked().len(), 1);
}

#[tokio::test]
async fn a_configured_key_is_used_and_nothing_is_fetched() {
    let provider = Arc::new(Provider::default());
    let one = provider.adds("k1");
    let key = provider.keys.lock().expect("lock")["k1"].to_string();
    let gate = gate(SET, &provider).await;
    drop(gate);
    let file = format!(
        "schema = 1\nstreams.s = {{ key = \".id\", detect = \"new\" }}\n[[webhook.signature]]\ntype = \"jwt\"\nheader = \"X-Token\"\n\
         body_hash = {{ claim = \"hash\" }}\n{SET}\n[[webhook.messages]]\nstream = \"s\"\n"
    );
    let config =
        "schema = 1\n[sources.hook]\nprovider = \"./provider.toml\"\nwebhook = { public_key = \"key.json\" }\n";
    let gate = Gate::of(Wish::default(), config, &[("provider.toml", file), ("key.json", key)]).await;
    assert_eq!(posts(&gate, &one, "k1").await, 200);
    assert_eq!(provider.asked().len(), 0);
}

/// What the shipped file asks of a server as the provider's: its credentials in the body, one key for each id.
async fn key_server(key: Value) -> String {
    use axum::http::StatusCode;
    let answer = move |axum::Json(asked): axum::Json<Value>| async move {
        let refused = |code: &str| (StatusCode::BAD_REQUEST, axum::Json(json!({ "error_code": code })));
        match (asked["client_id"].as_str(), asked["secret"].as_str(), asked["key_id"].as_str()) {
            (Some("client"), Some("s3cret"), Some("k1")) => (StatusCode::OK, axum::Json(json!({ "key": key }))),
            (Some("client"), Some("s3cret"), Some("old")) => {
                let mut key = key.clone();
                key["expired_at"] = json!(1_760_000_000);
                (StatusCode::OK, axum::Json(json!({ "key": key })))
            }
            (Some("client"), Some("s3cret"), _) => refused("INVALID_WEBHOOK_VERIFICATION_KEY_ID"),
            _ => refused("INVALID_API_KEYS"),
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let router = axum::Router::new().route("/webhook_verification_key/get", axum::routing::post(answer));
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

#[tokio::test]
async fn a_shipped_file_asks_for_keys_by_id_with_the_sources_credential() {
    let provider = Provider::default();
    let private = provider.adds("k1");
    let key = provider.keys.lock().expect("lock")["k1"].clone();
    let address = key_server(key).await;
    for (secret, id, status) in [
        ("s3cret", "k1", 200),
        ("s3cret", "old", 401),
        ("s3cret", "none", 401),
        // What the provider refuses us says nothing of the webhook: it may come again.
        ("wrong", "k1", 503),
    ] {
        let config = format!(
            "schema = 1\n[sources.hook]\nprovider = \"./provider.toml\"\nbase_url = \"{address}\"\nsettings = {{ client_id = \"client\" }}\n\
             secrets = {{ secret = {{ file = \"s\" }} }}\nwebhook = {{}}\n"
        );
        let file = include_str!("../../../providers/plaid.toml").to_owned();
        let gate = Gate::of(Wish::default(), &config, &[("provider.toml", file), ("s", secret.into())]).await;
        let mut clients = Clients::new();
        clients.insert("hook".into(), Arc::new(direct()));
        gate.receiver.reach_out(clients);
        let body = "{\n  \"webhook_type\": \"TRANSACTIONS\"\n}";
        let claims = json!({ "iat": NOW.0 / 1000, "request_body_sha256": hex::encode(sha2::Sha256::digest(body)) });
        let head = json!({ "kid": id }).as_object().expect("an object").clone();
        let token = sign_token(TokenAlgorithm::Es256, &private, head, &claims.to_string()).expect("signed");
        let answer = gate.post("/webhooks/hook", &[("plaid-verification", &token)], body).await;
        assert_eq!(answer.status, status, "{secret} {id}");
    }
}

/// A client that goes straight to loopback.
fn direct() -> ringback::client::Client {
    use ringback::client::{Client, ClientOptions};
    use ringback::config::{Network, Proxy, Tls};
    let client = Client::new(&ClientOptions {
        network: Network { proxy: Proxy::None, ca_files: vec![], allow: None, hosts: BTreeMap::new() },
        proxy: Proxy::None,
        proxy_password: None,
        tls: Tls::default(),
        connect_timeout: std::time::Duration::from_secs(5),
        pool_idle_max: 2,
        unix_socket: None,
    });
    client.expect("a client")
}
