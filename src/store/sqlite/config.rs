//! What the configuration and a person say about sources, streams and handlers: registering, pausing, resuming.

use std::collections::HashSet;

use rusqlite::{Connection, OptionalExtension, params};

use super::book::Book;
use super::rows::Code;
use super::writer::Outcome;
use super::{closed, deliver, own, problems, renamed, rests, temporary};
use crate::model::{HandlerName, HoldReason, ProblemKind, SourceName};
use crate::store::{HandlerSetup, Paused, Phase, Registered, Setup, StoreError, StreamSetup, Topic};

pub(super) fn register(conn: &Connection, book: &mut Book, setup: &Setup) -> Outcome<Registered> {
    let (mut redefined, mut recompared) = (Vec::new(), Vec::new());
    let sources: HashSet<&SourceName> = setup.streams.iter().map(|stream| &stream.name.source).collect();
    conn.execute("UPDATE stream SET configured = 0 WHERE configured = 1", [])?;
    for stream in &setup.streams {
        let former = stream.renamed_from.as_ref().filter(|name| !sources.contains(name));
        let source = find_source(conn, &stream.name.source, former)?;
        match register_stream(conn, book, source, stream)? {
            Known::AsBefore => {}
            Known::Recompared => recompared.push(stream.name.clone()),
            Known::Redefined => redefined.push(stream.name.clone()),
        }
    }
    let readdressed = setup.sources.iter().map(|source| rests::address(conn, source));
    let readdressed = readdressed.filter_map(Result::transpose).collect::<rusqlite::Result<_>>()?;
    register_handlers(conn, book, &setup.handlers)?;
    temporary::register(conn, &setup.temporaries)?;
    closed::note(conn, book)?;
    book.load_names(conn)?;
    tell_problems(conn, book, setup)?;
    for topic in [Topic::Polls, Topic::Inbounds, Topic::Deliveries] {
        book.rings(topic);
    }
    let names =
        |sql: &str| -> rusqlite::Result<Vec<String>> { conn.prepare(sql)?.query_map([], |row| row.get(0))?.collect() };
    let orphans = format!(
        "SELECT name FROM source s WHERE NOT EXISTS (SELECT 1 FROM stream t WHERE t.source_id = s.id AND t.configured = 1) \
         AND EXISTS (SELECT 1 FROM stream t WHERE t.source_id = s.id AND {}) ORDER BY name",
        rests::HAS_STATE
    );
    let handlers =
        "SELECT name FROM handler WHERE configured = 0 AND pattern IS NULL AND pending + held > 0 ORDER BY name";
    Ok(Registered {
        orphaned_sources: names(&orphans)?.into_iter().map(SourceName::from).collect(),
        orphaned_handlers: names(handlers)?.into_iter().map(HandlerName::from).collect(),
        redefined,
        recompared,
        readdressed,
    })
}

/// The source's number; its state is carried over from its former name once.
fn find_source(conn: &Connection, name: &SourceName, former: Option<&SourceName>) -> rusqlite::Result<i64> {
    let find = |name: &SourceName| -> rusqlite::Result<Option<i64>> {
        conn.prepare_cached("SELECT id FROM source WHERE name = ?1")?
            .query_row([name.as_str()], |row| row.get(0))
            .optional()
    };
    if let Some(id) = find(name)? {
        return Ok(id);
    }
    if let Some(former) = former
        && let Some(id) = find(former)?
    {
        conn.execute("UPDATE source SET name = ?2 WHERE id = ?1", params![id, name.as_str()])?;
        return Ok(id);
    }
    insert_source(conn, name)
}

/// Adds a source. Its identity is its name, unless a renamed source keeps that one: event ids must never meet.
pub(super) fn insert_source(conn: &Connection, name: &SourceName) -> rusqlite::Result<i64> {
    let mut taken = conn.prepare_cached("SELECT 1 FROM source WHERE identity = ?1")?;
    let mut identity = name.to_string();
    let mut copy = 1;
    while taken.exists([&identity])? {
        copy += 1;
        identity = format!("{name}~{copy}");
    }
    conn.execute("INSERT INTO source (name, identity) VALUES (?1, ?2)", params![name.as_str(), identity])?;
    Ok(conn.last_insert_rowid())
}

