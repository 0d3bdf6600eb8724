//! The mark: where the next poll of a stream starts. It moves forward only, never past what is not on disk, never to local now.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::CursorValue;
use super::decimal::Decimal;
use crate::model::Timestamp;
use crate::planted::{self, Fault};
use crate::provider::{CursorKind, CursorOrder, CursorSpec, Lookback, Start};

/// How far before our own clock the first request of `start = "now"` asks; its answer's `Date` then decides.
const FIRST_LOOK: Duration = Duration::from_secs(60 * 60);

/// The mark as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Milliseconds since 1970.
    Time(i64),
    Number(String),
    Text(String),
}

impl Mark {
    /// Reads a stored mark; None when it is unreadable, which starts anew.
    pub fn stored(text: Option<&str>) -> Option<Mark> {
        serde_json::from_str(text?).ok()
    }

    pub fn to_stored(&self) -> String {
        serde_json::to_string(self).expect("a mark is always JSON")
    }

    pub(super) fn of(value: &CursorValue) -> Mark {
        match value {
            CursorValue::Time(time) => Mark::Time(time.0),
            CursorValue::Number(number) => Mark::Number(number.clone()),
            CursorValue::Text(text) => Mark::Text(text.clone()),
        }
    }

    pub(super) fn value(&self) -> CursorValue {
        match self {
            Mark::Time(time) => CursorValue::Time(Timestamp(*time)),
            Mark::Number(number) => CursorValue::Number(number.clone()),
            Mark::Text(text) => CursorValue::Text(text.clone()),
        }
    }

    /// The first value beyond the mark, as the filter can say it.
    fn behind(&self, cursor: &CursorSpec) -> Mark {
        let tick = i64::try_from(cursor.precision.as_millis()).unwrap_or(1);
        match self {
            Mark::Time(time) => Mark::Time(time + tick),
            Mark::Number(number) => {
                Mark::Number(number.parse::<i64>().map_or_else(|_| number.clone(), |n| (n + 1).to_string()))
            }
            Mark::Text(text) => Mark::Text(text.clone()),
        }
    }

    /// Whether `self` lies before `other`; opaque marks have no order and each one follows the last.
    fn before(&self, other: &Mark) -> bool {
        match (self, other) {
            (Mark::Time(a), Mark::Time(b)) => a < b,
            (Mark::Number(a), Mark::Number(b)) => Decimal::parse(a) < Decimal::parse(b),
            _ => self != other,
        }
    }
}

/// Follows the mark through a run.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// As stored when the run began.
    stored: Option<Mark>,
    /// The furthest value seen that the mark may move to.
    best: Option<Mark>,
    /// The last record's own value, to see whether the listing keeps its declared order.
    last: Option<Mark>,
    /// Something was not taken in: the mark stays where it is (RULES R3.5, R5.3).
    frozen: bool,
    /// A record contradicted the declared order (RULES R1.2).
    pub disordered: bool,
    /// A record lies further ahead of the provider's clock than the stream allows: the furthest one's date.
    pub ahead: Option<Timestamp>,
}

impl Tracker {
    pub fn new(stored: Option<&str>) -> Tracker {
        Tracker::at(Mark::stored(stored))
    }

    /// Begins at this mark.
    pub fn at(stored: Option<Mark>) -> Tracker {
        Tracker { stored, best: None, last: None, frozen: false, disordered: false, ahead: None }
    }

    /// Takes a record's value in. `latest` is the latest time that the provider's clock can show.
    pub fn see(&mut self, cursor: &CursorSpec, value: &CursorValue, latest: Option<Timestamp>) {
        let mark = Mark::of(value);
        match (cursor.order, &self.last) {
            (CursorOrder::Asc, Some(last)) if cursor.kind != CursorKind::Text && mark.before(last) => {
                self.disordered = true
            }
            _ => {}
        }
        self.last = Some(mark.clone());
        let mark = match (mark, latest) {
            (Mark::Time(time), Some(latest)) => {
                if time > latest.plus(cursor.max_future).0 {
                    self.ahead = self.ahead.max(Some(Timestamp(time)));
                }
                // Never past the provider's own clock: whatever it dates between its now and the mark would be skipped. And
                // never into ticks that are still filling.
                Mark::Time(time.min(latest.minus(cursor.settle).0))
            }
            (mark, _) => mark,
        };
        let first_of_newest_first =
            cursor.kind == CursorKind::Text && cursor.order == CursorOrder::Desc && self.best.is_some();
        if !first_of_newest_first && self.best.as_ref().is_none_or(|best| best.before(&mark)) {
            self.best = Some(mark);
        }
    }

