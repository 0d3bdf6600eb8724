//! The tests inside provider files, run offline through the real parts: recorded pages become events, recorded requests a verdict.
//! Each test has a store of its own in a folder of its own, and begins with nothing known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::HeaderMap;

use crate::clock::Clock;
use crate::ingest::{Ingest, PageAnswer};
use crate::metrics::Metrics;
use crate::model::Timestamp;
use crate::provider::{Provider, ProviderTest};
use crate::receive::inbox::Inbox;
use crate::receive::message_id;
use crate::signature::Request;
use crate::source::{self, Source, Sources};
use crate::store::sqlite::SqliteStore;
use crate::store::{EventFilter, InboundRequest, NewInbound, PollEnd, PollResult, Store, StreamSetup, Which};
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
    if let Some(request) = &test.request {
        bench.request(&beside.join(request), test).await?;
    }
    for (n, pages) in test.polls.iter().enumerate() {
        let pages: Vec<PathBuf> = pages.iter().map(|page| beside.join(page)).collect();
        bench.poll(test, &pages).await.with_context(|| format!("poll {}", n + 1))?;
    }
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
            setup.streams.push(StreamSetup {
                name: stream.name.clone(),
                renamed_from: None,
                polled: stream.polled,
                definition: stream.definition.clone(),
                comparison: stream.comparison.clone(),
                first_due_in: Duration::ZERO,
            });
        }
        store.register(setup).await?;
        let ingest = Ingest::new(store.clone(), Arc::new(Subscriptions::default()), clock.clone(), Metrics::new());
        Ok(Bench { source, sources, store, ingest, clock, _folder: folder })
    }

    async fn poll(&self, test: &ProviderTest, pages: &[PathBuf]) -> anyhow::Result<()> {
        let wanted = test.stream.as_deref();
        let stream = self.source.streams.iter().find(|s| wanted.is_none_or(|name| *s.name.stream == *name));
        let stream = stream.context("the test names no stream of this provider")?;
        let claim = self.store.claim_stream(Which::Named(stream.name.clone()), Duration::from_secs(60)).await?;
        let claim = claim.context("the stream is not free")?;
        let lease = claim.lease.clone();
        let mut run = self.ingest.begin(stream, claim).await?;
        for page in pages {
            let body = std::fs::read(page).with_context(|| format!("read {}", page.display()))?;
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
        let url = recorded.url.as_ref();
        let request =
            Request { method: &recorded.method, url, headers: &headers, body: &body, settings: &self.source.settings };
        let now = test.now.unwrap_or_else(|| self.clock.now());
        let verdict = match &webhook.scheme {
            Some(scheme) => match scheme.verify(&request, &webhook.secrets, now) {
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
            let place = url::Position::BeforePath..url::Position::AfterQuery;
            let target = recorded.url.as_ref().map_or("/".into(), |url| url[place].to_owned());
            let request = InboundRequest { method: recorded.method.clone(), target, headers, body: Bytes::from(body) };
            let message_id = message_id(&self.source, &request);
            let inbound = NewInbound { source: self.source.name.clone(), message_id, request: Arc::new(request) };
            self.store.put_inbound(inbound).await?;
            let inbox = Inbox::new(self.store.clone(), self.ingest.clone(), self.sources.clone(), Metrics::new());
            inbox.step().await.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }

    async fn events(&self) -> anyhow::Result<Vec<String>> {
        let page = self.store.events(EventFilter { limit: 10_000, ..EventFilter::default() }).await?;
        let mut lines: Vec<String> =
            page.events.iter().map(|event| format!("{} {}", event.event_type, event.key)).collect();
        lines.reverse();
        Ok(lines)
    }
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
    let polled = test.stream.iter().filter(|_| test.request.is_none());
    let streams = polled.map(|name| {
        let stream =
            toml::Table::from_iter([("enabled".to_owned(), true.into()), ("first_run".to_owned(), text("send-all"))]);
        (name.clone(), toml::Value::from(stream))
    });
    source.insert("streams".into(), toml::Table::from_iter(streams).into());
    if test.request.is_some() {
        let key = secret("webhook", given.get("webhook").unwrap_or(&"test"))?;
        source.insert("webhook".into(), toml::Table::from_iter([("secret".to_owned(), key)]).into());
    }
    let sources = toml::Table::from_iter([("test".to_owned(), toml::Value::from(source))]);
    let config = toml::Table::from_iter([("schema".to_owned(), 1.into()), ("sources".to_owned(), sources.into())]);
    Ok(toml::to_string(&config)?)
}

fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
