//! What an attempt is made of: the event as stored, and the handler as it is configured at that moment (RULES R7.6).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use ringback::client::{Bounds, Exchange, Incoming, Outgoing, SendError};
use ringback::clock::Clock;
use ringback::config;
use ringback::deliver::{Deliverer, Handler, Handlers};
use ringback::metrics::Metrics;
use ringback::model::Timestamp;
use ringback::secret::Secret;
use ringback::store::Store;
use ringback::store::sqlite::SqliteStore;
use ringback::worker::Step;

use crate::outbox::{happens, setup};

const FORMER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const LATER: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Notes requests; takes nothing until it is well.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>);

#[async_trait]
impl Exchange for Ear {
    async fn exchange(&self, request: Outgoing, _: Bounds) -> Result<Incoming, SendError> {
        let mut heard = self.0.lock().expect("lock");
        heard.push((request.url.to_string(), request.headers, request.body));
        let status = if heard.len() < 3 { 500 } else { 204 };
        Ok(Incoming { status, headers: HeaderMap::new(), body: Bytes::new() })
    }
}

fn handlers(folder: &tempfile::TempDir, url: &str, secret: &str, ear: &Ear) -> Handlers {
    let path = folder.path().join("config.toml");
    std::fs::write(&path, format!("schema = 1\n[handlers.h]\nurl = \"{url}\"\nsecret = {{ env = \"NONE\" }}\n"))
        .expect("written");
    let (config, _) = config::load(&path).expect("good");
    let handler = Handler::new(config.handlers["h"].clone(), ear.clone(), vec![Secret::new(secret)], BTreeMap::new());
    Handlers::from([("h".into(), Arc::new(handler.expect("a handler")))])
}

#[tokio::test]
async fn r7_6_an_attempt_takes_address_and_secret_of_its_moment_and_the_same_bytes() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = Clock::manual(Timestamp(1_763_630_400_000));
    let store: Arc<dyn Store> =
        Arc::new(SqliteStore::open(&folder.path().join("t.db"), clock.clone()).expect("a store"));
    store.register(setup(["h".into()])).await.expect("registered");
    let ear = Ear::default();
    let former = handlers(&folder, "http://127.0.0.1:9/former", FORMER, &ear);
    let deliverer = Deliverer::new(store.clone(), former, clock.clone(), Metrics::new());
    happens(&*store, "a", &[("h", None)]).await;
    for attempt in 0..3 {
        if attempt == 2 {
            deliverer.replace(handlers(&folder, "http://127.0.0.1:9/later", LATER, &ear));
        }
        deliverer.step().await.expect("a step");
        deliverer.drain(Duration::from_secs(60)).await;
        clock.advance(Duration::from_secs(600));
    }
    let heard = ear.0.lock().expect("lock").clone();
    let addresses: Vec<&str> = heard.iter().map(|(url, ..)| url.rsplit('/').next().expect("a path")).collect();
    assert_eq!(addresses, ["former", "former", "later"]);
    assert!(heard.iter().all(|(_, headers, body)| *body == heard[0].2 && headers["webhook-id"] == "evt_a"));
    for ((_, headers, body), secret) in heard.iter().zip([FORMER, FORMER, LATER]) {
        let judge = standardwebhooks::Webhook::new(secret).expect("a secret");
        let at: i64 = headers["webhook-timestamp"].to_str().expect("text").parse().expect("a number");
        let wanted = judge.sign("evt_a", at, body).expect("signed");
        assert_eq!(headers["webhook-signature"], wanted.as_str(), "with the secret of its moment");
    }
    let times: Vec<_> = heard.iter().map(|(_, headers, _)| headers["webhook-timestamp"].clone()).collect();
    assert!(times.windows(2).all(|pair| pair[0] != pair[1]), "signed anew each time: {times:?}");
}
