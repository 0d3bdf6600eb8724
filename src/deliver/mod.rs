//! From the outbox to handlers: claim due deliveries, sign, send, settle. The outbox is the only truth; a crash here leaves
//! leases behind, and the next start sends again what was not settled, with the same ids.
//!
//! Each handler has its own permits, so a dead or slow one delays nobody else. The permit of an attempt that went well is given back
//! before it is settled: sending never waits for the disk. After a failure it is kept until the store knows, as the handler may have
//! to be left alone.

mod breaker;
mod broker;
mod context;
mod custom;
mod exec;
mod file;
mod format;
mod mail;
mod outcome;
mod rate;
mod sent;
mod settling;
mod standing;
mod transport;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::HeaderName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{error, warn};

use crate::client::Exchange;
use crate::clock::Clock;
use crate::config;
use crate::metrics::Metrics;
use crate::model::{Attempt, AttemptDetail, AttemptResult, HandlerName, SourceName, Timestamp, Trigger};
use crate::secret::Secret;
use crate::signature::StandardSigner;
use crate::source::Source;
use crate::store::{ClaimedDelivery, DeliveryId, Outcome, Settled, Store, StoreError, Topic, Wake};
use crate::worker::{Progress, Step, StepError};
use breaker::Breaker;
pub use broker::{Broker, open as open_broker};
use custom::Header;
pub use format::{Emission, emit};
pub use mail::Mailer;
use rate::Rate;
use settling::{Ended, Settling, Turn};
use standing::{Change, Standing};
use transport::Carried;
pub use transport::Transport;

/// Added to the longest handler timeout: a lease outlives its attempt.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// A handler as it works.
pub struct Handler {
    pub config: config::Handler,
    pub transport: Transport,
    pub secrets: Vec<Secret>,
    /// Err: why nothing can be signed in the standard format. None: nothing is, for want of a secret that need not be there.
    signer: Result<Option<StandardSigner>, String>,
    headers: Vec<(HeaderName, Header)>,
    /// `{{ secrets.N }}` of its templates.
    named: BTreeMap<String, Secret>,
    /// For templates and `format = "native"`: the sources it hears.
    sources: BTreeMap<SourceName, Arc<Source>>,
    permits: Arc<Semaphore>,
    rate: Option<Rate>,
    breaker: Breaker,
    standing: Standing,
}

impl Handler {
    /// Puts a handler together; the error says what is wrong with its configuration.
    pub fn new(
        config: config::Handler,
        client: impl Exchange,
        secrets: Vec<Secret>,
        sources: BTreeMap<SourceName, Arc<Source>>,
    ) -> Result<Handler, String> {
        let transport = Transport::new(&config, client)?;
        Handler::over(config, transport, secrets, sources)
    }

    /// The same over a transport that is there already.
    pub fn over(
        config: config::Handler,
        transport: Transport,
        secrets: Vec<Secret>,
        sources: BTreeMap<SourceName, Arc<Source>>,
    ) -> Result<Handler, String> {
        let signs = match transport {
            Transport::Http(_) => true,
            Transport::Exec(_) | Transport::Broker(_) => !secrets.is_empty(),
            Transport::File(_) | Transport::Mail(_) | Transport::Pull => false,
        };
        let signer = signs.then(|| StandardSigner::new(&secrets)).transpose().map_err(|_| {
            format!(
                "handler `{}`: its secret is not `whsec_` and base64; make one with `ringback secret new`",
                config.name
            )
        });
        if !matches!(config.format, config::Format::Native | config::Format::Custom) {
            signer.as_ref().map_err(Clone::clone)?;
        }
        let headers = config.headers.iter().map(|(name, template)| Header::of(name, template));
        let headers =
            headers.collect::<Result<_, _>>().map_err(|error| format!("handler `{}`: {error}", config.name))?;
        Ok(Handler {
            permits: Arc::new(Semaphore::new(config.concurrency)),
            rate: config.rate.and_then(Rate::new),
            breaker: Breaker::default(),
            standing: Standing::default(),
            config,
            transport,
            secrets,
            signer,
            headers,
            named: BTreeMap::new(),
            sources,
        })
    }

