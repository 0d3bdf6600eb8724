//! What a handler that asks for its events itself says, and gets.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{Event, HandlerName};

/// A handler asks for its events itself.
#[derive(Clone, Debug)]
pub struct Pull {
    pub handler: HandlerName,
    /// Everything up to this position was taken, and is on the reader's disk.
    pub after: Option<i64>,
    /// Events at most.
    pub max: usize,
}

/// What it gets: the same until it says that it has it.
#[derive(Clone, Debug, Default)]
pub struct PullPage {
    /// With rising positions.
    pub events: Vec<Pulled>,
    /// That of the last event, or what was acknowledged last.
    pub position: Option<i64>,
    /// How many this request acknowledged.
    pub taken: u64,
    /// Paused, disabled, or no longer configured: nothing is given.
    pub closed: bool,
    /// What was acknowledged is no position that can ever have been handed out: nothing was done.
    pub ahead: bool,
    /// Without events: when there may be some without a wake-up.
    pub next_in: Option<Duration>,
}

#[derive(Clone, Debug)]
pub struct Pulled {
    pub position: i64,
    pub event: Arc<Event>,
    /// Equal for events that must be taken one after another.
    pub order: Option<u64>,
    pub replay: bool,
}
