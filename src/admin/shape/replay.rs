//! Events that are sent again.

use serde::{Deserialize, Serialize};

use super::{EventQuery, Time};

/// `POST /api/v1/replay`: the events named, or all that match the query.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReplayOrder {
    #[serde(default)]
    pub ids: Vec<String>,
    #[serde(default)]
    pub events: EventQuery,
    /// A handler, or an address such as `https://host/path`. Absent: to each handler that had the event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The handler in whose manner an address is sent to: its secrets, format, headers, TLS, proxy, retries. Absent: that of the query,
    /// or the only one that is sent to over HTTP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
    /// Deliveries become due this far apart; 0: all at once.
    #[serde(default)]
    pub spacing_ms: u64,
    /// Each event under a new id, so that handlers which drop repeats take it again.
    #[serde(default)]
    pub fresh_ids: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayPlan {
    pub dry_run: bool,
    pub events: u64,
    pub deliveries: u64,
    pub bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oldest: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub newest: Option<Time>,
    /// Absent: nothing was started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<u64>,
    /// The address that it goes to, with `***` for the values of its query, and in whose manner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub like: Option<String>,
    /// The temporary handler of that address; it is there until all of the replay is settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handler: Option<String>,
}

/// `GET /api/v1/replays`: replays that were asked for, the newest first; `GET /api/v1/replays/{id}`: one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayJob {
    pub id: u64,
    /// `running`, `done`, `cancelling` (what waits is being taken back) or `cancelled`.
    pub state: String,
    pub started_at: Time,
    pub by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    #[serde(default)]
    pub fresh_ids: bool,
    /// Events and deliveries made so far.
    pub events: u64,
    pub deliveries: u64,
    /// Deliveries that it comes to: more than `deliveries` while they are still being made.
    #[serde(default)]
    pub expected: u64,
    pub pending: u64,
    pub delivered: u64,
    pub failed: u64,
    pub cancelled: u64,
    /// When the last of those made becomes due.
    pub last_due_at: Time,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_part_of_an_order_is_refused() {
        assert!(serde_json::from_str::<ReplayOrder>(r#"{"ids":["evt_1"],"dryrun":true}"#).is_err());
    }
}