    /// Until when its rate lets nothing go.
    fn rests_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.rate.as_ref().and_then(|rate| rate.rests_until(now))
    }

    /// The right to make one attempt now.
    fn admit(&self, now: Timestamp) -> Option<OwnedSemaphorePermit> {
        // Permits are only taken by the one loop that claims, and it claims no more than are free.
        let permit = self.permits.clone().try_acquire_owned().ok()?;
        self.rate.as_ref().is_none_or(|rate| rate.take(now)).then_some(permit)
    }

    /// With the secrets that its templates name.
    pub fn with_named(self, named: BTreeMap<String, Secret>) -> Handler {
        Handler { named, ..self }
    }
}

/// All handlers that something may be sent to.
pub type Handlers = BTreeMap<HandlerName, Arc<Handler>>;

/// Sends what is due.
pub struct Deliverer {
    shared: Arc<Shared>,
    handlers: ArcSwap<Handlers>,
    tasks: Mutex<JoinSet<()>>,
}

struct Shared {
    store: Arc<dyn Store>,
    clock: Clock,
    metrics: Metrics,
    /// Rung when a permit is free again: what was due and found no room can go now.
    freed: watch::Sender<u64>,
    settling: Settling,
}

impl Deliverer {
    pub fn new(store: Arc<dyn Store>, handlers: Handlers, clock: Clock, metrics: Metrics) -> Deliverer {
        let shared =
            Arc::new(Shared { store, clock, metrics, freed: watch::Sender::new(0), settling: Settling::default() });
        Deliverer { shared, handlers: ArcSwap::from_pointee(handlers), tasks: Mutex::default() }
    }

    /// Rings when something may be due: by the store, and when there is room at a handler again.
    pub fn wake(&self) -> Wake {
        self.shared.store.wake(Topic::Deliveries).or(Wake::new(self.shared.freed.subscribe()))
    }

    /// Takes new handlers at a reload; attempts under way end as they began.
    pub fn replace(&self, handlers: Handlers) {
        self.handlers.store(Arc::new(handlers));
        // A handler that is there again may have had something due all along.
        self.shared.free();
    }

    /// Takes one more handler beside those that it has.
    pub fn add(&self, handler: Handler) {
        let handler = Arc::new(handler);
        self.handlers.rcu(|handlers| {
            let mut more = Handlers::clone(handlers);
            more.insert(handler.config.name.clone(), handler.clone());
            more
        });
        self.shared.free();
    }

    /// Those that came with a replay to an address.
    pub fn temporaries(&self) -> Vec<HandlerName> {
        self.handlers.load().keys().filter(|name| name.replay().is_some()).cloned().collect()
    }

    /// Lets these go; attempts under way end as they began.
    pub fn forget(&self, gone: &[HandlerName]) {
        self.handlers.rcu(|handlers| {
            let mut left = Handlers::clone(handlers);
            left.retain(|name, _| !gone.contains(name));
            left
        });
    }

    /// Waits for the attempts under way, at most this long. What is left is sent again after the next start.
    pub async fn drain(&self, limit: Duration) {
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let drained = async { while tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, drained).await.is_err() {
            warn!("some attempts were still under way at the stop; they will be made again");
        }
    }

    fn spawn(&self, handler: Arc<Handler>, permit: OwnedSemaphorePermit, delivery: ClaimedDelivery) {
        let shared = self.shared.clone();
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move { shared.attempt(handler, permit, delivery).await });
    }
}

