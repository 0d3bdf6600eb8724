//! Date slices of a listing (`window`): from the cursor to the provider's now, each no longer than the API takes. Pure.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::Timestamp;

/// A slice that is halved further than this holds more records in one moment than the provider shows.
const SHORTEST: i64 = 1_000;

/// Where a run stands among its slices, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Slices {
    start: i64,
    step: i64,
    declared: i64,
    until: i64,
}

impl Slices {
    pub fn new(from: Timestamp, until: Timestamp, step: Duration) -> Slices {
        let step = i64::try_from(step.as_millis()).unwrap_or(i64::MAX).max(SHORTEST);
        Slices { start: from.0.min(until.0), step, declared: step, until: until.0 }
    }

    /// The present slice: from and to.
    pub fn current(&self) -> (Timestamp, Timestamp) {
        (Timestamp(self.start), Timestamp(self.start.saturating_add(self.step).min(self.until)))
    }

    /// Goes on to the next slice. False: that was the last one.
    pub fn advance(&mut self) -> bool {
        let (_, end) = self.current();
        self.start = end.0;
        // What was too full for the provider's cap says nothing of what follows.
        self.step = self.step.saturating_mul(2).clamp(SHORTEST, self.declared);
        end.0 < self.until
    }

    /// Ends elsewhere: the provider's clock was not known when the present slice was cut. That one stays as it was asked for.
    pub fn reach(&mut self, until: Timestamp) {
        let (start, end) = self.current();
        (self.step, self.until) = (end.0 - start.0, until.0);
    }

    /// The present slice holds more than the provider shows: half of it first. False: it cannot be split any more.
    pub fn halve(&mut self) -> bool {
        let (start, end) = self.current();
        self.step = (end.0 - start.0) / 2;
        self.step >= SHORTEST
    }

    /// The end of the present slice, when it lies so far back that nothing can still be written into it.
    pub fn settled(&self) -> Option<Timestamp> {
        let (_, end) = self.current();
        (end.0.saturating_add(self.declared) <= self.until).then_some(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000;

    fn all(mut slices: Slices) -> Vec<(i64, i64)> {
        let mut found = Vec::new();
        loop {
            let (start, end) = slices.current();
            found.push((start.0 / DAY, end.0 / DAY));
            if !slices.advance() {
                return found;
            }
        }
    }

    #[test]
    fn slices_join_without_a_gap_and_end_at_now() {
        let step = Duration::from_secs(30 * 86_400);
        assert_eq!(all(Slices::new(Timestamp(0), Timestamp(70 * DAY), step)), [(0, 30), (30, 60), (60, 70)]);
        assert_eq!(all(Slices::new(Timestamp(0), Timestamp(30 * DAY), step)), [(0, 30)]);
        assert_eq!(all(Slices::new(Timestamp(5 * DAY), Timestamp(5 * DAY), step)), [(5, 5)]);
        assert_eq!(
            all(Slices::new(Timestamp(9 * DAY), Timestamp(5 * DAY), step)),
            [(5, 5)],
            "a mark ahead of the clock"
        );
    }

    #[test]
    fn slices_end_where_the_providers_clock_stands_once_it_is_known() {
        let step = Duration::from_secs(30 * 86_400);
        let mut further = Slices::new(Timestamp(0), Timestamp(40 * DAY), step);
        further.reach(Timestamp(70 * DAY));
        assert_eq!(all(further), [(0, 30), (30, 60), (60, 70)]);
        let mut cut = Slices::new(Timestamp(0), Timestamp(10 * DAY), step);
        cut.reach(Timestamp(70 * DAY));
        assert_eq!(all(cut), [(0, 10), (10, 30), (30, 60), (60, 70)], "what was not asked for is not passed over");
        let mut nearer = Slices::new(Timestamp(0), Timestamp(70 * DAY), step);
        nearer.reach(Timestamp(40 * DAY));
        assert_eq!(nearer.settled(), None, "its clock stands within a slice of the end: more may be written there");
        assert_eq!(all(nearer), [(0, 30), (30, 40)]);
    }

    #[test]
    fn a_slice_over_the_providers_cap_is_halved_and_those_after_it_grow_again() {
        let mut slices = Slices::new(Timestamp(0), Timestamp(16 * DAY), Duration::from_secs(8 * 86_400));
        assert!(slices.halve() && slices.halve());
        assert_eq!(all(slices), [(0, 2), (2, 6), (6, 14), (14, 16)]);
        let mut tiny = Slices::new(Timestamp(0), Timestamp(DAY), Duration::from_secs(3));
        assert!(tiny.halve() && !tiny.halve());
    }

    #[test]
    fn only_a_slice_that_is_a_whole_step_old_is_settled() {
        let mut slices = Slices::new(Timestamp(0), Timestamp(70 * DAY), Duration::from_secs(30 * 86_400));
        assert_eq!(slices.settled(), Some(Timestamp(30 * DAY)));
        slices.advance();
        assert_eq!(slices.settled(), None);
    }
}
