//! When a handler's failures say that it is the handler that is ill, and not one event (RULES R7.2).

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::model::Key;

/// Failures in a row that open the breaker.
const FAILURES: u32 = 5;
/// They must speak for so many keys, unless nothing else is being sent.
const KEYS: usize = 3;

/// The failures in a row of one handler, as far as this process has seen.
#[derive(Default)]
pub struct Breaker(Mutex<Streak>);

#[derive(Default)]
struct Streak {
    failures: u32,
    keys: HashSet<Key>,
}

impl Breaker {
    /// Takes the end of an attempt; true when the handler is to be left alone for a while. `alone`: nothing else is under way
    /// to it, so that fewer keys than three are all there are. `probe`: it was the one attempt that an open breaker allows.
    pub fn ended(&self, key: &Key, delivered: bool, alone: bool, probe: bool) -> bool {
        let mut streak = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if delivered {
            *streak = Streak::default();
            return false;
        }
        streak.failures = streak.failures.saturating_add(1);
        if streak.keys.len() < KEYS {
            streak.keys.insert(key.clone());
        }
        probe || streak.failures >= FAILURES && (streak.keys.len() >= KEYS || alone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_failures_in_a_row_over_three_keys_open_it() {
        let breaker = Breaker::default();
        let fails = |key: &str| breaker.ended(&key.into(), false, false, false);
        assert_eq!(["a", "b", "c", "a"].map(fails), [false; 4]);
        assert!(fails("b"));
        assert!(!breaker.ended(&"a".into(), true, false, false));
        assert!(!fails("a"), "a success begins anew");
    }

    #[test]
    fn one_poison_event_does_not_open_it_while_others_are_under_way() {
        let breaker = Breaker::default();
        for _ in 0..20 {
            assert!(!breaker.ended(&"a".into(), false, false, false));
        }
        assert!(breaker.ended(&"a".into(), false, true, false), "but it does when it is all there is");
    }

    #[test]
    fn a_probe_that_fails_keeps_it_open() {
        assert!(Breaker::default().ended(&"a".into(), false, false, true));
    }
}
