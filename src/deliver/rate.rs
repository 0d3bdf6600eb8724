//! How many requests a handler may be sent in a time. A request is only asked for once it may go: nobody waits for it with a lease in
//! hand, so a pause or a refusal meanwhile is seen.

use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};

use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota};

use crate::config;
use crate::model::Timestamp;

pub struct Rate {
    limiter: DefaultDirectRateLimiter,
    /// Nothing may go before; the past, when something may.
    next: Mutex<Timestamp>,
}

impl Rate {
    /// None for a rate that no time can hold.
    pub fn new(rate: config::Rate) -> Option<Rate> {
        let quota = Quota::with_period(rate.per.checked_div(rate.count)?)?.allow_burst(NonZeroU32::new(rate.count)?);
        Some(Rate { limiter: DefaultDirectRateLimiter::direct(quota), next: Mutex::default() })
    }

    /// Until when nothing may go, if that is still to come.
    pub fn rests_until(&self, now: Timestamp) -> Option<Timestamp> {
        let next = *self.next.lock().unwrap_or_else(PoisonError::into_inner);
        (next > now).then_some(next)
    }

    /// Whether one more may go now; it then counts as gone.
    pub fn take(&self, now: Timestamp) -> bool {
        let Err(refused) = self.limiter.check() else { return true };
        let wait = refused.wait_time_from(self.limiter.clock().now());
        // Up to the next millisecond, as our time has no finer ones.
        let next = now.plus(wait + std::time::Duration::from_millis(1));
        *self.next.lock().unwrap_or_else(PoisonError::into_inner) = next;
        false
    }
}