    /// Takes the place that the answer itself, or its link to the next page, names. The last one counts; one that is ordered
    /// never goes back.
    pub fn told(&mut self, value: &CursorValue) {
        let mark = Mark::of(value);
        if self.best.as_ref().is_none_or(|best| best.before(&mark)) {
            self.best = Some(mark);
        }
    }

    /// Everything up to this moment was listed, and is older than anything that can still be written: where no record says more,
    /// the next run need not ask for it again.
    pub fn passed(&mut self, until: Timestamp) {
        self.told(&CursorValue::Time(until));
    }

    /// The furthest place seen so far, for a run that goes on later.
    pub fn best(&self) -> Option<&Mark> {
        self.best.as_ref()
    }

    /// Takes over what an earlier part of the same run saw.
    pub fn resume(&mut self, best: Option<Mark>) {
        self.best = best;
    }

    /// Whether this run has seen a place to go on from.
    pub fn found(&self) -> bool {
        self.best.is_some()
    }

    /// The next record may stand before the last one.
    pub fn asks_again(&mut self) {
        self.last = None;
    }

    /// The last record's own value.
    pub fn last(&self) -> Option<CursorValue> {
        self.last.as_ref().map(Mark::value)
    }

    pub fn freeze(&mut self) {
        self.frozen = true;
    }

    /// The mark to store now; None: it stays. `started` is where an empty first look leaves it.
    pub fn moved(&self, started: Option<Timestamp>) -> Option<Mark> {
        if planted::is(Fault::LookbackLowersMark)
            && let Some(Mark::Time(time)) = &self.stored
        {
            return Some(Mark::Time(time - 20_000));
        }
        if self.frozen {
            return None;
        }
        match (&self.stored, &self.best) {
            (None, None) => started.map(|time| Mark::Time(time.0)),
            (Some(stored), Some(best)) if !stored.before(best) => None,
            (_, best) => best.clone(),
        }
    }
}

/// The value that the run's requests ask from: the mark less the lookback, or the declared start. None: leave it out.
pub fn query_value(cursor: &CursorSpec, stored: Option<&str>, now: Timestamp) -> Option<CursorValue> {
    query_from(cursor, Mark::stored(stored), now)
}

/// The same for a mark that was read already.
pub fn query_from(cursor: &CursorSpec, mark: Option<Mark>, now: Timestamp) -> Option<CursorValue> {
    let Some(mark) = mark else {
        let start = match &cursor.start {
            Start::All => return None,
            Start::Now => now.minus(FIRST_LOOK),
            Start::Ago(ago) => now.minus(*ago),
            Start::At(time) => *time,
        };
        return (cursor.kind == CursorKind::Time).then_some(CursorValue::Time(start));
    };
    let mark = if planted::is(Fault::StrictBoundary) { mark.behind(cursor) } else { mark };
    Some(match (mark, cursor.lookback) {
        (Mark::Time(time), Lookback::Time(back)) => {
            // A filter that leaves its bound out would miss what is dated like the mark.
            let bound = if cursor.inclusive { Duration::ZERO } else { cursor.precision };
            CursorValue::Time(Timestamp(time).minus(back).minus(bound))
        }
        (Mark::Time(time), Lookback::Number(_)) => CursorValue::Time(Timestamp(time)),
        (Mark::Number(number), Lookback::Number(back)) => {
            let bound = back.saturating_add(u64::from(!cursor.inclusive));
            CursorValue::Number(if bound > 0 { minus(&number, bound) } else { number })
        }
        (Mark::Number(number), Lookback::Time(_)) => CursorValue::Number(number),
        (Mark::Text(text), _) => CursorValue::Text(text),
    })
}

