//! Credentials as they go out, and whose budget they spend.

use super::*;
use crate::poll::fixtures::{source, stream, template};
use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;

fn with(auth: Auth, host: &str) -> (std::sync::Arc<Source>, Result<Credential>) {
    let source = source(host, vec![stream("items")], |source, _| source.auth = auth);
    let credential = Credential::of(&source);
    (source, credential)
}

fn sent(auth: Auth, url: &str) -> Outgoing {
    let (_, credential) = with(auth, "https://api.example");
    let url = Url::parse(url).expect("a URL");
    let mut out = Outgoing { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() };
    credential.expect("a credential").apply(&mut out, &Pass::default(), Timestamp(0)).expect("applied");
    out
}

fn basic(user: &str) -> Auth {
    Auth::Basic { username: template(user), password: template("{{ secrets.password }}") }
}

fn key(place: KeyPlace) -> Auth {
    Auth::ApiKey { place, name: "api_key".into(), value: template("{{ secrets.key }}") }
}

#[test]
fn each_kind_goes_where_the_provider_looks_for_it() {
    let out = sent(basic("{{ secrets.user }}"), "https://api.example/");
    assert_eq!(out.headers["authorization"], format!("Basic {}", STANDARD.encode("svc:p:w d")));
    assert!(out.headers["authorization"].is_sensitive());
    let out = sent(Auth::Bearer { token: template("{{ secrets.key }}") }, "https://api.example/");
    assert_eq!(out.headers["authorization"], "Bearer s3cr/t");
    let out = sent(key(KeyPlace::Header), "https://api.example/");
    assert_eq!(out.headers["api_key"], "s3cr/t");
    for (url, want) in [
        ("https://api.example/x?a=%20b", "a=%20b&api_key=s3cr%2Ft"),
        ("https://api.example/x", "api_key=s3cr%2Ft"),
        ("https://api.example/x?api_key=old&a=1", "a=1&api_key=s3cr%2Ft"),
    ] {
        assert_eq!(sent(key(KeyPlace::Query), url).url.query(), Some(want), "{url}");
    }
    let out = sent(key(KeyPlace::Cookie), "https://api.example/");
    assert_eq!(out.headers["cookie"], "api_key=s3cr/t");
    let out = sent(Auth::None, "https://api.example/x");
    assert!(out.headers.is_empty() && out.url.query().is_none());
}

#[test]
fn a_credential_that_cannot_be_sent_is_a_fault_and_shows_no_secret() {
    for auth in [
        basic("a:b"),
        Auth::Bearer { token: template("{{ secrets.missing }}") },
        Auth::Bearer { token: template("{{ secrets.key }}\n") },
        Auth::ApiKey { place: KeyPlace::Cookie, name: "k".into(), value: template("{{ secrets.password }}") },
    ] {
        let fault = with(auth, "https://api.example").1.expect_err("a fault");
        assert!(!fault.to_string().contains("s3cr"), "{fault}");
    }
    assert_eq!(format!("{:?}", with(key(KeyPlace::Query), "https://x.example").1.expect("fine")), "***");
}

#[test]
fn equal_credentials_on_one_host_share_a_budget_and_others_do_not() {
    let budget = |auth, host| {
        let (source, credential) = with(auth, host);
        credential.expect("a credential").budget_key(&source)
    };
    let one = budget(key(KeyPlace::Header), "https://api.example/v1");
    assert_eq!(one, budget(key(KeyPlace::Header), "https://api.example/v2"));
    assert_ne!(one, budget(key(KeyPlace::Header), "https://other.example/v1"));
    assert_ne!(one, budget(basic("u"), "https://api.example/v1"));
    assert_ne!(one, budget(Auth::None, "https://api.example/v1"));
    assert!(!one.contains("s3cr"));
}
