//! One budget for each set of equal credentials: how many requests in how long, how many at once, and how long to keep quiet
//! after the provider said so. Two sources that use one credential share its budget.
//!
//! Windows roll, and are kept in memory: a restart forgets them. That they outlive it (RULES R10.3) is a later issue's.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock::Clock;
use crate::model::Timestamp;
use crate::provider::Limits;

/// Requests in flight at once where the provider file says nothing.
const CONCURRENCY: usize = 2;
/// A run waits at most so long for its budget; a longer wait ends the run, and the stream is due when the budget allows.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);

/// Nothing may be sent before `until`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exhausted {
    pub until: Timestamp,
}

/// The right to have one request in flight.
pub(super) type Permit = OwnedSemaphorePermit;

/// What one credential may still do.
#[derive(Debug)]
pub(super) struct Budget {
    permits: Arc<Semaphore>,
    spent: Mutex<Spent>,
}

#[derive(Debug)]
struct Spent {
    windows: Vec<Window>,
    /// The provider asked for quiet until then.
    quiet_until: Option<Timestamp>,
    /// The provider refused the credential: nothing is asked with it any more (banks lock accounts).
    refused: Option<String>,
}

/// At most `count` requests in any stretch of `per`.
#[derive(Debug)]
struct Window {
    count: usize,
    per: Duration,
    sent: VecDeque<Timestamp>,
}

impl Window {
    /// When the next request may go; None: now. A request dated in the future (the clock was set back) no longer counts.
    fn free_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        let per = self.per;
        self.sent.retain(|at| *at <= now && now.since(*at) < per);
        let first_of_full = self.sent.len().checked_sub(self.count)?;
        self.sent.get(first_of_full).map(|at| at.plus(per))
    }
}

impl Budget {
    pub fn new(limits: &Limits) -> Budget {
        let windows = limits.rates.iter().map(|(count, per)| Window {
            count: usize::try_from(*count).unwrap_or(usize::MAX).max(1),
            per: *per,
            sent: VecDeque::new(),
        });
        Budget {
            permits: Arc::new(Semaphore::new(limits.concurrency.unwrap_or(CONCURRENCY).max(1))),
            spent: Mutex::new(Spent { windows: windows.collect(), quiet_until: None, refused: None }),
        }
    }

