//! Attempts that have ended, on their way into the store. Those that end while others are being settled go together, with one answer
//! of the store for all: a busy daemon wakes one task for each commit and not one for each attempt.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::Handler;
use crate::clock::Clock;
use crate::store::Settled;

/// Attempts that the store is told of at once, at most.
const TOGETHER: usize = 1024;
/// So many at once are a busy time, in which the next ones wait [`GATHER`] for company: a commit costs about as much for one as for
/// many. What was sent is not late by this, and no permit waits for it unless an attempt failed.
const MANY: usize = 8;
const GATHER: Duration = Duration::from_millis(4);

/// An attempt with what came of it.
pub(super) struct Ended {
    pub(super) handler: Arc<Handler>,
    pub(super) settled: Settled,
    /// Of an attempt that went wrong: given back once the store knows.
    pub(super) permit: Option<OwnedSemaphorePermit>,
}

/// The attempts that wait to be settled.
#[derive(Default)]
pub(super) struct Settling(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    ended: Vec<Ended>,
    taken: bool,
}

impl Settling {
    /// Adds an attempt. Whoever gets the turn settles what waits until nothing does; without it, somebody else is at it.
    pub(super) fn join(&self, ended: Ended) -> Option<Turn<'_>> {
        let mut waiting = self.lock();
        waiting.ended.push(ended);
        (!std::mem::replace(&mut waiting.taken, true)).then(|| Turn { of: self, last: 0, over: false })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // A list is whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right and the duty to settle what waits.
pub(super) struct Turn<'s> {
    of: &'s Settling,
    last: usize,
    over: bool,
}

impl Turn<'_> {
    /// What to settle next, oldest first. None ends the turn: what ends from now on finds another.
    pub(super) async fn next(&mut self, clock: &Clock) -> Option<Vec<Ended>> {
        if self.last >= MANY {
            clock.linger(GATHER).await;
        }
        let mut waiting = self.of.lock();
        let count = waiting.ended.len().min(TOGETHER);
        self.last = count;
        if count == 0 {
            // In one step with having looked, or an attempt could come between and be nobody's.
            waiting.taken = false;
            self.over = true;
            return None;
        }
        Some(waiting.ended.drain(..count).collect())
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        // Broken off: the next to come settles the rest.
        if !self.over {
            self.of.lock().taken = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Bounds, Exchange, Incoming, Outgoing, SendError};
    use crate::deliver::fixtures::handler;
    use crate::model::{Attempt, AttemptDetail, AttemptResult, Timestamp};
    use crate::secret::Secret;
    use crate::store::{DeliveryId, HandlerChange, Outcome};

    struct Nobody;

    #[async_trait::async_trait]
    impl Exchange for Nobody {
        async fn exchange(&self, _: Outgoing, _: Bounds) -> Result<Incoming, SendError> {
            Err(SendError::Broken("nobody is called".into()))
        }
    }

    fn ended(handler: &Arc<Handler>, id: u64) -> Ended {
        let attempt = Attempt {
            started_at: Timestamp(0),
            duration: Duration::ZERO,
            result: AttemptResult::Delivered,
            status: Some(200),
            error: None,
            answer: Default::default(),
            detail: AttemptDetail::default(),
        };
        let (outcome, handler_change) = (Outcome::Delivered, HandlerChange::None);
        let (id, lease, name) = (DeliveryId(id), 1, handler.config.name.clone());
        let settled = Settled { id, lease, handler: name, attempt, outcome, handler_change };
        Ended { handler: handler.clone(), settled, permit: None }
    }

    fn ids(ended: Option<Vec<Ended>>) -> Vec<u64> {
        ended.into_iter().flatten().map(|one| one.settled.id.0).collect()
    }

    fn handler_of_tests() -> Arc<Handler> {
        let secrets = vec![Secret::new("whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=")];
        Arc::new(Handler::new(handler(), Nobody, secrets, Default::default()).expect("a handler"))
    }

    #[test]
    fn a_manual_clock_lets_nobody_wait_for_company() {
        // Without a timer any sleep would panic: on such a clock it could last for ever.
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let (settling, clock, handler) = (Settling::default(), Clock::manual(Timestamp(0)), handler_of_tests());
        let mut turn = settling.join(ended(&handler, 0)).expect("nobody is at it");
        (1..MANY as u64).for_each(|id| assert!(settling.join(ended(&handler, id)).is_none()));
        assert_eq!(ids(runtime.block_on(turn.next(&clock))).len(), MANY);
        assert!(runtime.block_on(turn.next(&clock)).is_none());
    }

    #[tokio::test]
    async fn one_at_a_time_settles_what_waits_and_nothing_is_left_behind() {
        let handler = handler_of_tests();
        let (settling, clock) = (Settling::default(), Clock::manual(Timestamp(0)));
        let mut turn = settling.join(ended(&handler, 1)).expect("nobody is at it");
        assert!(settling.join(ended(&handler, 2)).is_none(), "somebody is");
        assert_eq!(ids(turn.next(&clock).await), [1, 2]);
        assert!(settling.join(ended(&handler, 3)).is_none());
        assert_eq!(ids(turn.next(&clock).await), [3]);
        assert!(turn.next(&clock).await.is_none());
        drop(turn);
        let broken_off = settling.join(ended(&handler, 4)).expect("the turn was over");
        drop(broken_off);
        let mut turn = settling.join(ended(&handler, 5)).expect("given up");
        assert_eq!(ids(turn.next(&clock).await), [4, 5]);
    }
}
