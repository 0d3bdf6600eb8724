//! What was decided for a key that was neither unchanged nor announced, and the rule behind it in a sentence.

use std::time::Duration;

use crate::model::{Key, SeenBy};

/// How long a change that a poll found waits for its real webhook, before it counts as recovered by the poll.
pub const ANNOUNCED_WITHIN: Duration = Duration::from_secs(120);

/// What was decided for a key that was neither unchanged nor announced, and by which rule: for `ringback why`.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    pub key: Key,
    pub by: SeenBy,
    pub what: Decided,
    /// What a person should know besides.
    pub detail: String,
}

/// From a closed set: what became of a copy or an absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decided {
    /// Older than what is stored (RULES R3.5, R5.2).
    Older,
    /// A real webhook wrote the record after the page was asked for (RULES R5.3).
    Overtaken,
    /// A real webhook that cannot be placed by version: the stream was polled instead (RULES R5.2, R5.4).
    Notice,
    /// The same change by the other way (RULES R5.2).
    Twin,
    /// A second, different copy in one listing (RULES R1.7).
    Contradicted,
    /// Could not be read (RULES R3.8).
    SetAside,
    /// Not shown by a complete listing, and waiting for another (RULES R6.1).
    Absent,
    /// Deleted, because enough complete listings did not show it (RULES R6.1).
    Gone,
    /// Its deletion, or the run that changed it, is held for a person (RULES R6.2).
    Held,
    /// Taken silently by a new baseline, or no longer part of the listing under the new definition (RULES R4.2).
    Retaken,
}

impl Decided {
    pub fn as_str(self) -> &'static str {
        match self {
            Decided::Older => "older",
            Decided::Overtaken => "overtaken",
            Decided::Notice => "notice",
            Decided::Twin => "twin",
            Decided::Contradicted => "contradicted",
            Decided::SetAside => "set aside",
            Decided::Absent => "absent",
            Decided::Gone => "gone",
            Decided::Held => "held",
            Decided::Retaken => "retaken",
        }
    }

    /// The rule behind it, in a sentence.
    pub fn rule(self) -> &'static str {
        match self {
            Decided::Older => {
                "a copy older than the stored one is ignored; a polled one counts when a second run shows it"
            }
            Decided::Overtaken => "a page asked for before a real webhook wrote the record says nothing about it",
            Decided::Notice => "a real webhook whose place in the order is unknown makes the stream be polled instead",
            Decided::Twin => "the same change seen by the other way is stored and not announced again",
            Decided::Contradicted => "a key is judged once a run; a second copy counts only with a greater version",
            Decided::SetAside => "a record that cannot be read is kept apart and stops nothing",
            Decided::Absent => {
                "a record is gone only after as many complete listings without it as `confirm_after` says"
            }
            Decided::Gone => "enough complete listings in a row did not show it",
            Decided::Held => "too much at once waits for a person",
            Decided::Retaken => "a changed definition takes a new baseline without events",
        }
    }
}
