//! Events that are sent again: what was asked for, what it comes to, and how far it is.

use std::time::Duration;

use crate::model::{HandlerName, Timestamp};
use crate::store::query::EventFilter;

/// What to send again.
#[derive(Clone, Debug)]
pub struct Replay {
    pub events: EventFilter,
    pub to: ReplayTo,
    pub dry_run: bool,
    /// Deliveries become due this far apart; zero: all at once.
    pub spacing: Duration,
    /// Each event is sent as a new one, under an id of its own: handlers that drop repeats take it again.
    pub fresh_ids: bool,
    /// Who asked, for the record.
    pub by: String,
}

/// Whom a replay goes to.
#[derive(Clone, Debug, PartialEq)]
pub enum ReplayTo {
    /// Each handler that had the event. Temporary ones do not count: an address is sent to where it is named, and not again.
    ThoseThatHad,
    Handler(HandlerName),
    /// This address, in the manner of that handler: a temporary handler is made with the replay and ends with it.
    Address {
        like: HandlerName,
        url: String,
    },
}

/// A handler that a replay to an address made. It is there until its last delivery is settled.
#[derive(Clone, Debug, PartialEq)]
pub struct Temporary {
    pub name: HandlerName,
    /// Whose manner it has: secrets, format, headers, TLS, proxy, timeouts, retries.
    pub like: HandlerName,
    pub url: String,
    /// Why nothing can be sent to it under the present configuration; its deliveries are held meanwhile.
    pub refused: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub struct ReplayPlan {
    pub events: u64,
    pub deliveries: u64,
    pub bytes: u64,
    pub oldest: Option<Timestamp>,
    pub newest: Option<Timestamp>,
    /// By which its progress is watched; None: it was a dry run, or nothing matched.
    pub job: Option<u64>,
    /// The handler that was made for it, where it goes to an address.
    pub temporary: Option<HandlerName>,
}

/// What a piece of work on replays came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayStep {
    /// There may be more.
    Worked,
    /// Nothing but attempts of a cancelled replay that are under way: when they have ended there is more to do.
    Waits,
    Nothing,
}

/// A replay that was asked for, and how far it is. It goes on by itself, over restarts too: its deliveries are rows like all others.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplayJob {
    pub id: u64,
    pub started_at: Timestamp,
    pub by: String,
    /// None: each handler that had the events.
    pub to: Option<HandlerName>,
    pub fresh_ids: bool,
    /// Events and deliveries made so far.
    pub events: u64,
    pub deliveries: u64,
    /// Deliveries that it comes to: more than are made while it is being filled.
    pub expected: u64,
    /// Its deliveries are still being made.
    pub filling: bool,
    pub pending: u64,
    pub delivered: u64,
    pub failed: u64,
    /// Taken back before they were sent.
    pub cancelled: u64,
    pub cancelled_by: Option<String>,
    /// When the last of those made becomes due.
    pub last_due_at: Timestamp,
}
