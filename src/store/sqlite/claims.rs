//! Deliveries in work. Leases live in memory: a claim writes nothing.
//!
//! A look sees the database as it was when the look began. What was settled since still seems due to it; [`Claims`] knows better.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::book;
use crate::model::Timestamp;
use crate::store::DeliveryId;

/// A right to settle one delivery, with what settling needs to know of it.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) token: u64,
    pub(super) until: Timestamp,
    pub(super) handler: i64,
    pub(super) order: Option<i64>,
    pub(super) counted: u32,
    pub(super) attempts: u32,
    pub(super) strain: u32,
    /// Settled in a transaction that has not ended yet.
    pub(super) settled: bool,
}

/// Deliveries in work. Clones share them.
#[derive(Clone)]
pub(super) struct Claims(Arc<Mutex<Held>>);

struct Held {
    claims: HashMap<i64, Claim>,
    /// Looks under way, and what was settled while they are.
    looks: usize,
    gone: HashSet<i64>,
    token: u64,
}

impl Claims {
    pub(super) fn new() -> Claims {
        let (claims, gone) = (HashMap::new(), HashSet::new());
        Claims(Arc::new(Mutex::new(Held { claims, looks: 0, gone, token: book::first_token() })))
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // Plain values are whole after any panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deliveries in work now, with their handlers.
    pub(super) fn live(&self, now: Timestamp) -> HashMap<i64, i64> {
        let live = |(&seq, claim): (&i64, &Claim)| (claim.until > now).then_some((seq, claim.handler));
        self.lock().claims.iter().filter_map(live).collect()
    }

    /// The wall was set by so much: every lease lasts as long as it would have.
    pub(super) fn shift(&self, millis: i64) {
        self.lock().claims.values_mut().for_each(|claim| claim.until.0 = claim.until.0.saturating_add(millis));
    }

    /// The claim that `token` proves, once. It stays known until [`Claims::committed`].
    pub(super) fn settle(&self, seq: i64, token: u64) -> Option<Claim> {
        let mut held = self.lock();
        let claim = held.claims.get_mut(&seq).filter(|claim| claim.token == token && !claim.settled)?;
        claim.settled = true;
        Some(claim.clone())
    }

    /// Ends claims that nobody is going to settle, if they are still their owner's.
    pub(super) fn give_back(&self, claims: &[(DeliveryId, u64)]) {
        let mut held = self.lock();
        for (id, token) in claims {
            let seq = id.0 as i64;
            if held.claims.get(&seq).is_some_and(|claim| claim.token == *token && !claim.settled) {
                held.claims.remove(&seq);
            }
        }
    }

    /// The transaction that settled these has ended: a look that begins now sees what became of them.
    pub(super) fn committed(&self, settled: impl Iterator<Item = i64>) {
        let mut held = self.lock();
        for seq in settled {
            held.claims.remove(&seq);
            if held.looks > 0 {
                held.gone.insert(seq);
            }
        }
    }
}

/// One look at what is due; it must begin before its first query.
pub(super) struct Look<'a> {
    claims: &'a Claims,
    /// What was in work when it began, and until when; None: settled in a transaction that had not ended.
    busy: HashMap<i64, Option<Timestamp>>,
}

impl Look<'_> {
    pub(super) fn begin(claims: &Claims) -> Look<'_> {
        let mut held = claims.lock();
        held.looks += 1;
        let until = |claim: &Claim| (!claim.settled).then_some(claim.until);
        let busy = held.claims.iter().map(|(&seq, claim)| (seq, until(claim))).collect();
        drop(held);
        Look { claims, busy }
    }

    /// When a delivery that seems due is free, if it is not now; what nobody holds must still be taken.
    pub(super) fn busy_until(&self, seq: i64, now: Timestamp) -> Free {
        match self.busy.get(&seq) {
            Some(None) => Free::Never,
            Some(Some(until)) if *until > now => Free::At(*until),
            _ => Free::Now,
        }
    }

    /// Whether a delivery of this handler is in work.
    pub(super) fn works_for(&self, handler: i64, now: Timestamp) -> bool {
        let held = self.claims.lock();
        held.claims.values().any(|claim| claim.handler == handler && (claim.settled || claim.until > now))
    }

    /// Keeps those that have been neither taken nor settled meanwhile, and takes them.
    pub(super) fn take<T>(&self, found: &mut Vec<(Due, T)>, now: Timestamp) {
        let mut held = self.claims.lock();
        found.retain_mut(|(due, _)| {
            let busy = held.claims.get(&due.seq).is_some_and(|claim| claim.settled || claim.until > now);
            if busy || held.gone.contains(&due.seq) {
                return false;
            }
            held.token += 1;
            due.claim.token = held.token;
            held.claims.insert(due.seq, due.claim.clone());
            true
        });
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        let mut held = self.claims.lock();
        held.looks -= 1;
        if held.looks == 0 {
            held.gone.clear();
        }
    }
}

#[derive(PartialEq)]
pub(super) enum Free {
    Now,
    At(Timestamp),
    Never,
}

/// A due row before its event is read.
pub(super) struct Due {
    pub(super) seq: i64,
    pub(super) event: i64,
    pub(super) first_due_at: Timestamp,
    pub(super) replay: bool,
    pub(super) claim: Claim,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn due(seq: i64) -> Due {
        let until = NOW.plus(Duration::from_secs(60));
        let claim =
            Claim { token: 0, until, handler: 1, order: None, counted: 0, attempts: 0, strain: 0, settled: false };
        Due { seq, event: seq, first_due_at: NOW, replay: false, claim }
    }

    /// Takes it, and gives the token.
    fn take(look: &Look<'_>, due: Due, now: Timestamp) -> Option<u64> {
        let mut found = vec![(due, ())];
        look.take(&mut found, now);
        found.pop().map(|(due, ())| due.claim.token)
    }

    #[test]
    fn what_is_settled_while_a_look_is_on_is_not_taken_again_by_it() {
        let claims = Claims::new();
        let first = take(&Look::begin(&claims), due(7), NOW).expect("free");
        let stale = Look::begin(&claims);
        assert_eq!(take(&stale, due(7), NOW), None, "somebody has it");
        assert!(claims.settle(7, first).is_some());
        assert_eq!(take(&stale, due(7), NOW), None, "its transaction has not ended");
        claims.committed([7].into_iter());
        assert_eq!(take(&stale, due(7), NOW), None, "this look began before the commit");
        drop(stale);
        assert!(take(&Look::begin(&claims), due(7), NOW).is_some(), "a new look sees what became of it");
    }

    #[test]
    fn a_claim_is_settled_once_and_by_its_owner_alone() {
        let claims = Claims::new();
        let mine = take(&Look::begin(&claims), due(7), NOW).expect("free");
        assert!(claims.settle(7, mine.wrapping_add(1)).is_none());
        assert!(claims.settle(7, mine).is_some());
        assert!(claims.settle(7, mine).is_none());
        let later = NOW.plus(Duration::from_secs(61));
        let look = Look::begin(&claims);
        assert!(look.busy_until(7, later) == Free::Never, "an old lease does not undo a settling");
        assert_eq!(take(&look, due(7), later), None);
    }

    #[test]
    fn r10_1_an_expired_claim_is_free_and_its_owner_can_no_longer_settle() {
        let claims = Claims::new();
        let first = take(&Look::begin(&claims), due(7), NOW).expect("free");
        let second = take(&Look::begin(&claims), due(7), NOW.plus(Duration::from_secs(60))).expect("free again");
        assert!(claims.settle(7, first).is_none());
        assert!(claims.settle(7, second).is_some());
    }
}
