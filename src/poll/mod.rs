//! The step that polls: claims streams that are due, runs each beside the others, and records how it went. A run asks page after
//! page, hands each to `ingest`, and ends with a verdict; what it found is committed there, never here.
//!
//! Reading order: `begin` (where a run begins to read), `run` (one run), `children` (one listing for each parent, or for several), `listing` (pages of
//! slices), `exchange` (one request and its answer), `files` (files in place of an API), `pagination` (how a listing goes on),
//! `request` and `auth` (what is asked), `verdict` (what an answer means), `limits` and `pace` (how often), `settle` (what follows), `signs` (what a good run shows), `lateness` (what shows when no run ends). Called by `app` through
//! [`crate::worker::run_loop`], and for one stream by `ringback poll`.

mod auth;
mod begin;
mod children;
mod claimed;
mod conditional;
mod exchange;
mod files;
#[cfg(test)]
mod fixtures;
mod lateness;
mod limits;
mod link;
mod listing;
mod mask;
mod memory;
mod once;
mod pace;
mod pagination;
mod parents;
mod parked;
mod problems;
mod provider_clock;
mod request;
mod run;
mod settle;
mod signs;
mod sink;
mod slices;
mod subscribe;
mod verdict;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{error, warn};

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::{SourceName, StreamName};
use crate::source::{Source, SourceStream};
use crate::store::{Store, StoreError, Topic, Wake, Which};
use crate::worker::{Progress, Step, StepError};

pub use once::{PollError, PollReport};
pub use run::Asked;
pub use sink::{Fetch, Mode, Sink, SinkRun};
pub use subscribe::Registrar;

use auth::{Credential, Holder};
use limits::{BudgetKey, Budgets, Origin};
use mask::Mask;
use parked::Parking;
use problems::OpenProblems;
use provider_clock::ProviderClock;
use run::Polled;
use subscribe::Registration;

/// Runs in flight at once, over all sources.
const RUNS_MAX: usize = 64;
/// Longer than the longest run and the release of what it found. A crash loses no time by it: a store with one owner frees the
/// leases of the last process when it opens.
const LEASE: Duration = Duration::from_secs(600 + 300);
/// A stream that is due but unknown here (the configuration is being changed) is looked at again after this.
const UNKNOWN: Duration = Duration::from_secs(60);

/// Polls all streams of the configuration. Clones share everything.
#[derive(Clone)]
pub struct Poller(Arc<Shared>);

struct Shared {
    store: Arc<dyn Store>,
    sink: Arc<dyn Sink>,
    clock: Clock,
    metrics: Metrics,
    loaded: ArcSwap<Loaded>,
    /// A hanging source holds one of these and delays nobody else.
    runs: Mutex<JoinSet<()>>,
    /// Rung when a run has ended: there is room for another, and a stream has a new time.
    ended: watch::Sender<u64>,
    looks: subscribe::Looks,
    parking: Arc<Parking>,
    problems: OpenProblems,
    /// What earlier processes stored of their budgets.
    stored_budgets: Mutex<HashMap<BudgetKey, String>>,
    /// Nothing is asked for the time being (no room on the disk).
    rests: AtomicBool,
    /// When this process began, in milliseconds.
    began: AtomicI64,
}

/// What the configuration gives; swapped whole at a reload. A run in flight goes on with what it began with.
#[derive(Default)]
struct Loaded {
    streams: HashMap<StreamName, Arc<Polled>>,
    budgets: Budgets,
    /// What was got for credentials, by their keys.
    holders: HashMap<BudgetKey, Arc<Holder>>,
    clocks: HashMap<SourceName, Arc<ProviderClock>>,
    registrations: Vec<Registration>,
}

impl Poller {
    /// A poller without sources; [`Poller::load`] gives it some.
    pub fn new(store: Arc<dyn Store>, sink: Arc<dyn Sink>, clock: Clock, metrics: Metrics) -> Poller {
        Poller(Arc::new(Shared {
            began: AtomicI64::new(clock.now().0),
            store,
            sink,
            clock,
            metrics,
            loaded: ArcSwap::default(),
            runs: Mutex::default(),
            ended: watch::Sender::new(0),
            looks: subscribe::Looks::new(),
            parking: Arc::default(),
            problems: OpenProblems::default(),
            stored_budgets: Mutex::default(),
            rests: AtomicBool::new(false),
        }))
    }

    /// Goes on where an earlier process was: what credentials have spent. To be called before the first [`Poller::load`].
    pub async fn restore(&self) -> Result<(), StoreError> {
        let stored = self.0.store.budgets().await?;
        *self.0.stored_budgets.lock().unwrap_or_else(PoisonError::into_inner) = stored.into_iter().collect();
        Ok(())
    }

