//! A delivery from its claim to what becomes of it, and what its attempt says about its handler.

use std::sync::Arc;
use std::time::Duration;

use super::{InboundRequest, NewDelivery};
use crate::model::{Attempt, Event, HandlerName, HoldReason, Timestamp};

/// A delivery's opaque identity, given by the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId(pub u64);

#[derive(Clone, Debug, Default)]
pub struct ClaimedDeliveries {
    pub deliveries: Vec<ClaimedDelivery>,
    /// When to ask again without being woken; None: when woken.
    pub next_due: Option<Timestamp>,
}

#[derive(Clone, Debug)]
pub struct ClaimedDelivery {
    pub id: DeliveryId,
    pub lease: u64,
    pub handler: HandlerName,
    pub event: Arc<Event>,
    /// The inbound it came with, for `native` emission.
    pub inbound: Option<Arc<InboundRequest>>,
    /// Attempts that counted so far (RULES R7.1).
    pub counted: u32,
    /// All attempts so far.
    pub attempts: u32,
    /// When it first became due: its age counts from here.
    pub first_due_at: Timestamp,
    pub replay: bool,
    /// How often in a row its handler had to be left alone before this claim; above zero, this delivery is the probe.
    pub strain: u32,
}

#[derive(Clone, Debug)]
pub struct Settled {
    pub id: DeliveryId,
    pub lease: u64,
    pub handler: HandlerName,
    pub attempt: Attempt,
    pub outcome: Outcome,
    pub handler_change: HandlerChange,
}

/// What becomes of a delivery after an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Delivered,
    /// Tried again after this long; `counted`: the attempt is one of the ten.
    Retry {
        after: Duration,
        counted: bool,
    },
    /// Gave up. `hold_key`: later deliveries of its order become held.
    Failed {
        hold_key: bool,
    },
    Held(HoldReason),
}

/// What an attempt says about its handler.
#[derive(Clone, Debug, PartialEq)]
pub enum HandlerChange {
    None,
    /// Nothing is sent to it for this long; then one delivery at a time, until one is accepted.
    Wait(Duration),
    /// The probe was accepted: it works again.
    Recovered,
    /// It wants no more (410): paused, its deliveries held.
    Pause(String),
}

/// By whom a stream is paused that rests although no person paused it.
pub const BY_ITSELF: &str = "ringback";

#[derive(Clone, Debug, PartialEq)]
pub struct Paused {
    pub by: String,
    pub reason: String,
}

/// Who hears Ringback's own events. The store asks within the transaction that such an event tells of.
pub trait Herald: Send + Sync {
    /// A delivery for each handler that the event is for; `about` is the handler that it speaks of, which is not told of itself.
    fn deliveries(&self, event: &Event, about: Option<&HandlerName>) -> Vec<NewDelivery>;

    /// Whether this handler hears any of them.
    fn hears(&self, handler: &HandlerName) -> bool;
}
