//! What closed networks have: the examples are shipped with recorded pages, and statements from a folder become signed work without
//! an address to call.

use std::time::Duration;

use ringback::clock::Clock;
use ringback::ingest::Ingest;
use ringback::metrics::Metrics;
use ringback::model::Timestamp;
use ringback::poll::Poller;
use ringback::store::sqlite::SqliteStore;
use ringback::store::{EventFilter, Setup, Store};
use ringback::subscription::Subscriptions;
use ringback::{client, config, provider, source};

#[test]
fn the_examples_for_closed_networks_are_shipped_with_recorded_pages() {
    for name in ["berlin-group", "iso20022", "soap-core", "csv-export", "atom-feed", "json-list"] {
        let file = provider::built_in(name).unwrap_or_else(|| panic!("{name} is not built in"));
        let Ok((provider, _)) = provider::read(file) else { panic!("{name} cannot be read") };
        for stream in &provider.streams {
            let tested = provider.tests.iter().any(|test| test.stream.as_ref() == Some(&stream.name));
            assert!(tested && stream.is_polled(), "{name}: stream {} has no recorded pages", stream.name);
        }
    }
}

#[tokio::test]
async fn statements_that_are_dropped_into_a_folder_become_events() {
    let folder = tempfile::tempdir().expect("a folder");
    let inbox = folder.path().join("in");
    std::fs::create_dir(&inbox).expect("made");
    let text = format!(
        "schema = 1\n[sources.bank]\nprovider = \"iso20022\"\nonly = [\"entries\", \"balances\"]\nsettings.statements = \"{}/*.xml\"\n",
        inbox.display()
    );
    std::fs::write(folder.path().join("config.toml"), text).expect("written");
    let show = |faults: Vec<ringback::shape::Fault>| panic!("{}", ringback::shape::render(&faults, false));
    let (config, _) = config::load(&folder.path().join("config.toml")).unwrap_or_else(show);
    let (sources, _) = source::join_all(&config, true).unwrap_or_else(|faults| panic!("{faults:?}"));
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("after 1970").as_millis();
    let clock = Clock::manual(Timestamp(i64::try_from(now).expect("a time")));
    let store = std::sync::Arc::new(SqliteStore::open(&folder.path().join("t.db"), clock.clone()).expect("a store"));
    let mut setup = Setup::default();
    for stream in sources.values().flat_map(|source| &source.streams) {
        setup.streams.push(ringback::ingest::stream_setup(stream));
    }
    store.register(setup).await.expect("registered");
    let metrics = Metrics::new();
    let ingest =
        Ingest::new(store.clone(), std::sync::Arc::new(Subscriptions::default()), clock.clone(), metrics.clone());
    let poller = Poller::new(store.clone(), std::sync::Arc::new(ingest), clock.clone(), metrics);
    poller.load(sources.values().map(|source| (source.clone(), nobody())).collect());
    let poll = async |name: &str| {
        let stream = ringback::model::StreamName::new("bank", name);
        let report = poller.poll_once(&stream, ringback::poll::Mode::Normal).await.expect("polled");
        assert!(report.error.is_none(), "{:?}", report.error);
    };
    for name in ["entries", "balances"] {
        poll(name).await;
    }
    let recorded = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("providers/fixtures/iso20022");
    for (n, name) in ["statement-1.xml", "statement-2.xml"].iter().enumerate() {
        std::fs::copy(recorded.join(name), inbox.join(format!("{n}.xml"))).expect("dropped");
    }
    clock.advance(Duration::from_secs(120));
    for name in ["entries", "balances"] {
        poll(name).await;
    }
    let page = store.events(EventFilter { limit: 100, ..EventFilter::default() }).await.expect("events");
    let mut told: Vec<String> = page.events.iter().map(|event| format!("{} {}", event.event_type, event.key)).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "balance.changed DE89370400440532013000",
            "balance.known DE02120300000000202051",
            "balance.known DE89370400440532013000",
            "entry.booked DE89370400440532013000/2026010500001",
            "entry.booked DE89370400440532013000/2026010500002",
            "entry.booked DE89370400440532013000/2026010600001",
        ]
    );
}

/// Whoever asks the network here is wrong.
fn nobody() -> std::sync::Arc<dyn ringback::poll::Fetch> {
    struct Nobody;
    #[async_trait::async_trait]
    impl ringback::poll::Fetch for Nobody {
        async fn fetch(
            &self,
            request: client::Outgoing,
            _: client::Bounds,
        ) -> Result<client::Incoming, client::SendError> {
            panic!("{} was asked for", request.url)
        }
    }
    std::sync::Arc::new(Nobody)
}
