//! Faults planted on purpose, to show that the simulator finds them. Without the cargo feature `planted` none of this is in the
//! program: [`is`] is a constant false and the places that ask vanish. With it, a simulation chooses one fault for its own thread;
//! nothing else ever does.

/// What a daemon might do wrong. Each member is asked for in exactly one place of the code that prevents it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The query leaves the mark itself out: ties at the boundary are lost.
    StrictBoundary,
    /// A run that failed moves the mark all the same.
    MarkOnError,
    /// The lookback lowers the stored mark, and not only the query.
    LookbackLowersMark,
    /// A listing that broke off counts as complete: what it did not show is deleted.
    PartialDeletes,
    /// A content that was ever seen is no news: A→B→A tells nothing.
    SeenSet,
    /// State first, events in a second transaction.
    SplitTransaction,
    /// Offsets go on by the size asked for, though the provider gave less.
    ClampUnnoticed,
    /// A copy with an older version is taken for a change.
    OlderCopy,
    /// A page asked for before a webhook came is believed more than the webhook.
    StalePage,
    /// Revisions begin again after a deletion, and with them the ids.
    IdReused,
    /// A newest-first listing commits page by page: a crash in the middle leaves the mark ahead of what was never read.
    NewestFirstStraight,
}

/// All of them, with the names that `ringback simulate --planted` knows.
pub const FAULTS: [(&str, Fault); 11] = [
    ("strict-boundary", Fault::StrictBoundary),
    ("mark-on-error", Fault::MarkOnError),
    ("lookback-lowers-mark", Fault::LookbackLowersMark),
    ("partial-deletes", Fault::PartialDeletes),
    ("seen-set", Fault::SeenSet),
    ("split-transaction", Fault::SplitTransaction),
    ("clamp-unnoticed", Fault::ClampUnnoticed),
    ("older-copy", Fault::OlderCopy),
    ("stale-page", Fault::StalePage),
    ("id-reused", Fault::IdReused),
    ("newest-first-straight", Fault::NewestFirstStraight),
];

#[cfg(not(feature = "planted"))]
mod chosen {
    use super::Fault;

    /// Whether this fault is planted: never.
    #[inline(always)]
    pub const fn is(_: Fault) -> bool {
        false
    }

    /// Nothing can be planted in this program.
    pub fn plant(_: Option<Fault>) {}

    /// Never: no fault needs the memory.
    #[inline(always)]
    pub const fn seen_before(_: &str, _: [u8; 16]) -> bool {
        false
    }
}

#[cfg(feature = "planted")]
mod chosen {
    use std::cell::{Cell, RefCell};
    use std::collections::HashSet;

    use super::Fault;

    thread_local! {
        static CHOSEN: Cell<Option<Fault>> = const { Cell::new(None) };
        static SEEN: RefCell<HashSet<(String, [u8; 16])>> = RefCell::default();
    }

    /// Whether this fault is planted in this thread.
    pub fn is(fault: Fault) -> bool {
        CHOSEN.get() == Some(fault)
    }

    /// Chooses the fault for this thread and forgets what was seen.
    pub fn plant(fault: Option<Fault>) {
        CHOSEN.set(fault);
        SEEN.with_borrow_mut(HashSet::clear);
    }

    /// The seen-set of [`Fault::SeenSet`]: whether this content of this key was seen before.
    pub fn seen_before(key: &str, fingerprint: [u8; 16]) -> bool {
        is(Fault::SeenSet) && !SEEN.with_borrow_mut(|seen| seen.insert((key.to_owned(), fingerprint)))
    }
}

pub use chosen::{is, plant, seen_before};
