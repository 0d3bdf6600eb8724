//! What the configuration says, as far as the store must know it, and what registering it found.

use std::time::Duration;

use crate::model::{HandlerName, SourceName, StreamName};

/// What the configuration says, as far as the store must know it.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    pub sources: Vec<SourceSetup>,
    pub streams: Vec<StreamSetup>,
    pub handlers: Vec<HandlerSetup>,
    /// Every one that [`Store::temporaries`](crate::store::Store::temporaries) gave; one that is not named here cannot be sent to.
    pub temporaries: Vec<super::Temporary>,
}

#[derive(Clone, Debug)]
pub struct SourceSetup {
    pub name: SourceName,
    /// Where it is asked (`base_url`): what is known of another place says nothing of this one (RULES R2.4).
    pub address: String,
}

#[derive(Clone, Debug)]
pub struct StreamSetup {
    pub name: StreamName,
    /// The source's former name; state and event ids are carried over from it once.
    pub renamed_from: Option<SourceName>,
    /// Whether it is ever due by itself: false for webhook-only and switched-off streams.
    pub polled: bool,
    /// Hash over what makes a record the same (RULES R4.2): key, records, request.
    pub definition: String,
    /// Hash over the comparison rules alone (ignore, unordered, …).
    pub comparison: String,
    /// When a stream that was never polled is due: now plus this.
    pub first_due_in: Duration,
}

#[derive(Clone, Debug)]
pub struct HandlerSetup {
    pub name: HandlerName,
    pub renamed_from: Option<HandlerName>,
    /// false: its events are held as [`HoldReason::Paused`](crate::model::HoldReason::Paused).
    pub enabled: bool,
}

/// What registering found.
#[derive(Clone, Debug, Default)]
pub struct Registered {
    /// Sources with stored state that the configuration no longer names.
    pub orphaned_sources: Vec<SourceName>,
    /// Handlers with unsettled deliveries that the configuration no longer names.
    pub orphaned_handlers: Vec<HandlerName>,
    /// Streams whose stored definition differs; they are in phase baseline again.
    pub redefined: Vec<StreamName>,
    /// Streams whose comparison rules alone differ: their records are fingerprinted anew before the next look.
    pub recompared: Vec<StreamName>,
    /// Sources with state from another address than the one they have now; not polled until a person confirms it (RULES R2.4).
    pub readdressed: Vec<Readdressed>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Readdressed {
    pub source: SourceName,
    pub from: String,
    pub to: String,
}
