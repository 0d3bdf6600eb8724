//! What polling remembers of a stream from one run to the next, beside the mark. It is stored with the end of each run, so that a
//! restart goes on where the process before it was. Times are wall times, of the provider's clock where it says so.

use serde::{Deserialize, Serialize};

use super::files::FilesMemory;
use crate::model::Timestamp;
use crate::store::StreamState;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    /// The cursor was too old for the provider: the next run lists from the beginning and compares.
    #[serde(skip_serializing_if = "is_false")]
    pub relist: bool,
    /// When the last look for late records began, by the provider's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_at: Option<i64>,
    /// The provider's own least interval, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pace: Option<u64>,
    /// Milliseconds between two polls, where webhooks prove healthy and the interval is longer than `every`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<u64>,
    /// The stream's change number when the last run ended: a greater one now means that webhooks wrote since.
    pub change_number: u64,
    /// When the next run was planned: one that begins sooner was asked for, by a webhook or a person.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub planned_at: Option<i64>,
    /// Runs in a row that proved nothing because their pages may have shifted.
    #[serde(skip_serializing_if = "is_zero")]
    pub repeats: u32,
    /// Runs in a row that found changes while the mark stayed.
    #[serde(skip_serializing_if = "is_zero")]
    pub unmoved: u32,
    /// When a run last found a change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed_at: Option<i64>,
    /// The parent that was listed last: the next run begins after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_parent: Option<String>,
    /// That one had never been listed whole: those that had come first, and this round is through with them.
    #[serde(skip_serializing_if = "is_false")]
    pub among_new: bool,
    /// In this round over the parents one of them could not be listed.
    #[serde(skip_serializing_if = "is_false")]
    pub parent_failed: bool,
    /// The last run was held, stopped or incomplete: no validator is sent (RULES R6.4).
    #[serde(skip_serializing_if = "is_false")]
    pub unconditional: bool,
    /// When history was last found lost: the problem stays for a day, as nobody can mend it by a good poll.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gap_at: Option<i64>,
    /// Which files were read, where files are read in place of an API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesMemory>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Memory {
    /// What is stored is ours; if it cannot be read all the same, polling begins without it.
    pub fn of(state: &StreamState) -> Memory {
        state.memory.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    pub fn to_stored(&self) -> String {
        serde_json::to_string(self).expect("a memory is always JSON")
    }

    pub fn time(at: Option<i64>) -> Option<Timestamp> {
        at.map(Timestamp)
    }
}