const UPDATE_STREAM: &str = "UPDATE stream SET configured = 1, polled = ?2, \
     next_poll_at = CASE WHEN ?2 THEN ifnull(next_poll_at, ?3) ELSE next_poll_at END WHERE id = ?1";

/// A new definition: what was known stays for comparison, but the next complete run is a baseline and begins from the start.
const REDEFINE_STREAM: &str = "UPDATE stream SET definition = ?2, phase = ?3, listed_once = 0, mark = NULL, \
     validators = NULL, resume = NULL, releasing = 0, run_phase = NULL, run_listed_once = NULL, backfill = NULL, memory = NULL, \
     retaken = CASE WHEN next_number > 0 THEN ifnull(retaken, 0) END WHERE id = ?1";

/// New comparison rules: the records are fingerprinted anew before anything is compared.
const RECOMPARE_STREAM: &str =
    "UPDATE stream SET comparison = ?2, recompare = next_number > 0, validators = NULL WHERE id = ?1";

/// How a configured stream stands to what was stored of it.
enum Known {
    AsBefore,
    Recompared,
    Redefined,
}

const INSERT_STREAM: &str = "INSERT INTO stream (source_id, name, configured, polled, phase, definition, comparison, next_poll_at) \
     VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7)";

fn register_stream(conn: &Connection, book: &Book, source: i64, setup: &StreamSetup) -> rusqlite::Result<Known> {
    let due = book.now().plus(setup.first_due_in).0;
    let sql = "SELECT id, definition = ?3, comparison = ?4 FROM stream WHERE source_id = ?1 AND name = ?2";
    let StreamSetup { definition, comparison, .. } = setup;
    let known: Option<(i64, bool, bool)> = conn
        .prepare_cached(sql)?
        .query_row(params![source, &*setup.name.stream, definition, comparison], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((id, defined, compared)) = known else {
        conn.prepare_cached(INSERT_STREAM)?.execute(params![
            source,
            &*setup.name.stream,
            setup.polled,
            Phase::Baseline.code(),
            definition,
            comparison,
            setup.polled.then_some(due)
        ])?;
        return Ok(Known::AsBefore);
    };
    conn.prepare_cached(UPDATE_STREAM)?.execute(params![id, setup.polled, due])?;
    if !compared {
        conn.execute(RECOMPARE_STREAM, params![id, comparison])?;
    }
    if !defined {
        conn.execute(REDEFINE_STREAM, params![id, definition, Phase::Baseline.code()])?;
        conn.execute("DELETE FROM journal WHERE stream_id = ?1", [id])?;
        // Equal bytes no longer mean an equal record: its key or version may be read in another place (RULES R3.4).
        conn.execute("UPDATE record SET raw_hash = NULL WHERE stream_id = ?1 AND raw_hash IS NOT NULL", [id])?;
    }
    Ok(match (defined, compared) {
        (true, true) => Known::AsBefore,
        (true, false) => Known::Recompared,
        (false, _) => Known::Redefined,
    })
}

fn register_handlers(conn: &Connection, book: &mut Book, handlers: &[HandlerSetup]) -> rusqlite::Result<()> {
    let names: HashSet<&HandlerName> = handlers.iter().map(|handler| &handler.name).collect();
    conn.execute("UPDATE handler SET configured = 0 WHERE configured = 1", [])?;
    let mut rename = conn.prepare_cached("UPDATE OR IGNORE handler SET name = ?2 WHERE name = ?1")?;
    let mut put = conn.prepare_cached(
        "INSERT INTO handler (name, configured, enabled) VALUES (?1, 1, ?2) \
         ON CONFLICT (name) DO UPDATE SET configured = 1, enabled = excluded.enabled RETURNING id, enabled = 1 AND paused_by IS NULL",
    )?;
    book.former_handlers.retain(|former, _| !names.contains(former));
    for handler in handlers {
        if let Some(former) = handler.renamed_from.as_ref().filter(|name| !names.contains(name)) {
            if rename.execute([former.as_str(), handler.name.as_str()])? == 0 {
                renamed::carry_over(conn, book, former, &handler.name)?;
            }
            renamed::remember(book, former, &handler.name);
        }
        let (id, open): (i64, bool) =
            put.query_row(params![handler.name.as_str(), handler.enabled], |row| Ok((row.get(0)?, row.get(1)?)))?;
        deliver::release_held(conn, book, id, HoldReason::NoHandler)?;
        if open {
            deliver::release_held(conn, book, id, HoldReason::Paused)?;
        }
    }
    Ok(())
}

/// Closes the problems of handlers that are no longer there, as nothing else would, and tells again of those that are there again.
fn tell_problems(conn: &Connection, book: &mut Book, setup: &Setup) -> Outcome<()> {
    let there = setup.handlers.iter().map(|handler| &handler.name);
    let there: Vec<&HandlerName> = there.chain(setup.temporaries.iter().map(|temporary| &temporary.name)).collect();
    let names: HashSet<&str> = there.iter().map(|name| name.as_str()).collect();
    let mut open = HashSet::new();
    for problem in problems::list(conn)?.into_iter().filter(|problem| problem.kind.tells_of_a_handler(&problem.subject))
    {
        // What `when` could not decide stays for the handler's return; a backlog is measured by itself.
        let lasts = matches!(problem.kind, ProblemKind::WhenFailed | ProblemKind::HandlerBacklog);
        if names.contains(&*problem.subject) || lasts {
            open.insert((problem.kind, problem.subject));
        } else {
            problems::close(conn, book, problem.kind, &problem.subject)?;
        }
    }
    let missing = |kind: ProblemKind, name: &HandlerName| !open.contains(&(kind, name.to_string()));
    for name in there {
        let Some((id, card)) = book.handler_ids.get(name).and_then(|id| Some((*id, book.handlers.get(id)?))) else {
            continue;
        };
        let gone = card.paused.clone().filter(|paused| paused.by == deliver::BY_ITSELF);
        if let Some(paused) = gone.filter(|_| missing(ProblemKind::HandlerGone, name)) {
            deliver::tell_gone(conn, book, name, &paused.reason)?;
        }
        let blocked = book.held_orders.iter().any(|(handler, _)| *handler == id);
        if blocked && missing(ProblemKind::HandlerKeyBlocked, name) {
            deliver::tell_blocked(conn, book, name)?;
        }
    }
    Ok(())
}

pub(super) fn pause_handler(
    conn: &Connection,
    book: &mut Book,
    name: &HandlerName,
    paused: Option<Paused>,
) -> Outcome<()> {
    let id = book.handler_ids.get(name).copied().ok_or(StoreError::Conflict)?;
    let Some(card) = book.handlers.get_mut(&id) else { return Err(StoreError::Conflict.into()) };
    let changed = card.paused.is_some() != paused.is_some();
    card.paused = paused.clone();
    if card.paused.is_none() {
        card.wait_until = None;
    }
    let (by, reason) = columns(&card.paused);
    let wait = card.wait_until.map(|at| at.0);
    let (resumed, open) = (card.paused.is_none(), card.paused.is_none() && card.enabled);
    conn.prepare_cached("UPDATE handler SET paused_by = ?2, paused_reason = ?3, wait_until = ?4, strain = min(strain, ?5) WHERE id = ?1")?
        .execute(params![id, by, reason, wait, if resumed { 0 } else { i64::MAX }])?;
    closed::note(conn, book)?;
    if open {
        deliver::release_held(conn, book, id, HoldReason::Paused)?;
    }
    if resumed {
        deliver::release_orders(conn, book, id)?;
        problems::close(conn, book, ProblemKind::HandlerGone, name.as_str())?;
    }
    if changed {
        own::handler_paused(conn, book, name, paused.as_ref())?;
    }
    book.rings(Topic::Deliveries);
    Ok(())
}

pub(super) fn pause_source(
    conn: &Connection,
    book: &mut Book,
    name: &SourceName,
    paused: &Option<Paused>,
) -> Outcome<()> {
    let id = book.sources.get(name).copied().ok_or(StoreError::Conflict)?;
    let (by, reason) = columns(paused);
    conn.prepare_cached("UPDATE source SET paused_by = ?2, paused_reason = ?3 WHERE id = ?1")?
        .execute(params![id, by, reason])?;
    book.rings(Topic::Polls);
    Ok(())
}

fn columns(paused: &Option<Paused>) -> (Option<&str>, Option<&str>) {
    match paused {
        Some(Paused { by, reason }) => (Some(by), Some(reason)),
        None => (None, None),
    }
}