    /// Waits for a place among the requests in flight.
    pub async fn permit(&self) -> Permit {
        self.permits.clone().acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Counts one request as sent, or says when it may be. All windows must have room, else none is charged.
    pub fn spend(&self, now: Timestamp) -> Result<(), Exhausted> {
        let mut spent = self.spent();
        let quiet = spent.quiet_until.filter(|until| *until > now);
        let full = spent.windows.iter_mut().filter_map(|window| window.free_at(now)).max();
        if let Some(until) = quiet.max(full) {
            return Err(Exhausted { until });
        }
        spent.quiet_until = None;
        for window in &mut spent.windows {
            window.sent.push_back(now);
        }
        Ok(())
    }

    /// Takes back the last charge: the request was not sent after all.
    fn refund(&self) {
        for window in &mut self.spent().windows {
            window.sent.pop_back();
        }
    }

    /// The provider asked for quiet.
    pub fn quiet_until(&self, until: Timestamp) {
        let mut spent = self.spent();
        spent.quiet_until = spent.quiet_until.max(Some(until));
    }

    /// The provider refused the credential, with its reason; or took it again (None).
    pub fn set_refused(&self, reason: Option<String>) {
        self.spent().refused = reason;
    }

    /// Why nothing may be asked with this credential any more.
    pub fn refused(&self) -> Option<String> {
        self.spent().refused.clone()
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits until every budget has room for one more request, then charges them all. The wait is bounded by [`WAIT_MAX`].
pub(super) async fn enter(budgets: &[Arc<Budget>], clock: &Clock) -> Result<Vec<Permit>, Exhausted> {
    let mut permits = Vec::with_capacity(budgets.len());
    for budget in budgets {
        permits.push(budget.permit().await);
    }
    let latest = clock.now().plus(WAIT_MAX);
    for (charged, budget) in budgets.iter().enumerate() {
        while let Err(exhausted) = budget.spend(clock.now()) {
            if exhausted.until > latest {
                budgets[..charged].iter().for_each(|budget| budget.refund());
                return Err(exhausted);
            }
            clock.sleep_until(exhausted.until).await;
        }
    }
    Ok(permits)
}

/// Whose budget it is: a hash over host and credential, or a stream of it that has limits of its own.
pub(super) type BudgetKey = String;

/// All budgets in use. A reload keeps those whose credential and limits stay, with what they have spent.
#[derive(Debug, Default)]
pub(super) struct Budgets(HashMap<BudgetKey, (Limits, Arc<Budget>)>);

impl Budgets {
    /// The budget of this key: the one in use where its limits are the same, else a new one. Where two sources with one
    /// credential declare different limits, the first to be named decides.
    pub fn of(&mut self, former: &Budgets, key: &str, limits: &Limits) -> Arc<Budget> {
        let entry = self.0.entry(key.to_owned()).or_insert_with(|| match former.0.get(key) {
            Some((known, budget)) if known == limits => (known.clone(), budget.clone()),
            Some(_) | None => (limits.clone(), Arc::new(Budget::new(limits))),
        });
        entry.1.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(rates: &[(u32, u64)]) -> Limits {
        Limits { rates: rates.iter().map(|(n, s)| (*n, Duration::from_secs(*s))).collect(), concurrency: None }
    }

    #[test]
    fn windows_roll_and_all_of_them_hold() {
        let budget = Budget::new(&limits(&[(2, 1), (3, 60)]));
        for (now, want) in [
            (0, Ok(())),
            (400, Ok(())),
            (900, Err(1_000)),
            (1_000, Ok(())),
            (1_500, Err(60_000)),
            (59_999, Err(60_000)),
            (60_000, Ok(())),
            (60_001, Err(60_400)),
        ] {
            let want = want.map_err(|until| Exhausted { until: Timestamp(until) });
            assert_eq!(budget.spend(Timestamp(now)), want, "at {now}");
        }
    }

    #[test]
    fn a_clock_set_back_does_not_block_the_budget() {
        let budget = Budget::new(&limits(&[(1, 60)]));
        assert_eq!(budget.spend(Timestamp(3_600_000)), Ok(()));
        assert_eq!(budget.spend(Timestamp(0)), Ok(()));
    }

    #[test]
    fn quiet_asked_for_by_the_provider_holds_for_everybody_with_the_credential() {
        let mut budgets = Budgets::default();
        let former = Budgets::default();
        let one = budgets.of(&former, "key", &limits(&[]));
        let other = budgets.of(&former, "key", &limits(&[]));
        one.quiet_until(Timestamp(500));
        one.quiet_until(Timestamp(400));
        assert_eq!(other.spend(Timestamp(499)), Err(Exhausted { until: Timestamp(500) }));
        assert_eq!(other.spend(Timestamp(500)), Ok(()));
    }

    #[test]
    fn a_reload_keeps_what_was_spent_unless_the_limits_changed() {
        let mut first = Budgets::default();
        first.of(&Budgets::default(), "key", &limits(&[(1, 60)])).spend(Timestamp(0)).expect("room");
        let same = Budgets::default().of(&first, "key", &limits(&[(1, 60)]));
        assert!(same.spend(Timestamp(1)).is_err());
        let changed = Budgets::default().of(&first, "key", &limits(&[(2, 60)]));
        assert!(changed.spend(Timestamp(1)).is_ok());
    }

    #[tokio::test]
    async fn a_short_wait_is_waited_for_and_a_long_one_ends_the_run() {
        let clock = Clock::manual(Timestamp(0));
        let budget = Arc::new(Budget::new(&limits(&[(1, 10)])));
        let stream = Arc::new(Budget::new(&limits(&[(2, 86_400)])));
        let both = [stream, budget];
        enter(&both, &clock).await.expect("room");
        let second = tokio::spawn({
            let (both, clock) = (both.clone(), clock.clone());
            async move { enter(&both, &clock).await.map(|_| ()) }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        clock.advance(Duration::from_secs(10));
        assert_eq!(second.await.expect("no panic"), Ok(()));
        let third = enter(&both, &clock).await.map(|_| ());
        assert_eq!(third, Err(Exhausted { until: Timestamp(86_400_000) }));
    }

    #[tokio::test]
    async fn a_request_that_one_budget_refuses_is_charged_to_none() {
        let clock = Clock::manual(Timestamp(0));
        let rare = Arc::new(Budget::new(&limits(&[(1, 86_400)])));
        let quiet = Arc::new(Budget::new(&limits(&[])));
        quiet.quiet_until(Timestamp(3_600_000));
        let refused = enter(&[rare.clone(), quiet], &clock).await.map(|_| ());
        assert_eq!(refused, Err(Exhausted { until: Timestamp(3_600_000) }));
        assert_eq!(rare.spend(Timestamp(1)), Ok(()));
    }

    #[tokio::test]
    async fn no_more_requests_are_in_flight_than_allowed() {
        use futures_util::FutureExt;
        let budget = Budget::new(&Limits { rates: vec![], concurrency: Some(1) });
        let permit = budget.permit().await;
        assert!(budget.permit().now_or_never().is_none());
        drop(permit);
        assert!(budget.permit().now_or_never().is_some());
    }
}
