//! What we call over TLS, as a handler and as a source: an authority of the operator's own, client certificates, files that change
//! while the daemon runs, a name of TLS's own, and a server that is too old.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ringback::client::{Bounds, Outgoing, Over, SendError};
use ringback::model::{AttemptResult, DeliveryState, ErrorClass};
use ringback::poll::Fetch;
use ringback::{app, config, source};

use super::{ALL, Authority, Stub, acceptor};
use crate::ways::Bridge;

const PROVIDER: &str = "schema = 1\nbase_url = \"http://localhost\"\n[streams.payments]\npath = \"/p\"\nkey = \".id\"\ndetect = \"snapshot\"\n";
const TLS: &str = "tls = { ca_file = \"ca.pem\", cert = \"own.pem\", key = { file = \"own.key\" } }";

/// What a source with these keys sends by.
fn fetcher(folder: &Path, base_url: &str, keys: &str) -> Arc<dyn Fetch> {
    std::fs::write(folder.join("p.toml"), PROVIDER).expect("written");
    let text = format!("schema = 1\n[sources.core]\nprovider = \"./p.toml\"\nbase_url = \"{base_url}\"\n{keys}\n");
    std::fs::write(folder.join("config.toml"), text).expect("written");
    let shown = |faults: Vec<ringback::shape::Fault>| panic!("{}", ringback::shape::render(&faults, false));
    let (config, _) = config::load(&folder.join("config.toml")).unwrap_or_else(shown);
    let (sources, _) = source::join_all(&config, true).unwrap_or_else(|faults| panic!("{faults:?}"));
    let parts = app::sources_and_handlers(&config, sources).unwrap_or_else(|faults| panic!("{faults:?}"));
    parts.fetchers[0].1.clone()
}

pub async fn get(fetcher: &dyn Fetch, url: &str) -> Result<u16, SendError> {
    let url = url.parse().expect("an address");
    let request =
        Outgoing { method: http::Method::GET, url, headers: http::HeaderMap::new(), body: bytes::Bytes::new() };
    let bounds = Bounds { timeout: Duration::from_secs(10), body_max: 1 << 16, over: Over::Error };
    fetcher.fetch(request, bounds).await.map(|answer| answer.status)
}

#[tokio::test]
async fn a_source_shows_its_certificate_and_a_new_one_and_a_new_authority_without_a_restart() {
    let (bank, later) = (Authority::new("bank"), Authority::new("the bank's next"));
    let stub = Stub::listen(acceptor(&bank.issue(&["localhost"]), Some(&bank), ALL)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca.pem"), bank.pem()).expect("written");
    bank.issue(&["old.example"]).write(&path("own.pem"), &path("own.key"));
    let base = format!("https://localhost:{}", stub.port);
    let fetcher = fetcher(folder.path(), &base, TLS);
    assert_eq!(get(&*fetcher, &base).await, Ok(200));
    assert_eq!(stub.noted()[0].client, ["old.example"]);
    // Half of a change is of no use, and what was goes on.
    let new = bank.issue(&["new.example"]);
    std::fs::write(path("own.pem"), &new.cert).expect("written");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        assert_eq!(get(&*fetcher, &base).await, Ok(200));
    }
    assert_eq!(stub.noted().last().expect("a request").client, ["old.example"]);
    std::fs::write(path("own.key"), &new.key).expect("written");
    until(async || {
        get(&*fetcher, &base).await == Ok(200) && stub.noted().last().expect("one").client == ["new.example"]
    })
    .await;
    // The other side takes a certificate of another authority.
    *stub.acceptor.lock().expect("lock") = acceptor(&later.issue(&["localhost"]), Some(&bank), ALL);
    std::fs::write(path("ca.pem"), later.pem()).expect("written");
    let seen = stub.noted().len();
    until(async || get(&*fetcher, &base).await == Ok(200) && stub.noted().len() > seen).await;
}

async fn until(mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "it never comes to be so");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_name_of_its_own_is_asked_for_at_the_base_address_alone() {
    let bank = Authority::new("bank");
    let ledger = Stub::listen(acceptor(&bank.issue(&["ledger.bank.example"]), None, ALL)).await;
    let login = Stub::listen(acceptor(&bank.issue(&["localhost"]), None, ALL)).await;
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.pem"), bank.pem()).expect("written");
    let keys = "tls = { ca_file = \"ca.pem\", server_name = \"ledger.bank.example\" }";
    let (base, elsewhere) =
        (format!("https://127.0.0.1:{}", ledger.port), format!("https://localhost:{}/", login.port));
    let fetcher = fetcher(folder.path(), &base, keys);
    assert_eq!(get(&*fetcher, &base).await, Ok(200));
    assert_eq!(get(&*fetcher, &elsewhere).await, Ok(200));
    let noted = ledger.noted().remove(0);
    assert_eq!(noted.asked_for.as_deref(), Some("ledger.bank.example"));
    assert!(noted.head.contains(&format!("host: 127.0.0.1:{}\r\n", ledger.port)), "{}", noted.head);
    assert_eq!(login.noted().remove(0).asked_for.as_deref(), Some("localhost"));
}

