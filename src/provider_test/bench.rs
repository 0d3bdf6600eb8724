//! The real parts around one source: recorded pages and requests go in, events come out.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::HeaderMap;
use http_body_util::BodyExt as _;

use super::config::config_of;
use crate::clock::Clock;
use crate::ingest::{Ingest, PageAnswer, stream_setup};
use crate::metrics::Metrics;
use crate::model::{Event, Timestamp};
use crate::provider::{Provider, ProviderTest};
use crate::receive::inbox::Inbox;
use crate::receive::{Posted, Receiver, message_id};
use crate::recorded::Recorded;
use crate::signature::Request;
use crate::source::{self, Source, Sources};
use crate::store::sqlite::SqliteStore;
use crate::store::{EventFilter, InboundRequest, NewInbound, PollEnd, PollResult, Setup, Store, Which};
use crate::subscription::Subscriptions;
use crate::worker::Step as _;

/// The real parts around one source, in a folder that goes with the test.
pub(super) struct Bench {
    pub(super) source: Arc<Source>,
    sources: Sources,
    store: Arc<dyn Store>,
    ingest: Arc<Ingest>,
    clock: Clock,
    _folder: Folder,
}

/// Removed with everything in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Bench {
    pub(super) async fn new(provider: &Provider, file: &Path, test: &ProviderTest) -> anyhow::Result<Bench> {
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
        let streams = source.streams.iter().map(|stream| stream_setup(stream)).collect();
        store.register(Setup { streams, ..Setup::default() }).await?;
        let ingest = Ingest::new(store.clone(), Arc::new(Subscriptions::default()), clock.clone(), Metrics::new());
        Ok(Bench { source, sources, store, ingest, clock, _folder: folder })
    }

    pub(super) async fn poll(&self, test: &ProviderTest, pages: &[PathBuf]) -> anyhow::Result<()> {
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

    pub(super) async fn request(&self, file: &Path, test: &ProviderTest) -> anyhow::Result<()> {
        let recorded = Recorded::read(file)?;
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
            let request = inbound_of(&recorded)?;
            let message_id = message_id(&self.source, &request);
            let inbound = NewInbound { source: self.source.name.clone(), message_id, request: Arc::new(request) };
            self.store.put_inbound(inbound).await?;
            let inbox = Inbox::new(self.store.clone(), self.ingest.clone(), self.sources.clone(), Metrics::new());
            inbox.step().await.map_err(|error| anyhow::anyhow!("{error}"))?;
        }
        Ok(())
    }

    /// A challenge goes through the way in itself.
    pub(super) async fn challenge(&self, file: &Path, wanted: &str) -> anyhow::Result<()> {
        let recorded = Recorded::read(file)?;
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

    pub(super) async fn last_event(&self) -> anyhow::Result<Option<Event>> {
        let page = self.store.events(EventFilter { limit: 1, ..EventFilter::default() }).await?;
        let Some(last) = page.events.first() else { return Ok(None) };
        Ok(self.store.event(&last.id).await?.map(|detail| detail.event))
    }

    pub(super) async fn events(&self) -> anyhow::Result<Vec<String>> {
        let page = self.store.events(EventFilter { limit: 10_000, ..EventFilter::default() }).await?;
        let mut lines: Vec<String> =
            page.events.iter().map(|event| format!("{} {}", event.event_type, event.key)).collect();
        lines.reverse();
        Ok(lines)
    }
}

/// A recorded request as it would be stored.
pub(super) fn inbound_of(recorded: &Recorded) -> anyhow::Result<InboundRequest> {
    let (headers, body) = (recorded.headers(), Bytes::from(recorded.body()?));
    Ok(InboundRequest { method: recorded.method.clone(), target: recorded.target(), headers, body })
}

fn unique() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