    /// Cuts due times that lie further ahead than their rule can give: the wall was another when they were set (RULES R8.1).
    pub async fn check_due_times(&self) -> Result<(), StoreError> {
        let (now, loaded) = (self.0.clock.now(), self.0.loaded.load_full());
        for status in self.0.store.streams().await? {
            let name = &status.state.name;
            let (Some(polled), Some(due)) = (loaded.streams.get(name), status.next_poll_at) else { continue };
            if due > claimed::latest_due(polled, &status, now) {
                warn!(stream.name = %name, "{name} was due at {due}, which its schedule cannot give: it is due now");
                self.0.store.poll_later(name, Duration::ZERO).await?;
            }
        }
        Ok(())
    }

    /// The wall was set by so much: what was spent so long ago still was (RULES R8.1).
    pub fn clock_stepped(&self, millis: i64) {
        self.0.began.fetch_add(millis, Ordering::SeqCst);
        let loaded = self.0.loaded.load();
        loaded.budgets.all().for_each(|budget| budget.clock_stepped(millis));
        loaded.clocks.values().for_each(|clock| clock.clock_stepped(millis));
        loaded.holders.values().for_each(|holder| holder.clock_stepped(millis));
    }

    /// Rests, or goes on: runs in flight end as they are.
    pub fn rest(&self, rests: bool) {
        if self.0.rests.swap(rests, Ordering::SeqCst) != rests {
            self.0.ended.send_modify(|rings| *rings = rings.wrapping_add(1));
        }
    }

    /// Takes over the sources of a configuration, each with its client. What budgets have spent is kept; a credential that was
    /// refused is tried again once it differs.
    pub fn load(&self, sources: Vec<(Arc<Source>, Arc<dyn Fetch>)>) {
        let former = self.0.loaded.load();
        let stored = self.0.stored_budgets.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = Origin { former: &former.budgets, stored: &stored, clock: &self.0.clock };
        let mut loaded = Loaded::default();
        for (source, client) in sources {
            let clock = former.clocks.get(&source.name).cloned().unwrap_or_default();
            loaded.clocks.insert(source.name.clone(), clock.clone());
            let holder = |key: &str| self.holder(key, &former);
            let registration = registration(&source, &client, &origin, &mut loaded, holder);
            loaded.registrations.extend(registration);
            for stream in source.streams.iter().filter(|stream| stream.spec.is_polled()) {
                let holder = |key: &str| self.holder(key, &former);
                let mut polled = polled(&source, stream, &client, &clock, &origin, &mut loaded, holder);
                polled.parking = stream.spec.long_poll.map(|_| self.0.parking.clone());
                loaded.streams.insert(stream.name.clone(), Arc::new(polled));
            }
        }
        self.0.loaded.store(Arc::new(loaded));
        self.0.looks.anew();
    }

    /// What was got for a credential before a reload stays with it.
    fn holder(&self, key: &str, former: &Loaded) -> Arc<Holder> {
        let new = || Arc::new(Holder::new(key, self.0.store.clone(), self.0.clock.clone()));
        former.holders.get(key).cloned().unwrap_or_else(new)
    }

    /// Ends the sessions that are open at providers: to be called when nothing is polled any more.
    pub async fn log_out(&self) {
        let loaded = self.0.loaded.load_full();
        let mut seen = std::collections::HashSet::new();
        for polled in loaded.streams.values().filter(|polled| seen.insert(polled.holder.key.clone())) {
            polled.access(&*self.0.store, &self.0.clock).log_out().await;
        }
    }

    /// Rings when there may be a stream to claim: by the store, and when a run has ended.
    pub fn wake(&self) -> Wake {
        self.0.store.wake(Topic::Polls).or(Wake::new(self.0.ended.subscribe()))
    }

    /// Runs in flight.
    pub fn in_flight(&self) -> usize {
        self.runs().len()
    }

    /// Waits for the runs in flight, at most so long, then breaks off those that are left: what they committed stays, the
    /// rest is found again. Nothing new is claimed, as long as nobody calls [`Poller::step`].
    pub async fn drain(&self, grace: Duration) {
        let mut runs = std::mem::take(&mut *self.runs());
        let mut parked = self.0.parking.parked();
        let all = async {
            while runs.len() > *parked.borrow_and_update() {
                tokio::select! {
                    _ = runs.join_next() => {}
                    // The poller holds the other end.
                    _ = parked.changed() => {}
                }
            }
        };
        if tokio::time::timeout(grace, all).await.is_err() {
            warn!("{} polls did not end in time and are broken off", runs.len());
        }
        runs.shutdown().await;
    }

