//! Where a run begins to read: at the mark, further back for late records, or from the start where the provider no longer keeps
//! what the mark points to. Pure.

use std::time::Duration;

use super::memory::Memory;
use crate::ingest::CursorValue;
use crate::model::Timestamp;
use crate::provider::{CursorKind, CursorSpec, Start, Stream};
use crate::store::StreamState;

/// Kept clear of the far end of what a provider keeps: it must not have gone by the time it is asked for.
const MARGIN: Duration = Duration::from_secs(60);

/// How far back a run asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Beginning {
    /// Everything that the provider still has is listed and compared.
    pub relist: bool,
    /// Some: why records may be lost, for a person.
    pub gap: Option<String>,
    /// Some: this run also looks for late records, from here on.
    pub late_from: Option<Timestamp>,
    /// This run counts as a look for late records.
    pub late: bool,
    /// Nothing is to be written.
    pub dry: bool,
}

/// Decides before the first request. `now` is the provider's time.
pub(super) fn decide(spec: &Stream, state: &StreamState, memory: &Memory, now: Timestamp) -> Beginning {
    let off = state.mark.as_ref().and(state.last_ok_at).map(|ok| now.since(ok)).unwrap_or_default();
    let gap = spec.history.filter(|kept| off > *kept).map(|kept| {
        format!(
            "the last good poll was {} ago, and the provider keeps records for {} only: what came and went in between is lost. \
             What it still has is listed and compared; then acknowledge this problem",
            whole(off),
            whole(kept)
        )
    });
    let late = spec.late.filter(|late| {
        let last = Memory::time(memory.late_at);
        last.is_none_or(|last| now.since(last) >= late.every || last > now)
    });
    Beginning {
        relist: memory.relist || gap.is_some(),
        gap,
        late: late.is_some(),
        dry: false,
        late_from: late.zip(memory.late_at).map(|(late, last)| Timestamp(last).minus(late.lag).minus(late.window)),
    }
}

impl Beginning {
    /// The value to ask from, given the one that follows from the mark.
    pub fn from(
        &self,
        cursor: Option<&CursorSpec>,
        by_mark: Option<CursorValue>,
        started: Option<Timestamp>,
        history: Option<Duration>,
        now: Timestamp,
    ) -> Option<CursorValue> {
        let Some(cursor) = cursor else { return by_mark };
        if self.relist {
            return from_the_start(cursor, started, history, now);
        }
        match (by_mark, self.late_from) {
            (Some(CursorValue::Time(mark)), Some(late)) => Some(CursorValue::Time(mark.min(late))),
            (by_mark, _) => by_mark,
        }
    }
}

/// What the first look would have asked from, had it been made when the stream began; as far as the provider keeps it.
fn from_the_start(
    cursor: &CursorSpec,
    started: Option<Timestamp>,
    history: Option<Duration>,
    now: Timestamp,
) -> Option<CursorValue> {
    if cursor.kind != CursorKind::Time {
        return None;
    }
    let began = started.unwrap_or(now);
    let start = match &cursor.start {
        Start::All => return None,
        Start::Now => began,
        Start::Ago(ago) => began.minus(*ago),
        Start::At(at) => *at,
    };
    let kept = history.map(|history| now.minus(history).plus(MARGIN.min(history / 10)));
    Some(CursorValue::Time(kept.map_or(start, |kept| kept.max(start))))
}

/// A duration without the small units that nobody wants to read.
pub(super) fn whole(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