impl Step for Deliverer {
    async fn step(&self) -> Result<Progress, StepError> {
        let (handlers, now) = (self.handlers.load_full(), self.shared.clock.now());
        let free: Vec<(HandlerName, usize)> = handlers
            .values()
            .filter(|handler| !matches!(handler.transport, Transport::Pull) && handler.rests_until(now).is_none())
            .map(|handler| (handler.config.name.clone(), handler.permits.available_permits()))
            .filter(|(_, permits)| *permits > 0)
            .collect();
        let rested = || handlers.values().filter_map(|handler| handler.rests_until(now)).min();
        if free.is_empty() {
            // Each attempt rings when it gives its permit back.
            return Ok(Progress::Idle { until: rested() });
        }
        let longest = handlers.values().map(|handler| handler.config.timeout).max().unwrap_or_default();
        let claimed = self.shared.store.claim_deliveries(longest + LEASE_MARGIN, free).await.map_err(StepError::new)?;
        let (mut not_now, mut sent) = (Vec::new(), false);
        for delivery in claimed.deliveries {
            let going = handlers.get(&delivery.handler).and_then(|handler| Some((handler, handler.admit(now)?)));
            let Some((handler, permit)) = going else {
                not_now.push((delivery.id, delivery.lease));
                continue;
            };
            sent = true;
            self.spawn(handler.clone(), permit, delivery);
        }
        if !not_now.is_empty() {
            self.shared.store.give_back(not_now).await.map_err(StepError::new)?;
        }
        Ok(if sent {
            Progress::Worked
        } else {
            Progress::Idle { until: claimed.next_due.into_iter().chain(rested()).min() }
        })
    }
}

impl Shared {
    /// Says that a permit was given back.
    fn free(&self) {
        self.freed.send_modify(|rings| *rings = rings.wrapping_add(1));
    }

    async fn attempt(&self, handler: Arc<Handler>, permit: OwnedSemaphorePermit, delivery: ClaimedDelivery) {
        let (started_at, clock) = (self.clock.now(), Instant::now());
        let Carried { tried, error, answer, detail } = transport::carry(&handler, &delivery, started_at).await;
        let duration = clock.elapsed();
        let delivered = tried.result == AttemptResult::Delivered;
        // What went well need not hold up the next; what did not may mean that there is to be no next.
        let permit = Some(permit).filter(|_| !delivered);
        if permit.is_none() {
            self.free();
        }
        let now = self.clock.now();
        let latency =
            (tried.result == AttemptResult::Delivered && !delivery.replay).then(|| now.since(delivery.event.seen_at));
        self.metrics.attempt(&handler.config.name, tried.result, duration, latency);
        let alone = handler.permits.available_permits() + usize::from(permit.is_some()) >= handler.config.concurrency;
        // What was never sent says nothing of how the handler is.
        let breaks = tried.result != AttemptResult::NotSent
            && handler.breaker.ended(&delivery.event.key, delivered, alone, delivery.strain > 0);
        let (outcome, handler_change) = outcome::judge(&tried, &delivery, &handler.config, breaks, now);
        if let Some(reason) = &error {
            self.log(&handler, &delivery, &outcome, reason);
        }
        let detail = AttemptDetail { trigger: trigger(&delivery), ..detail };
        let (result, status) = (tried.result, tried.status);
        let attempt = Attempt { started_at, duration, result, status, error, answer, detail };
        let (id, lease, name) = (delivery.id, delivery.lease, handler.config.name.clone());
        let settled = Settled { id, lease, handler: name, attempt, outcome, handler_change };
        if let Some(turn) = self.settling.join(Ended { handler, settled, permit }) {
            self.settle(turn).await;
        }
    }

    /// Tells the store of the attempts that have ended, until there are none.
    async fn settle(&self, mut turn: Turn<'_>) {
        while let Some(ended) = turn.next().await {
            let (mut settled, mut permits, mut changes) = (Vec::with_capacity(ended.len()), Vec::new(), Vec::new());
            for Ended { handler, settled: one, permit } in ended {
                let Attempt { result, error, detail, .. } = &one.attempt;
                let standing = handler.standing.ended(*result, detail.class, error.as_deref().unwrap_or_default());
                changes.extend(standing.into_iter().map(|change| (handler.clone(), change)));
                permits.extend(permit);
                settled.push(one);
            }
            let ids: Vec<DeliveryId> = settled.iter().map(|one| one.id).collect();
            let end = self.store.settle(settled).await;
            if !permits.is_empty() {
                drop(permits);
                self.free();
            }
            match end {
                // A lost lease means that somebody else has the delivery.
                Ok(_) | Err(StoreError::Stale | StoreError::Conflict) => {}
                // The process ends.
                Err(StoreError::Broken(_)) => return,
                Err(StoreError::Busy(reason)) => {
                    for id in ids {
                        warn!(delivery.id = id.0, "an attempt could not be settled: {reason}; it will be made again");
                    }
                }
            }
            for (handler, change) in changes {
                self.problem(&handler.config.name, change).await;
            }
        }
    }