    /// To be called before the last [`Poller::drain`]: it does not wait for long polls that the provider holds back.
    pub fn stop(&self) {
        self.0.parking.stop();
    }

    /// Breaks off the runs in flight and waits for nothing: what a crash is to them.
    pub fn break_off(&self) {
        self.runs().abort_all();
    }

    fn runs(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets runs that have ended. A run that panicked is said; its lease runs out and the stream is polled again.
    fn reap(&self) {
        let mut runs = self.runs();
        while let Some(ended) = runs.try_join_next() {
            if let Err(panic) = ended.map_err(|error| error.is_panic()) {
                error!("a poll ended without an outcome{}", if panic { ": it panicked" } else { "" });
            }
        }
    }
}

impl Step for Poller {
    /// Claims one stream and starts its run.
    async fn step(&self) -> Result<Progress, StepError> {
        self.reap();
        if self.in_flight() >= RUNS_MAX || self.0.rests.load(Ordering::SeqCst) {
            // The end of a run rings, and so does the end of a rest.
            return Ok(Progress::Idle { until: None });
        }
        match self.0.store.claim_stream(Which::Due, LEASE).await.map_err(StepError::new)? {
            Some(claim) => {
                let shared = self.0.clone();
                self.runs().spawn(async move {
                    let _ring = Ring(shared.ended.clone());
                    shared.run_claimed(claim).await;
                });
                Ok(Progress::Worked)
            }
            None => {
                let until = self.0.store.next_due(Topic::Polls).await.map_err(StepError::new)?;
                Ok(Progress::Idle { until })
            }
        }
    }
}

/// Rings when a run ends, however it ends.
struct Ring(watch::Sender<u64>);

impl Drop for Ring {
    fn drop(&mut self) {
        self.0.send_modify(|rings| *rings = rings.wrapping_add(1));
    }
}

/// What registers the source's webhook, where the configuration wants it.
fn registration(
    source: &Arc<Source>,
    client: &Arc<dyn Fetch>,
    origin: &Origin<'_>,
    loaded: &mut Loaded,
    holder: impl FnOnce(&str) -> Arc<Holder>,
) -> Option<Registration> {
    let webhook = source.webhook.as_ref().filter(|webhook| webhook.subscribe && source.config.enabled)?;
    let spec = source.provider.webhook.as_ref()?;
    let (request, url) = (spec.subscribe.clone()?, webhook.url.clone()?);
    let credential = Credential::of(source);
    let known = credential.as_ref().unwrap_or(&Credential::None);
    let key = known.budget_key(source);
    let held = known.holder_key(source);
    let holder = loaded.holders.entry(held.clone()).or_insert_with(|| holder(&held)).clone();
    Some(Registration {
        budget: loaded.budgets.of(origin, &key, &source.provider.limits),
        mask: Mask::of(source, known, &holder).and(webhook.secrets.iter()),
        source: source.clone(),
        client: client.clone(),
        credential,
        holder,
        request,
        url,
        secret: webhook.secrets.first().cloned(),
        every: spec.renew_every,
    })
}

fn polled(
    source: &Arc<Source>,
    stream: &Arc<SourceStream>,
    client: &Arc<dyn Fetch>,
    clock: &Arc<ProviderClock>,
    origin: &Origin<'_>,
    loaded: &mut Loaded,
    holder: impl FnOnce(&str) -> Arc<Holder>,
) -> Polled {
    let credential = Credential::of(source);
    let known = credential.as_ref().unwrap_or(&Credential::None);
    let key = known.budget_key(source);
    let held = known.holder_key(source);
    let holder = loaded.holders.entry(held.clone()).or_insert_with(|| holder(&held)).clone();
    let budgets = &mut loaded.budgets;
    // One credential may stand for several accounts or consents, which the settings name: each has the stream's limits for itself.
    let own_key = || format!("{key}/{}/{}/{}", source.provider.name, stream.spec.name, auth::settings_key(source));
    Polled {
        budget: budgets.of(origin, &key, &source.provider.limits),
        own_budget: stream.spec.limits.as_ref().map(|limits| budgets.of(origin, &own_key(), limits)),
        clock: clock.clone(),
        mask: Mask::of(source, known, &holder),
        holder,
        source: source.clone(),
        stream: stream.clone(),
        client: client.clone(),
        credential,
        parking: None,
    }
}

#[cfg(test)]
mod tests;