#[tokio::test]
async fn a_source_refuses_another_authority_and_an_older_version() {
    let (bank, other) = (Authority::new("bank"), Authority::new("other"));
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.pem"), bank.pem()).expect("written");
    for (authority, versions, keys, why) in [
        (&other, ALL, "tls = { ca_file = \"ca.pem\" }", "invalid peer certificate"),
        (
            &bank,
            &[&rustls::version::TLS12][..],
            "tls = { ca_file = \"ca.pem\", min_version = \"1.3\" }",
            "protocol version",
        ),
    ] {
        let stub = Stub::listen(acceptor(&authority.issue(&["localhost"]), None, versions)).await;
        let base = format!("https://localhost:{}", stub.port);
        let said = get(&*fetcher(folder.path(), &base, keys), &base).await;
        let Err(SendError::Unreachable(reason)) = &said else { panic!("{why}: {said:?}") };
        assert!(reason.to_lowercase().replace("protocolversion", "protocol version").contains(why), "{reason}");
        assert!(stub.noted().is_empty());
    }
}

/// A handler whose files lie in a folder of the test's own.
async fn bridge(folder: &Path, url: &str, tls: &str) -> Bridge {
    let tls = tls.replace("{at}", &folder.display().to_string());
    Bridge::start(&format!("url = \"{url}\"\nsecret = {{ file = \"s.whsec\" }}\n{tls}"), "").await
}

#[tokio::test]
async fn a_handler_gets_our_certificate_by_its_own_name_and_a_new_one_without_a_restart() {
    let bank = Authority::new("bank");
    let stub = Stub::listen(acceptor(&bank.issue(&["ledger.bank.example"]), Some(&bank), ALL)).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("ca.pem"), bank.pem()).expect("written");
    bank.issue(&["old.example"]).write(&path("own.pem"), &path("own.key"));
    let tls = "tls = { ca_file = \"{at}/ca.pem\", cert = \"{at}/own.pem\", key = { file = \"{at}/own.key\" }, server_name = \"ledger.bank.example\" }";
    let bridge = bridge(folder.path(), &format!("https://127.0.0.1:{}/hooks", stub.port), tls).await;
    bridge.happens("a").await;
    let (state, attempts) = bridge.attempts("a", 1).await;
    assert_eq!(state, DeliveryState::Delivered, "{:?}", attempts[0].error);
    let timings = attempts[0].detail.timings;
    assert!(timings.tls.is_some_and(|tls| !tls.is_zero() && tls < attempts[0].duration), "{timings:?}");
    assert!(timings.connect.is_some_and(|tcp| tcp < attempts[0].duration), "{timings:?}");
    let noted = stub.noted().remove(0);
    assert_eq!(
        (noted.asked_for.as_deref(), noted.client),
        (Some("ledger.bank.example"), vec!["old.example".to_owned()])
    );
    assert!(noted.head.contains(&format!("host: 127.0.0.1:{}\r\n", stub.port)), "{}", noted.head);
    bank.issue(&["new.example"]).write(&path("own.pem"), &path("own.key"));
    let mut n = 0;
    until(async || {
        n += 1;
        bridge.happens(&format!("b{n}")).await;
        bridge.attempts(&format!("b{n}"), 1).await;
        stub.noted().last().expect("one").client == ["new.example"]
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_handlers_tls_is_told_as_such_and_costs_no_attempt() {
    let (bank, other) = (Authority::new("bank"), Authority::new("other"));
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("ca.pem"), bank.pem()).expect("written");
    let old = &[&rustls::version::TLS12][..];
    for (authority, names, versions, keys) in [
        (&other, &["localhost"], ALL, ""),
        (&bank, &["other.example"], ALL, ""),
        (&bank, &["localhost"], old, ", min_version = \"1.3\""),
    ] {
        let stub = Stub::listen(acceptor(&authority.issue(names), None, versions)).await;
        let tls = format!("tls = {{ ca_file = \"{{at}}/ca.pem\"{keys} }}");
        let bridge = bridge(folder.path(), &format!("https://localhost:{}/hooks", stub.port), &tls).await;
        bridge.happens("a").await;
        let (_, attempts) = bridge.attempts("a", 1).await;
        let seen = (attempts[0].result, attempts[0].detail.class);
        assert_eq!(seen, (AttemptResult::Unreachable, Some(ErrorClass::Tls)), "{:?}", attempts[0].error);
        let detail = bridge.store.event(&"evt_a".into()).await.expect("read").expect("there");
        assert_eq!(detail.deliveries[0].counted, 0);
        assert!(stub.noted().is_empty(), "no event was shown to it");
    }
}

#[test]
fn a_name_of_its_own_and_a_proxy_exclude_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "schema = 1\n[network]\nproxy = \"http://proxy.example:3128\"\n[sources.core]\nprovider = \"json-list\"\ntls = { server_name = \"a.example\" }\n";
    std::fs::write(folder.path().join("config.toml"), text).expect("written");
    let faults = config::load(&folder.path().join("config.toml")).expect_err("a fault");
    assert!(faults.iter().any(|fault| fault.message.contains("exclude each other")), "{faults:?}");
}