    fn log(&self, handler: &Handler, delivery: &ClaimedDelivery, outcome: &Outcome, reason: &str) {
        let (name, id) = (&handler.config.name, &delivery.event.id);
        match outcome {
            Outcome::Failed { .. } => {
                error!(handler.name = %name, event.id = %id, "delivery failed for good: {reason}; replay it with `ringback replay {id}`");
            }
            _ => warn!(handler.name = %name, event.id = %id, "attempt {}: {reason}", delivery.attempts + 1),
        }
    }

    /// Opens or closes a problem of a handler. That it is gone, the store tells by itself.
    async fn problem(&self, name: &HandlerName, change: Change) {
        let done = match &change {
            Change::Open(kind, message) => self.store.open_problem(*kind, name.as_str(), message).await,
            Change::Close(kind) => self.store.close_problem(*kind, name.as_str()).await,
        };
        if let Err(error) = done {
            warn!(handler.name = %name, "a problem could not be noted: {error}");
        }
    }
}

/// What made this attempt happen now.
fn trigger(delivery: &ClaimedDelivery) -> Trigger {
    match delivery {
        ClaimedDelivery { strain: 1.., .. } => Trigger::Probe,
        ClaimedDelivery { attempts: 1.., .. } => Trigger::Retry,
        ClaimedDelivery { replay: true, .. } => Trigger::Replay,
        _ => Trigger::First,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{ChangeKind, Event, SeenBy, StreamName};
    use crate::shape::SourceFile;
    use crate::store::DeliveryId;

    /// A handler as a file with only what is required gives it.
    pub fn handler() -> config::Handler {
        let defaults = config::HandlerDefaults::default();
        config::Handler {
            name: "billing".into(),
            transport: config::Transport::Http,
            url: "http://127.0.0.1:9/hooks".parse().expect("an address"),
            secrets: Vec::new(),
            from: Vec::new(),
            types: Vec::new(),
            when: None,
            format: defaults.format,
            scheme: None,
            signed_url: None,
            headers: Vec::new(),
            custom: None,
            named_secrets: BTreeMap::new(),
            timeout: defaults.timeout,
            concurrency: defaults.concurrency,
            rate: None,
            order: defaults.order,
            after_failure: defaults.after_failure,
            retry: defaults.retry,
            max_backlog: None,
            tls: config::Tls::default(),
            proxy: config::Proxy::None,
            enabled: true,
            renamed_from: None,
            place: config::Place { file: SourceFile::new("t.toml", ""), span: 0..0 },
        }
    }

    /// A delivery with so many counted attempts behind it, first due at the beginning of time.
    pub fn delivery(counted: u32) -> ClaimedDelivery {
        let event = Event {
            id: "evt_1".into(),
            event_type: "payment.created".into(),
            kind: ChangeKind::Created,
            stream: StreamName::new("core", "payments"),
            key: "P-1".into(),
            revision: 1,
            time: Timestamp(0),
            seen_at: Timestamp(0),
            seen_by: SeenBy::Poll,
            data: Some("{}".into()),
            previous: None,
            changed: None,
            first_sight: false,
            test: false,
        };
        ClaimedDelivery {
            id: DeliveryId(1),
            lease: 1,
            handler: "billing".into(),
            event: Arc::new(event),
            inbound: None,
            counted,
            attempts: counted,
            first_due_at: Timestamp(0),
            replay: false,
            strain: 0,
        }
    }
}
