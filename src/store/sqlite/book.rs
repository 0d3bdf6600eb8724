//! What the writer thread keeps in memory. Because the lock file proves that there is one owner, every lease lives here and
//! costs no write; a restart frees them all. Beside them: numbers of names, the next free numbers, what a transaction adds
//! to the handlers' counts, and whom to wake after it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rusqlite::{Connection, OptionalExtension, params};
use tokio::sync::watch;

use super::claims::Claims;
use super::rows;
use crate::clock::Clock;
use crate::model::{HandlerName, SourceName, StreamName, Timestamp};
use crate::store::{Herald, InboundId, Paused, StoreError, Topic, Wake};

/// A right to work on one stream.
pub(super) struct StreamHold {
    pub(super) token: u64,
    pub(super) until: Timestamp,
    /// Asked for again while it ran: due at once when it ends.
    pub(super) again: bool,
    /// Asked for at the latest then.
    pub(super) within: Option<Duration>,
    /// The notice that waited when the run began: how many looks followed it.
    pub(super) notice: Option<i64>,
    /// A notice came while it ran.
    pub(super) noticed: bool,
    /// Definition and comparison rules that its owner thinks under.
    pub(super) rules: (String, String),
}

/// A right to settle a batch of one source's inbounds.
pub(super) struct InboundHold {
    pub(super) token: u64,
    pub(super) until: Timestamp,
    pub(super) left: HashSet<u64>,
}

/// Rung after a commit, one bell for each topic.
pub(super) struct Bells([watch::Sender<u64>; 5]);

impl Bells {
    pub(super) fn new() -> Bells {
        Bells(std::array::from_fn(|_| watch::Sender::new(0)))
    }

    pub(super) fn wake(&self, topic: Topic) -> Wake {
        Wake::new(self.0[topic as usize].subscribe())
    }

    fn ring(&self, topic: usize) {
        self.0[topic].send_modify(|rings| *rings = rings.wrapping_add(1));
    }
}

/// What the writer knows of a handler.
pub(super) struct HandlerCard {
    pub(super) name: HandlerName,
    pub(super) enabled: bool,
    pub(super) paused: Option<Paused>,
    pub(super) wait_until: Option<Timestamp>,
    /// Closed since then, and so many milliseconds in all before.
    pub(super) closed_at: Option<Timestamp>,
    pub(super) closed_for: i64,
    /// False: a temporary one at its end.
    pub(super) lasts: bool,
}

/// What a transaction changes in a handler's counts.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) pending: i64,
    pub(super) held: i64,
    pub(super) delivered: i64,
    pub(super) failed: i64,
    pub(super) last_attempt: Option<i64>,
}

impl Tally {
    /// Counts deliveries into (or, with a negative number, out of) a stored state.
    pub(super) fn add(&mut self, state: i64, by: i64) {
        match state {
            rows::HELD => self.held += by,
            rows::DELIVERED => self.delivered += by,
            rows::FAILED => self.failed += by,
            _ => self.pending += by,
        }
    }
}

/// Tables whose numbers never come back, even when the newest rows are pruned.
const NUMBERED: [(&str, &str); 4] = [
    ("event", "SELECT max(seq) FROM event"),
    ("delivery", "SELECT max(seq) FROM delivery"),
    ("attempt", "SELECT max(seq) FROM attempt"),
    (
        "inbound",
        "SELECT max((SELECT ifnull(max(id), 0) FROM inbound), (SELECT ifnull(max(id), 0) FROM inbound_message))",
    ),
];

/// Next free numbers, in the order of [`NUMBERED`].
#[derive(Clone, Copy)]
pub(super) enum Numbered {
    Event = 0,
    Delivery = 1,
    Attempt = 2,
    Inbound = 3,
}

pub(super) struct Book {
    pub(super) clock: Clock,
    pub(super) sources: HashMap<SourceName, i64>,
    pub(super) streams: HashMap<StreamName, i64>,
    pub(super) stream_names: HashMap<i64, StreamName>,
    pub(super) handler_ids: HashMap<HandlerName, i64>,
    pub(super) handlers: HashMap<i64, HandlerCard>,
    /// Names that handlers had before: a run that began under one still names it.
    pub(super) former_handlers: HashMap<HandlerName, HandlerName>,
    pub(super) stream_holds: HashMap<i64, StreamHold>,
    pub(super) inbound_holds: HashMap<i64, InboundHold>,
    pub(super) claims: Claims,
    /// Deliveries that the open transaction settles.
    pub(super) settled: Vec<i64>,
    /// (handler, order) whose later deliveries are held.
    pub(super) held_orders: HashSet<(i64, i64)>,
    /// Where pruning goes on among events, so that old undelivered ones are not looked at in every batch.
    pub(super) prune_from: i64,
    pub(super) prune_inbounds_from: i64,
    token: u64,
    numbers: [i64; 4],
    tallies: HashMap<i64, Tally>,
    rings: [bool; 5],
    bells: Arc<Bells>,
    /// Who hears Ringback's own events.
    herald: Arc<ArcSwap<Option<Arc<dyn Herald>>>>,
}

