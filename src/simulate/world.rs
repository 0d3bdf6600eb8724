//! All that is outside the daemon, in one place: the provider's streams, the handler, the dice and the trace; and the two ways by
//! which the daemon's requests reach it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::dice::Dice;
use super::oracle;
use super::provider::Model;
use super::receiver::Receiver;
use super::stage::Stage;
use super::trace::Trace;
use crate::client::{Bounds, Exchange, Incoming, Outgoing, SendError};
use crate::clock::Clock;
use crate::poll::Fetch;

/// The outside.
pub struct World {
    pub dice: Dice,
    pub trace: Trace,
    pub streams: Vec<Stream>,
    pub receiver: Receiver,
    /// Nothing changes and nothing fails.
    pub calm: bool,
    /// The first broken promise.
    pub fault: Option<String>,
    pub changes: u64,
    pub asked: u64,
}

/// A stream of the provider, and when the daemon's first complete look at it ended.
pub struct Stream {
    pub model: Model,
    pub live: Option<i64>,
}

impl World {
    /// The first promise that is broken as things stand; judged when all is calm.
    pub fn judge(&self) -> Result<(), String> {
        for Stream { model, live } in &self.streams {
            let live = live.ok_or_else(|| format!("{}: no look was ever complete", model.shape.name))?;
            for key in model.records.keys() {
                let place = (model.shape.name.to_owned(), model.shape.told(key));
                let arrived = self.receiver.arrived.get(&place).map(Vec::as_slice).unwrap_or_default();
                oracle::judge(model, key, arrived, live)
                    .map_err(|fault| format!("{}/{key}: {fault}", model.shape.name))?;
            }
        }
        let known = |(source, key): &&(String, String)| {
            self.streams.iter().any(|Stream { model, .. }| {
                model.shape.name == source && model.records.keys().any(|made| model.shape.told(made) == *key)
            })
        };
        match self.receiver.arrived.keys().find(|place| !known(place)) {
            Some((source, key)) => Err(format!("phantom: {source}/{key} never was")),
            None => Ok(()),
        }
    }
}

/// The world as everybody holds it.
#[derive(Clone)]
pub struct Shared {
    world: Arc<Mutex<World>>,
    pub stage: Arc<Stage>,
    pub clock: Clock,
}

impl Shared {
    pub fn new(world: World, clock: Clock) -> Shared {
        Shared { world: Arc::new(Mutex::new(world)), stage: Arc::default(), clock }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line into the trace.
    pub fn say(&self, line: std::fmt::Arguments<'_>) {
        self.world().trace.say(self.clock.now(), line);
    }

    /// The world once nobody holds it any more; None while somebody does.
    pub fn into_world(self) -> Option<World> {
        Arc::into_inner(self.world).map(|world| world.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn take(&self, millis: i64) {
        let wait = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
        self.clock.sleep_until(self.clock.now().plus(wait)).await;
        self.stage.pass().await;
    }
}

/// The way to one stream's listing.
pub struct Api {
    pub shared: Shared,
    pub stream: usize,
}

#[async_trait]
impl Fetch for Api {
    async fn fetch(&self, request: Outgoing, _bounds: Bounds) -> Result<Incoming, SendError> {
        self.shared.stage.pass().await;
        let reply = {
            let now = self.shared.clock.now();
            let mut world = self.shared.world();
            let World { dice, trace, streams, calm, asked, fault, .. } = &mut *world;
            let reply = streams[self.stream].model.answer(&request, now.0, *calm, dice);
            trace.say(now, format_args!("asked: {}", reply.said));
            if let Some(reason) = streams[self.stream].model.fault.take() {
                fault.get_or_insert(reason);
            }
            *asked += 1;
            reply
        };
        self.shared.take(reply.after).await;
        reply.answer
    }
}

/// The way to the handler.
pub struct Hook(pub Shared);

#[async_trait]
impl Exchange for Hook {
    async fn exchange(&self, request: Outgoing, _bounds: Bounds) -> Result<Incoming, SendError> {
        self.0.stage.pass().await;
        let taken = {
            let now = self.0.clock.now();
            let mut world = self.0.world();
            let World { dice, trace, receiver, calm, fault, .. } = &mut *world;
            match receiver.take(&request, *calm, dice) {
                Ok(taken) => {
                    trace.say(now, format_args!("handler: {}", taken.said));
                    taken
                }
                Err(reason) => {
                    trace.say(now, format_args!("BROKEN: {reason}"));
                    fault.get_or_insert(reason);
                    return Err(SendError::Broken("the simulation ends".into()));
                }
            }
        };
        self.0.take(taken.after).await;
        taken.answer
    }
}
