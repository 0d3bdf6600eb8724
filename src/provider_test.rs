//! The tests inside provider files, run offline through the real parts: recorded pages become events, recorded requests a verdict.
//! Each test has a store of its own in a folder of its own, and begins with nothing known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;

use crate::clock::Clock;
use crate::deliver::{Emission, emit};
use crate::ingest::{Ingest, PageAnswer};
use crate::metrics::Metrics;
use crate::model::{Event, Timestamp};
use crate::provider::{Provider, ProviderTest};
use crate::receive::inbox::Inbox;
use crate::receive::{Posted, Receiver, message_id};
use crate::secret::Secret;
use crate::signature::{KeyEncoding, Request};
use crate::source::{self, Source, Sources};
use crate::store::sqlite::SqliteStore;
use crate::store::{
    ClaimedDelivery, DeliveryId, EventFilter, InboundRequest, NewInbound, PollEnd, PollResult, Store, Which,
};
use crate::subscription::Subscriptions;
use crate::worker::Step as _;

/// What one test came to.
pub struct TestOutcome {
    pub name: String,
    /// None: passed.
    pub fault: Option<String>,
}

/// The provider files of a folder, by name.
pub fn files_in(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("read {}: name the provider files instead", folder.display()))?;
    let mut files: Vec<PathBuf> =
        entries.flatten().map(|e| e.path()).filter(|p| p.extension().is_some_and(|e| e == "toml")).collect();
    files.sort();
    Ok(files)
}

/// Runs every test of a provider file.
pub async fn run(provider: Provider, file: &Path) -> Vec<TestOutcome> {
    let mut outcomes = Vec::new();
    for test in &provider.tests {
        let fault = match one(&provider, file, test).await {
            Ok(()) => None,
            Err(error) => Some(format!("{error:#}")),
        };
        outcomes.push(TestOutcome { name: test.name.clone(), fault });
    }
    outcomes
}

async fn one(provider: &Provider, file: &Path, test: &ProviderTest) -> anyhow::Result<()> {
    let bench = Bench::new(provider, file, test).await?;
    // Recorded files lie beside the provider file.
    let beside = file.parent().unwrap_or(Path::new(""));
    if let (Some(request), Some(answer)) = (&test.request, &test.answer) {
        return bench.challenge(&beside.join(request), answer).await;
    }
    let (before, after) = test.polls.split_at(test.request_after.min(test.polls.len()));
    for (n, pages) in before.iter().enumerate() {
        bench.poll(test, beside, pages).await.with_context(|| format!("poll {}", n + 1))?;
    }
    if let Some(request) = &test.request {
        bench.request(&beside.join(request), test).await?;
    }
    for (n, pages) in after.iter().enumerate() {
        bench.poll(test, beside, pages).await.with_context(|| format!("poll {}", before.len() + n + 1))?;
    }
    if let Some(native) = &test.native {
        bench.native(beside, native, test).await?;
    }
    bench.emission_is_verified(beside, test).await?;
    if test.polls.is_empty() && test.expect.is_empty() {
        return Ok(());
    }
    let got = bench.events().await?;
    if got == test.expect {
        return Ok(());
    }
    let list = |lines: &[String]| lines.iter().map(|line| format!("    {line}\n")).collect::<String>();
    bail!("  expected:\n{}  got:\n{}", list(&test.expect), list(&got))
}