const SELECT_STREAMS: &str = "SELECT t.id, s.name, t.name FROM stream t JOIN source s ON s.id = t.source_id";
const SELECT_HANDLERS: &str = "SELECT id, name, enabled, paused_by, paused_reason, wait_until, closed_at, closed_for, \
     pattern IS NULL OR target IS NOT NULL FROM handler";

impl Book {
    pub(super) fn open(
        conn: &Connection,
        clock: Clock,
        claims: Claims,
        bells: Arc<Bells>,
        herald: Arc<ArcSwap<Option<Arc<dyn Herald>>>>,
    ) -> rusqlite::Result<Book> {
        let mut numbers = [0; 4];
        for (next, (name, newest)) in numbers.iter_mut().zip(NUMBERED) {
            let used: Option<i64> = conn.query_row(newest, [], |row| row.get(0))?;
            let kept: Option<i64> =
                conn.query_row("SELECT value FROM counter WHERE name = ?1", [name], |row| row.get(0)).optional()?;
            *next = used.unwrap_or(0).max(kept.unwrap_or(0)) + 1;
        }
        let held_orders = conn
            .prepare("SELECT handler_id, order_hash FROM held_order")?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let mut book = Book {
            clock,
            sources: HashMap::new(),
            streams: HashMap::new(),
            stream_names: HashMap::new(),
            handler_ids: HashMap::new(),
            handlers: HashMap::new(),
            former_handlers: HashMap::new(),
            stream_holds: HashMap::new(),
            inbound_holds: HashMap::new(),
            claims,
            settled: Vec::new(),
            held_orders,
            prune_from: 0,
            prune_inbounds_from: 0,
            token: first_token(),
            numbers,
            tallies: HashMap::new(),
            rings: [false; 5],
            bells,
            herald,
        };
        book.load_names(conn)?;
        Ok(book)
    }

