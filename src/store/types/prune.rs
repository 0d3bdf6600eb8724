//! What may be forgotten with age (RULES R9).

use crate::model::{SourceName, Timestamp};

#[derive(Clone, Debug)]
pub struct Prune {
    /// Events settled before this, with their deliveries and attempts.
    pub events_before: Timestamp,
    /// Settled inbounds received before this.
    pub inbounds_before: Timestamp,
    /// Sources whose events and inbounds are kept for another time than those of all others: until when.
    pub of_sources: Vec<(SourceName, Timestamp)>,
    /// Message ids received before this.
    pub message_ids_before: Timestamp,
    /// Tombstones written before this (RULES R2.2, R9.2).
    pub tombstones_before: Timestamp,
    /// Rows a call may remove.
    pub limit: usize,
}

/// Which seen keys of a stream with `detect = "new"` may be forgotten (RULES R9.2).
#[derive(Clone, Debug, PartialEq)]
pub struct PruneSeen {
    /// Those that stand before this place in the order of the cursor.
    pub below: i64,
    /// And were written before this.
    pub written_before: Timestamp,
    /// What places are read by. Where it differs from last time, the places stored say nothing any more.
    pub placed_by: String,
    /// Rows a call may remove.
    pub limit: usize,
}
