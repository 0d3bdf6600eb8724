//! From the outbox to handlers: claim due deliveries, sign, send, settle. The outbox is the only truth; a crash here leaves
//! leases behind, and the next start sends again what was not settled, with the same ids.
//!
//! Each handler has its own permits, so a dead or slow one delays nobody else. The permit of an attempt that went well is given back
//! before it is settled: sending never waits for the disk. After a failure it is kept until the store knows, as the handler may have
//! to be left alone.

mod attempt;
mod breaker;
mod broker;
mod context;
mod custom;
mod exec;
mod file;
#[cfg(test)]
pub(crate) mod fixtures;
mod format;
mod handler;
mod mail;
mod outcome;
mod rate;
mod sent;
mod settling;
mod standing;
mod transport;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tracing::warn;

use crate::clock::Clock;
use crate::metrics::Metrics;
use crate::model::HandlerName;
use crate::store::{ClaimedDelivery, Store, Topic, Wake};
use crate::worker::{Progress, Step, StepError};
use attempt::Shared;
pub use broker::{Broker, open as open_broker};
pub use format::{Emission, emit};
pub use handler::Handler;
pub use mail::Mailer;
pub use transport::Transport;

/// Added to the longest handler timeout: a lease outlives its attempt.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// All handlers that something may be sent to.
pub type Handlers = BTreeMap<HandlerName, Arc<Handler>>;

/// Sends what is due.
pub struct Deliverer {
    shared: Arc<Shared>,
    handlers: ArcSwap<Handlers>,
    tasks: Mutex<JoinSet<()>>,
}

impl Deliverer {
    pub fn new(store: Arc<dyn Store>, handlers: Handlers, clock: Clock, metrics: Metrics) -> Deliverer {
        let shared = Arc::new(Shared::new(store, clock, metrics));
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