    /// Reads the names again: at the start, and after the configuration changed them.
    pub(super) fn load_names(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        self.sources = conn
            .prepare_cached("SELECT name, id FROM source")?
            .query_map([], |row| Ok((SourceName::from(row.get::<_, String>(0)?), row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()?;
        self.stream_names = conn
            .prepare_cached(SELECT_STREAMS)?
            .query_map([], |row| {
                Ok((row.get(0)?, StreamName::new(row.get::<_, String>(1)?, row.get_ref(2)?.as_str()?)))
            })?
            .collect::<rusqlite::Result<_>>()?;
        self.streams = self.stream_names.iter().map(|(id, name)| (name.clone(), *id)).collect();
        self.handlers = conn
            .prepare_cached(SELECT_HANDLERS)?
            .query_map([], |row| {
                let card = HandlerCard {
                    name: HandlerName::from(row.get::<_, String>(1)?),
                    enabled: row.get(2)?,
                    paused: rows::paused(row, 3)?,
                    wait_until: rows::time_opt(row, 5)?,
                    closed_at: rows::time_opt(row, 6)?,
                    closed_for: row.get(7)?,
                    lasts: row.get(8)?,
                };
                Ok((row.get(0)?, card))
            })?
            .collect::<rusqlite::Result<_>>()?;
        self.handler_ids = self.handlers.iter().map(|(id, card)| (card.name.clone(), *id)).collect();
        Ok(())
    }

    pub(super) fn herald(&self) -> Option<Arc<dyn Herald>> {
        self.herald.load().as_ref().clone()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// A token no lease had before, not even one of an earlier process.
    pub(super) fn token(&mut self) -> u64 {
        self.token += 1;
        self.token
    }

    /// Takes the next number of a table.
    pub(super) fn number(&mut self, of: Numbered) -> i64 {
        let number = self.numbers[of as usize];
        self.numbers[of as usize] += 1;
        number
    }

    /// The number that [`Book::number`] gives next.
    pub(super) fn peek(&self, of: Numbered) -> i64 {
        self.numbers[of as usize]
    }

    /// Writes the numbers down: whoever prunes must, as the newest rows may be the ones that go.
    pub(super) fn keep_numbers(&self, conn: &Connection) -> rusqlite::Result<()> {
        let mut keep = conn.prepare_cached(
            "INSERT INTO counter (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )?;
        for (next, (name, _)) in self.numbers.iter().zip(NUMBERED) {
            keep.execute(params![name, next - 1])?;
        }
        Ok(())
    }

    pub(super) fn stream(&self, name: &StreamName) -> Result<i64, StoreError> {
        self.streams.get(name).copied().ok_or(StoreError::Conflict)
    }

    /// The number of a handler by its name of now, or by one that it had before and that no other has taken.
    fn handler_number(&self, name: &HandlerName) -> Option<i64> {
        let now = self.former_handlers.get(name).unwrap_or(name);
        self.handler_ids.get(now).copied()
    }

    /// The number of a handler; one that nobody configured gets a row, so that its deliveries are kept.
    pub(super) fn handler(&mut self, conn: &Connection, name: &HandlerName) -> rusqlite::Result<i64> {
        if let Some(id) = self.handler_number(name) {
            return Ok(id);
        }
        let now = self.now();
        let sql = "INSERT INTO handler (name, configured, enabled, closed_at) VALUES (?1, 0, 1, ?2)";
        conn.prepare_cached(sql)?.execute(params![name.as_str(), now.0])?;
        let id = conn.last_insert_rowid();
        let card = HandlerCard {
            name: name.clone(),
            enabled: true,
            paused: None,
            wait_until: None,
            closed_at: Some(now),
            closed_for: 0,
            lasts: true,
        };
        self.handlers.insert(id, card);
        self.handler_ids.insert(name.clone(), id);
        Ok(id)
    }

    /// For how many milliseconds a handler was closed until now.
    pub(super) fn closed_for(&self, handler: i64) -> i64 {
        self.handlers
            .get(&handler)
            .map_or(0, |card| card.closed_for + card.closed_at.map_or(0, |since| (self.now().0 - since.0).max(0)))
    }

    pub(super) fn source(&mut self, conn: &Connection, name: &SourceName) -> rusqlite::Result<i64> {
        if let Some(id) = self.sources.get(name) {
            return Ok(*id);
        }
        let id = super::config::insert_source(conn, name)?;
        self.sources.insert(name.clone(), id);
        Ok(id)
    }

    /// Holds the stream for `lease`; None when somebody else does.
    pub(super) fn hold_stream(&mut self, stream: i64, lease: Duration) -> Option<u64> {
        let now = self.now();
        if self.stream_holds.get(&stream).is_some_and(|hold| hold.until > now) {
            return None;
        }
        let token = self.token();
        let until = now.plus(lease);
        let hold = StreamHold {
            token,
            until,
            again: false,
            within: None,
            notice: None,
            noticed: false,
            rules: Default::default(),
        };
        self.stream_holds.insert(stream, hold);
        Some(token)
    }

    /// An owner whose time is over may still write, as long as nobody else took the stream.
    pub(super) fn check_stream(&self, stream: i64, token: u64) -> Result<(), StoreError> {
        match self.stream_holds.get(&stream) {
            Some(hold) if hold.token == token => Ok(()),
            _ => Err(StoreError::Stale),
        }
    }

    /// The source of a batch that this lease still holds and that has this inbound unsettled.
    pub(super) fn check_inbound(&self, id: InboundId, token: u64) -> Result<i64, StoreError> {
        let held = |(source, hold): (&i64, &InboundHold)| {
            (hold.token == token && hold.left.contains(&id.0)).then_some(*source)
        };
        self.inbound_holds.iter().find_map(held).ok_or(StoreError::Stale)
    }

    pub(super) fn tally(&mut self, handler: i64) -> &mut Tally {
        self.tallies.entry(handler).or_default()
    }

    pub(super) fn rings(&mut self, topic: Topic) {
        self.rings[topic as usize] = true;
    }

    /// Writes down what the transaction added up. The last thing before its commit.
    pub(super) fn flush(&mut self, conn: &Connection) -> rusqlite::Result<()> {
        if self.tallies.is_empty() {
            return Ok(());
        }
        let mut update = conn.prepare_cached(
            "UPDATE handler SET pending = pending + ?2, held = held + ?3, delivered = delivered + ?4, failed = failed + ?5, \
             last_attempt = ifnull(?6, last_attempt) WHERE id = ?1 RETURNING pending + held = 0",
        )?;
        let mut ended = false;
        for (handler, tally) in self.tallies.drain() {
            let Tally { pending, held, delivered, failed, last_attempt } = tally;
            let counts = params![handler, pending, held, delivered, failed, last_attempt];
            let settled = update.query_row(counts, |row| row.get(0)).optional()?.unwrap_or(false);
            ended |= settled && self.handlers.get(&handler).is_some_and(|card| card.name.replay().is_some());
        }
        if ended {
            self.rings(Topic::Replays);
        }
        Ok(())
    }

    /// Wakes those whom the transaction gave work. The first thing after its commit.
    pub(super) fn ring(&mut self) {
        self.claims.committed(self.settled.drain(..));
        for (topic, ring) in std::mem::take(&mut self.rings).into_iter().enumerate() {
            if ring {
                self.bells.ring(topic);
            }
        }
    }
}

/// Tokens begin somewhere else in each process, so that a lease from before a restart is never taken for one of now.
pub(super) fn first_token() -> u64 {
    let mut start = [0; 8];
    // Without randomness tokens begin at zero; they are still right within one process, and there is only one.
    let _ = getrandom::fill(&mut start);
    u64::from_le_bytes(start) >> 2
}
