//! Which deliveries are due. It looks on a connection of its own and waits neither for the writer's present commit nor for somebody's
//! long query.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::claims::{Claim, Claims, Due, Free, Look};
use super::writer::Outcome;
use super::{events, receive, rows};
use crate::model::{Event, HandlerName, Timestamp};
use crate::store::{ClaimedDeliveries, ClaimedDelivery, DeliveryId, InboundRequest};

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
