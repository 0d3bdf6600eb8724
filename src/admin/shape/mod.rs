//! The shapes of the JSON API: a contract with its callers, written down as types and shared with the commands.
//!
//! Times are RFC 3339 in UTC, durations whole milliseconds, absent values are left out. Members are only ever added.

mod event;
mod replay;
mod status;
mod stream;
mod time;
mod why;

use serde::{Deserialize, Serialize};

pub use event::*;
pub use replay::*;
pub use status::*;
pub use stream::*;
pub use time::Time;
pub use why::*;

/// Why a request was refused, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    pub error: String,
    pub help: String,
}

/// `POST …/pause`: why, for those who find it paused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseOrder {
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/v1/problems/ack`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AckOrder {
    pub kind: String,
    #[serde(default)]
    pub subject: String,
}

/// `POST /api/v1/problems/retry`: what became of what was put through again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retried {
    pub taken: u64,
    pub given_up: u64,
    pub left: u64,
    pub done: String,
}

/// What an action came to, in a sentence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub done: String,
}

/// `POST /api/v1/reload`: what the new configuration changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    pub changes: Vec<String>,
    pub warnings: Vec<String>,
}
