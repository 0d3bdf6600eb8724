//! When a stream that tells each new key once may forget a key that it has seen: once no listing and no webhook can show it again
//! (RULES R9.2).

use std::time::Duration;

use super::CursorValue;
use super::decode;
use super::mark::Mark;
use crate::jq::Vars;
use crate::model::Timestamp;
use crate::provider::{CursorSpec, Detect, Lookback};
use crate::source::SourceStream;
use crate::store::{Phase, PruneSeen, StreamState};

/// Rows that one transaction removes.
const BATCH: usize = 500;

/// The cursor by which a stream's keys grow old. Where each parent has a mark of its own, none speaks for all of them.
fn ageing(stream: &SourceStream) -> Option<&CursorSpec> {
    let spec = &stream.spec;
    let cursor = spec.cursor.as_ref()?;
    (spec.detect == Detect::New && spec.parent.is_none() && cursor.field.is_some()).then_some(cursor)
}

/// Where a record stands in the order of its stream's cursor. None: its key is kept for ever.
pub(super) fn place_of(stream: &SourceStream, record: &str, vars: &Vars) -> Option<i64> {
    let cursor = ageing(stream)?;
    match decode::cursor_of(cursor, cursor.field.as_ref()?, record, vars).ok()? {
        CursorValue::Time(time) => Some(time.0),
        CursorValue::Number(number) => number.parse().ok(),
        CursorValue::Text(_) => None,
    }
}

/// Which seen keys of a stream may go now. None: none of them, as there is no mark that they could be older than, or a run
/// that goes on later may still reach back to them.
pub fn forgettable(
    stream: &SourceStream,
    state: &StreamState,
    redelivers: Duration,
    now: Timestamp,
) -> Option<PruneSeen> {
    let cursor = ageing(stream)?;
    let under_way = state.resume.is_some() || state.releasing || state.detection.backfill.is_some();
    if state.phase == Phase::Baseline || under_way {
        return None;
    }
    let late = stream.spec.late.map(|late| late.lag.saturating_add(late.window)).unwrap_or_default();
    let (below, written_before) = match (Mark::stored(state.mark.as_deref())?, cursor.lookback) {
        (Mark::Time(mark), lookback) => {
            let lookback = match lookback {
                Lookback::Time(back) => back,
                Lookback::Number(_) => Duration::ZERO,
            };
            // The query is rounded down to the filter's own precision, and a filter may leave its bound out.
            let bound = cursor.precision.saturating_mul(2);
            (Timestamp(mark).minus(lookback).minus(late).minus(redelivers).minus(bound).0, now)
        }
        (Mark::Number(mark), lookback) => {
            let back = match lookback {
                Lookback::Number(back) => i64::try_from(back).ok()?,
                Lookback::Time(_) => 0,
            };
            // A number says nothing of when it was: how long ago the key was seen does.
            let below = mark.parse::<i64>().ok()?.saturating_sub(back).saturating_sub(i64::from(!cursor.inclusive));
            (below, now.minus(redelivers))
        }
        (Mark::Text(_), _) => return None,
    };
    let field = cursor.field.as_ref().map(|field| field.text()).unwrap_or_default();
    let placed_by = format!("{field} {:?} {:?} {:?}", cursor.kind, cursor.format, cursor.timezone);
    Some(PruneSeen { below, written_before, placed_by, limit: BATCH })
}