/// `number - back`, for numbers that fit 128 bits; longer ones are asked from as they are, which only repeats less.
fn minus(number: &str, back: u64) -> String {
    number.parse::<i128>().map_or_else(|_| number.to_owned(), |n| (n - i128::from(back)).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jq::Jq;
    use crate::template::TimeFormat;

    fn spec(kind: CursorKind, order: CursorOrder) -> CursorSpec {
        CursorSpec {
            field: Some(Jq::parse(".at").expect("a filter")),
            answer: None,
            kind,
            format: TimeFormat::Rfc3339,
            timezone: None,
            precision: Duration::from_secs(1),
            inclusive: true,
            order,
            start: Start::All,
            lookback: Lookback::Time(Duration::ZERO),
            settle: Duration::ZERO,
            max_future: Duration::from_secs(300),
        }
    }

    fn time(ms: i64) -> CursorValue {
        CursorValue::Time(Timestamp(ms))
    }

    #[test]
    fn the_mark_never_moves_back() {
        let spec = spec(CursorKind::Time, CursorOrder::Asc);
        let mut tracker = Tracker::new(Some(r#"{"time":5000}"#));
        tracker.see(&spec, &time(3000), None);
        assert_eq!(tracker.moved(None), None);
        tracker.see(&spec, &time(7000), None);
        assert_eq!(tracker.moved(None), Some(Mark::Time(7000)));
    }

    #[test]
    fn a_record_dated_in_the_future_does_not_pull_the_mark_with_it() {
        let spec = spec(CursorKind::Time, CursorOrder::Asc);
        let mut tracker = Tracker::new(None);
        tracker.see(&spec, &time(900), Some(Timestamp(1_000)));
        tracker.see(&spec, &time(10_000_000_000), Some(Timestamp(1_000)));
        // Not to the provider's now plus a tolerance: what it dates in between would never be asked for.
        assert_eq!(tracker.moved(None), Some(Mark::Time(1_000)));
        assert_eq!(tracker.ahead, Some(Timestamp(10_000_000_000)));
        let mut near = Tracker::new(None);
        near.see(&spec, &time(200_000), Some(Timestamp(1_000)));
        assert_eq!((near.moved(None), near.ahead), (Some(Mark::Time(1_000)), None));
    }

    #[test]
    fn the_mark_keeps_out_of_ticks_that_are_still_filling() {
        let mut spec = spec(CursorKind::Time, CursorOrder::Asc);
        spec.settle = Duration::from_secs(10);
        let mut tracker = Tracker::new(None);
        tracker.see(&spec, &time(95_000), Some(Timestamp(100_000)));
        assert_eq!(tracker.moved(None), Some(Mark::Time(90_000)));
    }

    #[test]
    fn a_place_that_the_answer_names_is_the_last_one_and_an_ordered_one_never_goes_back() {
        let mut opaque = Tracker::new(Some(r#"{"text":"a"}"#));
        opaque.told(&CursorValue::Text("b".into()));
        opaque.told(&CursorValue::Text("c".into()));
        assert_eq!(opaque.moved(None), Some(Mark::Text("c".into())));
        let mut ordered = Tracker::new(Some(r#"{"time":9}"#));
        ordered.told(&time(8));
        assert_eq!(ordered.moved(None), None);
    }

    #[test]
    fn a_filter_that_leaves_its_bound_out_is_asked_from_one_number_before() {
        let mut spec = spec(CursorKind::Number, CursorOrder::None);
        spec.lookback = Lookback::Number(0);
        let asked = |spec: &CursorSpec| query_value(spec, Some(r#"{"number":"42"}"#), Timestamp(0));
        assert_eq!(asked(&spec), Some(CursorValue::Number("42".into())));
        spec.inclusive = false;
        assert_eq!(asked(&spec), Some(CursorValue::Number("41".into())));
    }

    #[test]
    fn a_frozen_run_leaves_the_mark_where_it_was() {
        let spec = spec(CursorKind::Number, CursorOrder::None);
        let mut tracker = Tracker::new(Some(r#"{"number":"9"}"#));
        tracker.see(&spec, &CursorValue::Number("10".into()), None);
        assert_eq!(tracker.moved(None), Some(Mark::Number("10".into())));
        tracker.freeze();
        assert_eq!(tracker.moved(None), None);
    }

    #[test]
    fn a_listing_that_contradicts_its_order_is_noticed() {
        let spec = spec(CursorKind::Time, CursorOrder::Asc);
        let mut tracker = Tracker::new(None);
        for ms in [1000, 2000, 2000] {
            tracker.see(&spec, &time(ms), None);
        }
        assert!(!tracker.disordered);
        tracker.see(&spec, &time(1999), None);
        assert!(tracker.disordered);
    }

    #[test]
    fn the_lookback_lowers_the_query_and_not_the_mark() {
        let mut spec = spec(CursorKind::Time, CursorOrder::Asc);
        spec.lookback = Lookback::Time(Duration::from_secs(2));
        let stored = Some(r#"{"time":10000}"#);
        assert_eq!(query_value(&spec, stored, Timestamp(99_000)), Some(time(8_000)));
        spec.inclusive = false;
        assert_eq!(query_value(&spec, stored, Timestamp(99_000)), Some(time(7_000)));
        assert_eq!(Tracker::new(stored).moved(None), None);
    }

    #[test]
    fn an_empty_first_look_leaves_the_mark_at_the_providers_time() {
        assert_eq!(Tracker::new(None).moved(Some(Timestamp(42))), Some(Mark::Time(42)));
    }
}
