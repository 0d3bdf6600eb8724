//! Which deliveries are due, and who has them. A claim writes nothing, since leases live in memory; so it looks on a connection of
//! its own and waits neither for the writer's present commit nor for somebody's long query.
//!
//! A look sees the database as it was when the look began. What was settled since still seems due to it; [`Claims`] knows better.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::writer::Outcome;
use super::{book, events, receive, rows};
use crate::model::{Event, HandlerName, Timestamp};
use crate::store::{ClaimedDeliveries, ClaimedDelivery, DeliveryId, InboundRequest};

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
    settled: bool,
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
struct Look<'a> {
    claims: &'a Claims,
    /// What was in work when it began, and until when; None: settled in a transaction that had not ended.
    busy: HashMap<i64, Option<Timestamp>>,
}

impl Look<'_> {
    fn begin(claims: &Claims) -> Look<'_> {
        let mut held = claims.lock();
        held.looks += 1;
        let until = |claim: &Claim| (!claim.settled).then_some(claim.until);
        let busy = held.claims.iter().map(|(&seq, claim)| (seq, until(claim))).collect();
        drop(held);
        Look { claims, busy }
    }

    /// When a delivery that seems due is free, if it is not now; what nobody holds must still be taken.
    fn busy_until(&self, seq: i64, now: Timestamp) -> Free {
        match self.busy.get(&seq) {
            Some(None) => Free::Never,
            Some(Some(until)) if *until > now => Free::At(*until),
            _ => Free::Now,
        }
    }

    /// Whether a delivery of this handler is in work.
    fn works_for(&self, handler: i64, now: Timestamp) -> bool {
        let held = self.claims.lock();
        held.claims.values().any(|claim| claim.handler == handler && (claim.settled || claim.until > now))
    }

    /// Keeps those that have been neither taken nor settled meanwhile, and takes them.
    fn take<T>(&self, found: &mut Vec<(Due, T)>, now: Timestamp) {
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
enum Free {
    Now,
    At(Timestamp),
    Never,
}

/// A due row before its event is read.
struct Due {
    seq: i64,
    event: i64,
    first_due_at: Timestamp,
    replay: bool,
    claim: Claim,
}

pub(super) fn claim(
    conn: &Connection,
    claims: &Claims,
    now: Timestamp,
    lease: Duration,
    free: &[(HandlerName, usize)],
) -> Outcome<ClaimedDeliveries> {
    let look = Look::begin(claims);
    let mut claimed = ClaimedDeliveries::default();
    let mut loaded = Loaded::default();
    for (name, permits) in free {
        let (due, next) = due_of(conn, &look, now, lease, name, *permits)?;
        claimed.next_due = claimed.next_due.into_iter().chain(next).min();
        let load = |due: Due| loaded.get(conn, due.event).map(|event| (due, event));
        let mut found: Vec<_> = due.into_iter().map(load).collect::<rusqlite::Result<_>>()?;
        look.take(&mut found, now);
        for (row, (event, inbound)) in found {
            claimed.deliveries.push(ClaimedDelivery {
                id: DeliveryId(row.seq as u64),
                lease: row.claim.token,
                handler: name.clone(),
                event,
                inbound,
                counted: row.claim.counted,
                attempts: row.claim.attempts,
                first_due_at: row.first_due_at,
                replay: row.replay,
                strain: row.claim.strain,
            });
        }
    }
    Ok(claimed)
}

const SELECT_OPEN: &str = "SELECT id, wait_until, strain, closed_for FROM handler \
     WHERE name = ?1 AND configured = 1 AND enabled = 1 AND paused_by IS NULL";

/// Out of the index alone: most of what a busy handler has due is in work already.
const SELECT_DUE: &str = "SELECT seq, due_at FROM delivery INDEXED BY delivery_due \
     WHERE handler_id = ?1 AND replay = ?2 AND state = 0 ORDER BY due_at, first_due_at, seq";

const SELECT_CLAIMED: &str =
    "SELECT event_seq, order_hash, counted, attempts, first_due_at, closed_before FROM delivery WHERE seq = ?1";

/// A replay of any size stands before nothing: live deliveries first, then replayed ones.
const LIVE_FIRST: [bool; 2] = [false, true];

/// At most `permits` due rows that nobody holds, and when to look again without being woken.
fn due_of(
    conn: &Connection,
    look: &Look<'_>,
    now: Timestamp,
    lease: Duration,
    name: &HandlerName,
    permits: usize,
) -> rusqlite::Result<(Vec<Due>, Option<Timestamp>)> {
    let (mut due, mut next) = (Vec::new(), None);
    let mut open = conn.prepare_cached(SELECT_OPEN)?;
    let open = open.query_row([name.as_str()], |row| {
        Ok((row.get::<_, i64>(0)?, rows::time_opt(row, 1)?, rows::small(row, 2)?, row.get::<_, i64>(3)?))
    });
    let Some((handler, wait_until, strain, closed_for)) = open.optional()?.filter(|_| permits > 0) else {
        return Ok((due, None));
    };
    if let Some(until) = wait_until.filter(|until| *until > now) {
        return Ok((due, Some(until)));
    }
    let permits = match strain {
        0 => permits,
        // One probe at a time. Whoever settles it rings.
        _ if look.works_for(handler, now) => return Ok((due, None)),
        _ => 1,
    };
    let (mut select, mut details) = (conn.prepare_cached(SELECT_DUE)?, conn.prepare_cached(SELECT_CLAIMED)?);
    for replay in LIVE_FIRST {
        let mut found = select.query(params![handler, replay])?;
        while let Some(row) = found.next()? {
            let due_at = rows::time(row, 1)?;
            if due_at > now {
                next = next.into_iter().chain([due_at]).min();
                break;
            }
            let seq = row.get(0)?;
            match look.busy_until(seq, now) {
                Free::Now => {}
                Free::Never => continue,
                Free::At(until) => {
                    next = next.into_iter().chain([until]).min();
                    continue;
                }
            }
            if due.len() == permits {
                // More is due than there are permits: who gives one back asks again.
                return Ok((due, next));
            }
            let until = now.plus(lease);
            due.push(
                details.query_row([seq], |row| read_due(row, (seq, replay), until, (handler, strain, closed_for)))?,
            );
        }
    }
    Ok((due, next))
}

fn read_due(
    row: &Row<'_>,
    (seq, replay): (i64, bool),
    until: Timestamp,
    (handler, strain, closed_for): (i64, u32, i64),
) -> rusqlite::Result<Due> {
    let (order, counted, attempts) = (row.get(1)?, rows::small(row, 2)?, rows::small(row, 3)?);
    let claim = Claim { token: 0, until, handler, order, counted, attempts, strain, settled: false };
    // The time that the handler was closed since then does not count.
    let closed = (closed_for - row.get::<_, i64>(5)?).max(0);
    let first_due_at = Timestamp(rows::time(row, 4)?.0.saturating_add(closed));
    Ok(Due { seq, event: row.get(0)?, first_due_at, replay, claim })
}

/// Events and inbounds of one claim: several deliveries of one event share it.
#[derive(Default)]
struct Loaded {
    events: HashMap<i64, (Arc<Event>, Option<i64>)>,
    inbounds: HashMap<i64, Option<Arc<InboundRequest>>>,
}

impl Loaded {
    fn get(&mut self, conn: &Connection, seq: i64) -> rusqlite::Result<(Arc<Event>, Option<Arc<InboundRequest>>)> {
        let (event, inbound) = match self.events.get(&seq) {
            Some(known) => known.clone(),
            None => {
                let (event, inbound) = events::load(conn, seq)?;
                let loaded = (Arc::new(event), inbound);
                self.events.insert(seq, loaded.clone());
                loaded
            }
        };
        let Some(id) = inbound else { return Ok((event, None)) };
        if let Some(known) = self.inbounds.get(&id) {
            return Ok((event, known.clone()));
        }
        let sql = "SELECT method, target, headers, body FROM inbound_body WHERE id = ?1";
        let request =
            conn.prepare_cached(sql)?.query_row([id], |row| receive::request(row, 0)).optional()?.map(Arc::new);
        self.inbounds.insert(id, request.clone());
        Ok((event, request))
    }
}

/// When a claim may find a delivery without being woken.
pub(super) fn next_due(conn: &Connection, claims: &Claims, now: Timestamp) -> Outcome<Option<Timestamp>> {
    let look = Look::begin(claims);
    let mut select = conn.prepare_cached("SELECT name FROM handler")?;
    let names = select.query_map([], |row| Ok(HandlerName::from(row.get::<_, String>(0)?)))?;
    let mut next = None;
    for name in names {
        // One that is due and free is found by asking for it without keeping it.
        let (due, later) = due_of(conn, &look, now, Duration::ZERO, &name?, 1)?;
        let at = if due.is_empty() { later } else { Some(now) };
        next = next.into_iter().chain(at).min();
    }
    Ok(next)
}

#[cfg(test)]
mod tests {
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