/// The real parts around one source, in a folder that goes with the test.
struct Bench {
    source: Arc<Source>,
    sources: Sources,
    store: Arc<dyn Store>,
    ingest: Arc<Ingest>,
    clock: Clock,
    _folder: Folder,
}

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    async fn new(provider: &Provider, file: &Path, test: &ProviderTest) -> anyhow::Result<Bench> {
        let folder = Folder(std::env::temp_dir().join(format!("ringback-test-{}-{}", std::process::id(), unique())));
        std::fs::create_dir_all(&folder.0)?;
        let config = config_of(provider, file, test, &folder.0)?;
        let path = folder.0.join("config.toml");
        std::fs::write(&path, config)?;
        let show = |faults: Vec<crate::shape::Fault>| anyhow::anyhow!("{}", crate::shape::render(&faults, false));
        let (config, _) = crate::config::load(&path).map_err(show)?;
        let (sources, _) = source::join_all(&config, true).map_err(show)?;
        let source = sources.values().next().cloned().context("the test's source is missing")?;
        // Without a time of its own a test begins in 1970: whatever it records was made after the stream began.
        let clock = Clock::manual(test.now.unwrap_or(Timestamp(0)));
        let store: Arc<dyn Store> = Arc::new(SqliteStore::open(&folder.0.join("test.db"), clock.clone())?);
        let mut setup = crate::store::Setup::default();
        for stream in &source.streams {
            setup.streams.push(crate::ingest::stream_setup(stream));
        }
        store.register(setup).await?;
        let ingest = Ingest::new(store.clone(), Arc::new(Subscriptions::default()), clock.clone(), Metrics::new());
        Ok(Bench { source, sources, store, ingest, clock, _folder: folder })
    }

    async fn poll(&self, test: &ProviderTest, beside: &Path, pages: &[PathBuf]) -> anyhow::Result<()> {
        let wanted = test.stream.as_deref();
        let stream = self.source.streams.iter().find(|s| wanted.is_none_or(|name| *s.name.stream == *name));
        let stream = stream.context("the test names no stream of this provider")?;
        let claim = self.store.claim_stream(Which::Named(stream.name.clone()), Duration::from_secs(60)).await?;
        let claim = claim.context("the stream is not free")?;
        let lease = claim.lease.clone();
        let mut run = self.ingest.begin(stream, claim).await?;
        for page in pages {
            let page = beside.join(page);
            let body = std::fs::read(&page).with_context(|| format!("read {}", page.display()))?;
            let answer = PageAnswer { body: Bytes::from(body), headers: HeaderMap::new(), date: None };
            run.page(answer).await.with_context(|| page.display().to_string())?;
        }
        let report = run.finish(None).await?;
        let end = PollEnd {
            next_in: Duration::from_secs(60),
            result: PollResult::Ok,
            records: report.records,
            changes: report.events,
            pages: pages.len() as u64,
            duration: Duration::ZERO,
            error: None,
            memory: None,
        };
        self.store.finish_poll(&lease, end).await?;
        self.clock.advance(Duration::from_secs(60));
        if report.unreadable > 0 {
            bail!("{} record(s) could not be read", report.unreadable);
        }
        Ok(())
    }

    async fn request(&self, file: &Path, test: &ProviderTest) -> anyhow::Result<()> {
        let recorded = crate::recorded::Recorded::read(file)?;
        let (headers, body) = (recorded.headers(), recorded.body()?);
        let webhook = self.source.webhook.as_ref().context("the provider has no real webhooks")?;
        let url = recorded.url.as_deref();
        let request =
            Request { method: &recorded.method, url, headers: &headers, body: &body, settings: &self.source.settings };
        let now = test.now.unwrap_or_else(|| self.clock.now());
        let verdict = match &webhook.scheme {
            Some(scheme) => match scheme.verify(&request, webhook.keys(), now) {
                Ok(_) => "accept",
                Err(refusal) => refusal.as_str(),
            },
            None => "accept",
        };
        let wanted = test.verdict.as_deref().unwrap_or("accept");
        if verdict != wanted {
            bail!("  the verdict is `{verdict}`, expected was `{wanted}`");
        }
        if verdict == "accept" {
            let target = recorded.target();
            let request = InboundRequest { method: recorded.method.clone(), target, headers, body: Bytes::from(body) };
            let message_id = message_id(&self.source, &request);
            let inbound = NewInbound { source: self.source.name.clone(), message_id, request: Arc::new(request) };
            self.store.put_inbound(inbound).await?;
            let inbox = Inbox::new(self.store.clone(), self.ingest.clone(), self.sources.clone(), Metrics::new());
            inbox.step().await.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }

    /// A challenge goes through the way in itself.
    async fn challenge(&self, file: &Path, wanted: &str) -> anyhow::Result<()> {
        let recorded = crate::recorded::Recorded::read(file)?;
        let mut headers = HeaderMap::new();
        for (name, value) in recorded.headers() {
            headers.append(http::HeaderName::from_bytes(name.as_bytes())?, http::HeaderValue::from_str(&value)?);
        }
        let rate = crate::config::Rate { count: 1_000, per: Duration::from_secs(1) };
        let (store, clock) = (self.store.clone(), self.clock.clone());
        let receiver = Receiver::new(&self.sources, store, clock, Metrics::new(), rate, 1 << 20);
        let path = format!("/webhooks/{}", self.source.name);
        let query = recorded.target().split_once('?').map(|(_, query)| format!("?{query}")).unwrap_or_default();
        let (method, target) = (recorded.method.parse()?, format!("{path}{query}"));
        let body = Bytes::from(recorded.body()?);
        let posted = Posted { method: &method, path: &path, target: &target, headers: &headers, body };
        let answer = receiver.handle(posted).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await?.to_bytes();
        let got = match status {
            200..=299 => String::from_utf8_lossy(&body).into_owned(),
            refused => refused.to_string(),
        };
        if got != wanted {
            bail!("  the answer is `{got}`, expected was `{wanted}`");
        }
        if !self.store.claim_inbounds(Duration::from_secs(1), 1).await?.is_empty() {
            bail!("  the request was stored as a webhook, it was not seen as a challenge");
        }
        Ok(())
    }

    /// What `native` sends for the last event is the recorded request: its body, and the headers that are named.
    async fn native(&self, beside: &Path, file: &Path, test: &ProviderTest) -> anyhow::Result<()> {
        let wanted = crate::recorded::Recorded::read(&beside.join(file))?;
        let url: url::Url = wanted.url.as_deref().unwrap_or("https://handler.example/hook").parse()?;
        let secret = test.secrets.iter().find(|(name, _)| name == "webhook").map_or("test", |(_, value)| value);
        let event = self.last_event().await?.context("there is no event to emit")?;
        let delivery = delivery_of(event, beside, test)?;
        let sent = self.emit(&delivery, test, &Secret::new(secret), &url)?;
        let body = String::from_utf8_lossy(&sent.body);
        let expected = wanted.body()?;
        if sent.body != expected {
            bail!("  the body is\n    {body}\n  expected was\n    {}", String::from_utf8_lossy(&expected));
        }
        for (name, value) in wanted.headers() {
            let got = sent.headers.get(&name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
            if got.as_deref() != Some(value.as_str()) {
                bail!("  header `{name}` is {got:?}, expected was `{value}`");
            }
        }
        Ok(())
    }

    /// What `native` would send for the last event is verified by the scheme that signed it. Where the provider signs with a
    /// private key there is none to try with.
    async fn emission_is_verified(&self, beside: &Path, test: &ProviderTest) -> anyhow::Result<()> {
        let native = self.source.provider.native.as_ref();
        let named = test.scheme.as_deref().or_else(|| native.and_then(|native| native.scheme.as_deref()));
        let schemes = self.source.provider.webhook.iter().flat_map(|webhook| &webhook.schemes);
        let scheme = schemes.into_iter().find(|scheme| named.is_none_or(|name| scheme.name == name));
        let Some(scheme) = scheme.filter(|scheme| !scheme.is_asymmetric()) else { return Ok(()) };
        let Some(event) = self.last_event().await?.filter(|event| event.data.is_some()) else { return Ok(()) };
        if native.is_none_or(|native| native.impossible.is_some()) {
            return Ok(());
        }
        let secret = match scheme.key_encoding {
            KeyEncoding::Hex => "00ff",
            KeyEncoding::Whsec => "whsec_AQID",
            _ => "test",
        };
        let (secret, url) = (Secret::new(secret), url::Url::parse("https://handler.example/hook")?);
        let delivery = delivery_of(event, beside, test)?;
        let sent = self.emit(&delivery, test, &secret, &url)?;
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let headers: Vec<(String, String)> =
            sent.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
        let request = Request {
            method: "POST",
            url: Some(sent.url.as_str()),
            headers: &headers,
            body: &sent.body,
            settings: &self.source.settings,
        };
        match scheme.verify(&request, &[secret], test.now.unwrap_or(Timestamp(0))) {
            Ok(_) => Ok(()),
            Err(refusal) => bail!("  what `native` sends would be refused by scheme `{}`: {refusal}", scheme.name),
        }
    }

    fn emit(
        &self,
        delivery: &ClaimedDelivery,
        test: &ProviderTest,
        secret: &Secret,
        url: &url::Url,
    ) -> anyhow::Result<crate::client::Outgoing> {
        let secrets = std::slice::from_ref(secret);
        let emission = Emission { source: &self.source, scheme: test.scheme.as_deref(), secrets, url, signed_url: url };
        let sent = emit(&emission, delivery, test.now.unwrap_or(Timestamp(0)));
        sent.map_err(|error| anyhow::anyhow!("  nothing is emitted in native form: {error}"))
    }

    async fn last_event(&self) -> anyhow::Result<Option<Event>> {
        let page = self.store.events(EventFilter { limit: 1, ..EventFilter::default() }).await?;
        let Some(last) = page.events.first() else { return Ok(None) };
        Ok(self.store.event(&last.id).await?.map(|detail| detail.event))
    }

    async fn events(&self) -> anyhow::Result<Vec<String>> {
        let page = self.store.events(EventFilter { limit: 10_000, ..EventFilter::default() }).await?;
        let mut lines: Vec<String> =
            page.events.iter().map(|event| format!("{} {}", event.event_type, event.key)).collect();
        lines.reverse();
        Ok(lines)
    }
}

/// A first attempt to deliver an event, with the real webhook that led to it.
fn delivery_of(event: Event, beside: &Path, test: &ProviderTest) -> anyhow::Result<ClaimedDelivery> {
    let inbound = test.request.as_ref().map(|request| inbound_of(&beside.join(request))).transpose()?;
    Ok(ClaimedDelivery {
        id: DeliveryId(1),
        lease: 1,
        handler: "test".into(),
        event: Arc::new(event),
        inbound,
        counted: 0,
        attempts: 0,
        first_due_at: Timestamp(0),
        replay: false,
        strain: 0,
    })
}

fn inbound_of(request: &Path) -> anyhow::Result<Arc<InboundRequest>> {
    let recorded = crate::recorded::Recorded::read(request)?;
    let (headers, body) = (recorded.headers(), Bytes::from(recorded.body()?));
    let (method, target) = (recorded.method.clone(), recorded.target());
    Ok(Arc::new(InboundRequest { method, target, headers, body }))
}

/// The smallest configuration around the provider, with the test's settings and secrets.
fn config_of(provider: &Provider, file: &Path, test: &ProviderTest, folder: &Path) -> anyhow::Result<String> {
    let text = |text: &str| toml::Value::String(text.to_owned());
    let secret = |name: &str, value: &str| -> anyhow::Result<toml::Value> {
        std::fs::write(folder.join(format!("{name}.secret")), value)?;
        Ok(toml::Table::from_iter([("file".to_owned(), text(&format!("{name}.secret")))]).into())
    };
    let given: BTreeMap<&str, &str> =
        test.secrets.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut source = toml::Table::new();
    source.insert("provider".into(), text(&std::path::absolute(file)?.to_string_lossy()));
    let mut secrets = toml::Table::new();
    for spec in &provider.secrets {
        secrets.insert(spec.name.clone(), secret(&spec.name, given.get(spec.name.as_str()).unwrap_or(&"test"))?);
    }
    source.insert("secrets".into(), secrets.into());
    let mut settings = toml::Table::new();
    for spec in provider.settings.iter().filter(|spec| spec.default.is_none()) {
        settings.insert(spec.name.clone(), text("http://test.invalid"));
    }
    for (name, value) in &test.settings {
        settings.insert(name.clone(), toml::Value::try_from(value).context("a test's setting")?);
    }
    source.insert("settings".into(), settings.into());
    let polled = test.stream.iter().filter(|_| !test.polls.is_empty() || test.request.is_none());
    let streams = polled.map(|name| {
        let stream =
            toml::Table::from_iter([("enabled".to_owned(), true.into()), ("first_run".to_owned(), text("send-all"))]);
        (name.clone(), toml::Value::from(stream))
    });
    source.insert("streams".into(), toml::Table::from_iter(streams).into());
    if let (true, Some(webhook)) = (test.request.is_some(), &provider.webhook) {
        let named = test.scheme.as_ref();
        let scheme = webhook.schemes.iter().find(|scheme| named.is_none_or(|name| scheme.name == *name));
        let scheme = scheme.context("the test names no signature scheme of this provider")?;
        // A public key may be many lines long: it stands in a file as well as in the test.
        let value = given.get("webhook").copied().unwrap_or("test");
        let value = match value.strip_prefix("file:") {
            Some(path) => std::fs::read_to_string(file.parent().unwrap_or(Path::new("")).join(path))
                .with_context(|| format!("read {path}"))?,
            None => value.to_owned(),
        };
        let key = secret("webhook", &value)?;
        let word = if scheme.is_asymmetric() { "public_key" } else { "secret" };
        let mut table = toml::Table::from_iter([(word.to_owned(), key), ("scheme".to_owned(), text(&scheme.name))]);
        let recorded = test.request.as_ref().map(|request| file.parent().unwrap_or(Path::new("")).join(request));
        let url = recorded.and_then(|path| crate::recorded::Recorded::read(&path).ok()).and_then(|r| r.url);
        if let Some(url) = url {
            table.insert("url".into(), text(url.split('?').next().unwrap_or_default()));
        }
        source.insert("webhook".into(), table.into());
    }
    let sources = toml::Table::from_iter([("test".to_owned(), toml::Value::from(source))]);
    let config = toml::Table::from_iter([("schema".to_owned(), 1.into()), ("sources".to_owned(), sources.into())]);
    Ok(toml::to_string(&config)?)
}

fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
