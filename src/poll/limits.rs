//! One budget for each set of equal credentials: how many requests in how long, how many at once, what the provider says is left,
//! and how long to keep quiet after it said so. Two sources that use one credential share its budget.
//!
//! Windows roll and outlive a restart: what is counted is on disk before the request is sent ([`Budget::to_store`]), with the
//! machine's own count beside the wall's, so that neither a restart nor a clock that was set frees or loses a request.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::HeaderMap;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::pace;
use crate::clock::Clock;
use crate::model::Timestamp;
use crate::provider::Limits;

/// Requests in flight at once where the provider file says nothing.
const CONCURRENCY: usize = 2;
/// A run waits at most so long for its budget; a longer wait ends the run, and the stream is due when the budget allows.
pub(super) const WAIT_MAX: Duration = Duration::from_secs(30);
/// Shorter windows have rolled on by the time a process has started again.
const STORED_FROM: Duration = Duration::from_secs(30);
/// Larger windows are not worth their bytes: they are kept in memory alone.
const STORED_MAX: usize = 10_000;
/// After a crash at most this share of a window's requests is forgotten; windows of fewer are exact.
const STORED_SHARE: usize = 1_000;
/// How long a credential keeps quiet whose quota is spent when the provider does not say until when.
const QUIET: Duration = Duration::from_secs(60);

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
    /// Under which its state is stored.
    pub key: BudgetKey,
    permits: Arc<Semaphore>,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default)]
struct Spent {
    windows: Vec<Window>,
    /// The provider asked for quiet until then.
    quiet_until: Option<Timestamp>,
    /// The provider refused the credential: nothing is asked with it any more (banks lock accounts).
    refused: Option<String>,
    /// How often that happened: what was sent before a refusal does not end it.
    refusals: u64,
    /// What the provider last said is left.
    left: Option<u64>,
    /// Requests counted since the state was last given to the store.
    unsaved: usize,
    /// Something else than a count changed since then.
    changed: bool,
}

/// At most `count` requests in any stretch of `per`.
#[derive(Debug)]
struct Window {
    count: usize,
    per: Duration,
    sent: VecDeque<Timestamp>,
}

impl Window {
    /// When the next request may go; None: now. A request dated in the future (the clock was set back) counts as of now: the
    /// quota is the provider's, and its clock was not set back.
    fn free_at(&mut self, now: Timestamp) -> Option<Timestamp> {
        let per = self.per;
        self.sent.iter_mut().for_each(|at| *at = (*at).min(now));
        self.sent.retain(|at| now.since(*at) < per);
        let first_of_full = self.sent.len().checked_sub(self.count)?;
        self.sent.get(first_of_full).map(|at| at.plus(per))
    }

    fn is_stored(&self) -> bool {
        self.per >= STORED_FROM && self.count <= STORED_MAX
    }
}

/// A budget on disk. Windows are told apart by their length: a changed count keeps what was spent.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Stored {
    /// By length in milliseconds.
    windows: Vec<(u64, Vec<i64>)>,
    quiet_until: Option<i64>,
    left: Option<u64>,
    /// Why the provider refused the credential: a restart asks it nothing either.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<String>,
    /// When this was written, by the wall and by the machine's own count.
    wall: i64,
    boot: String,
    boot_millis: i64,
}

impl Stored {
    /// How far the wall was set since this was written; 0 where nobody can know (another run of the machine).
    fn stepped(&self, clock: &Clock) -> i64 {
        let boot = clock.boot();
        if boot.boot.is_empty() || boot.boot != self.boot {
            return 0;
        }
        let passed = boot.millis.saturating_sub(self.boot_millis);
        clock.now().0.saturating_sub(self.wall.saturating_add(passed))
    }
}

impl Budget {
    pub fn new(key: &str, limits: &Limits) -> Budget {
        let windows = limits.rates.iter().map(|(count, per)| Window {
            count: usize::try_from(*count).unwrap_or(usize::MAX).max(1),
            per: *per,
            sent: VecDeque::new(),
        });
        Budget {
            key: key.to_owned(),
            permits: Arc::new(Semaphore::new(limits.concurrency.unwrap_or(CONCURRENCY).max(1))),
            spent: Mutex::new(Spent { windows: windows.collect(), ..Spent::default() }),
        }
    }

    /// Goes on where an earlier process was. What cannot be read is as if it was never written.
    fn restore(&self, stored: &str, clock: &Clock) {
        let stored: Stored = serde_json::from_str(stored).unwrap_or_default();
        let step = stored.stepped(clock);
        let moved = |at: i64| Timestamp(at.saturating_add(step));
        let mut spent = self.spent();
        for window in &mut spent.windows {
            let per = u64::try_from(window.per.as_millis()).unwrap_or(u64::MAX);
            let known = stored.windows.iter().find(|(length, _)| *length == per);
            window.sent = known.into_iter().flat_map(|(_, sent)| sent.iter().map(|at| moved(*at))).collect();
        }
        // The longest quiet that a provider can ask for: a wall that was wrong then must not silence us for years.
        let latest = clock.now().plus(pace::RETRY_AFTER_MAX);
        spent.quiet_until = stored.quiet_until.map(|at| moved(at).min(latest));
        spent.left = stored.left;
        spent.refused = stored.refused;
    }

    /// What must be on disk before the next request is sent; None: it is there already.
    pub fn to_store(&self, clock: &Clock) -> Option<String> {
        let mut spent = self.spent();
        let exact = spent.windows.iter().filter(|window| window.is_stored()).map(|window| window.count).min();
        let due = exact.is_some_and(|count| spent.unsaved > count / STORED_SHARE);
        if !due && !spent.changed {
            return None;
        }
        (spent.unsaved, spent.changed) = (0, false);
        Some(spent.to_stored(clock))
    }

    /// The wall was set by so much: what was sent so long ago still was.
    pub fn clock_stepped(&self, millis: i64) {
        let mut spent = self.spent();
        let shifted = |at: &mut Timestamp| at.0 = at.0.saturating_add(millis);
        spent.windows.iter_mut().flat_map(|window| window.sent.iter_mut()).for_each(shifted);
        spent.quiet_until.iter_mut().for_each(shifted);
        spent.changed = true;
    }

    async fn permit(&self) -> Permit {
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
        spent.unsaved += 1;
        for window in &mut spent.windows {
            window.sent.push_back(now);
        }
        Ok(())
    }

    /// Takes back the last charge: the request was not sent after all.
    fn refund(&self) {
        let mut spent = self.spent();
        spent.unsaved = spent.unsaved.saturating_sub(1);
        for window in &mut spent.windows {
            window.sent.pop_back();
        }
    }

    /// The provider asked for quiet.
    pub fn quiet_until(&self, until: Timestamp) {
        let mut spent = self.spent();
        spent.quiet_until = spent.quiet_until.max(Some(until));
        spent.changed = true;
    }

    /// Takes in what an answer says of the quota, as the provider file declares it.
    pub fn heed(&self, limits: &Limits, headers: &HeaderMap, now: Timestamp) {
        let Some(left) = limits.remaining.as_deref().and_then(|name| number(headers, name)) else { return };
        let mut spent = self.spent();
        spent.left = Some(left);
        if left > limits.stop_below {
            return;
        }
        let reset = limits.reset.as_ref().and_then(|(name, unit)| pace::reset(headers, name, *unit, now));
        let until = now.plus(reset.unwrap_or(QUIET));
        spent.quiet_until = spent.quiet_until.max(Some(until));
        spent.changed = true;
    }

    /// Requests that are left: as the provider says, or by our own count; None: nobody counts.
    pub fn left(&self, now: Timestamp) -> Option<u64> {
        let mut spent = self.spent();
        if spent.left.is_some() {
            return spent.left;
        }
        let free = spent.windows.iter_mut().map(|window| {
            window.free_at(now);
            window.count.saturating_sub(window.sent.len())
        });
        free.min().map(|free| u64::try_from(free).unwrap_or(u64::MAX))
    }

    /// The provider refused the credential, with its reason.
    pub fn refuse(&self, reason: &str) {
        let mut spent = self.spent();
        spent.changed |= spent.refused.as_deref() != Some(reason);
        spent.refusals += 1;
        spent.refused = Some(reason.to_owned());
    }

    /// How often the credential was refused so far: to be asked before a request is sent, and given back with its answer.
    pub fn refusals(&self) -> u64 {
        self.spent().refusals
    }

    /// The provider took the credential with a request that was sent after so many refusals. It ends the refusal that it comes after.
    pub fn accept(&self, refusals: u64) {
        let mut spent = self.spent();
        if spent.refusals == refusals && spent.refused.take().is_some() {
            spent.changed = true;
        }
    }

    /// Why nothing may be asked with this credential any more.
    pub fn refused(&self) -> Option<String> {
        self.spent().refused.clone()
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spent {
    fn to_stored(&self, clock: &Clock) -> String {
        let boot = clock.boot();
        let stored = Stored {
            windows: self.windows.iter().filter(|window| window.is_stored()).map(Window::to_stored).collect(),
            quiet_until: self.quiet_until.map(|at| at.0),
            left: self.left,
            refused: self.refused.clone(),
            wall: clock.now().0,
            boot: boot.boot,
            boot_millis: boot.millis,
        };
        serde_json::to_string(&stored).expect("numbers and texts are JSON")
    }
}

impl Window {
    fn to_stored(&self) -> (u64, Vec<i64>) {
        (u64::try_from(self.per.as_millis()).unwrap_or(u64::MAX), self.sent.iter().map(|at| at.0).collect())
    }
}

/// A number in a header; a fraction is left off.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    text.split('.').next().and_then(|whole| whole.parse().ok())
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

/// Where a new budget begins.
pub(super) struct Origin<'a> {
    pub former: &'a Budgets,
    /// What earlier processes stored, by key.
    pub stored: &'a HashMap<BudgetKey, String>,
    pub clock: &'a Clock,
}

impl Budgets {
    /// The budget of this key: the one in use where its limits are the same, else a new one with what was spent. Where two
    /// sources with one credential declare different limits, the first to be named decides.
    pub fn of(&mut self, origin: &Origin<'_>, key: &str, limits: &Limits) -> Arc<Budget> {
        let entry = self.0.entry(key.to_owned()).or_insert_with(|| match origin.former.0.get(key) {
            Some((known, budget)) if known == limits => (known.clone(), budget.clone()),
            former => {
                let budget = Budget::new(key, limits);
                let live = former.map(|(_, budget)| budget.spent().to_stored(origin.clock));
                if let Some(stored) = live.as_ref().or_else(|| origin.stored.get(key)) {
                    budget.restore(stored, origin.clock);
                }
                (limits.clone(), Arc::new(budget))
            }
        });
        entry.1.clone()
    }

    pub fn all(&self) -> impl Iterator<Item = &Arc<Budget>> {
        self.0.values().map(|(_, budget)| budget)
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
