//! Where the next poll starts, and how a listing goes on (rows 51–64).

use std::time::Duration;

use chrono_tz::Tz;

use super::language::{check_jq, moment, time_format};
use super::{CursorKind, CursorOrder, CursorSpec, Lookback, PageKind, Pagination, Start};
use crate::jq::Jq;
use crate::settings::read_zone;
use crate::shape::{Table, Value};
use crate::template::TimeFormat;

const PAGES_MAX: u64 = 1_000;

/// `cursor`; the format and the zone are those of the stream when it names none of its own.
pub(super) fn read_cursor(value: &Value<'_, '_>, format: &TimeFormat, zone: Option<Tz>) -> Option<CursorSpec> {
    let table = value.table()?;
    let kinds = [
        ("time", CursorKind::Time),
        ("number", CursorKind::Number),
        ("text", CursorKind::Text),
        ("link", CursorKind::Link),
    ];
    let kind = table.take("type").map_or(Some(CursorKind::Time), |value| value.choice(&kinds));
    let (field, answer) = read_place(&table, kind);
    let format = table.take("format").map_or(Some(format.clone()), |value| time_format(&value));
    let timezone = table.take("timezone").map_or(zone, |value| read_zone(&value));
    let duration =
        |key: &str, default: u64| table.take(key).map_or(Some(Duration::from_secs(default)), |value| value.duration());
    let (precision, settle, max_future) =
        (duration("precision", 1), duration("settle", 0), duration("max_future", 300));
    let inclusive = table.take("inclusive").map_or(Some(true), |value| value.boolean());
    let orders = [("asc", CursorOrder::Asc), ("desc", CursorOrder::Desc), ("none", CursorOrder::None)];
    let order = table.take("order").map_or(Some(CursorOrder::None), |value| value.choice(&orders));
    let start = table.take("start").map_or(Some(Start::All), |value| read_start(&value, kind, timezone));
    let lookback = match table.take("lookback") {
        Some(value) => read_lookback(&value, kind),
        None if kind == Some(CursorKind::Time) => Some(Lookback::Time(Duration::ZERO)),
        None => Some(Lookback::Number(0)),
    };
    check_kind(&table, kind, answer.is_some());
    table.finish();
    if kind != Some(CursorKind::Link) && field.is_none() && answer.is_none() {
        return None;
    }
    Some(CursorSpec {
        field,
        answer,
        kind: kind?,
        format: format?,
        timezone,
        precision: precision?,
        inclusive: inclusive?,
        order: order?,
        start: start?,
        lookback: lookback?,
        settle: settle?,
        max_future: max_future?,
    })
}

/// `field` or `answer`; a link may come from either the answer or the pagination.
fn read_place(table: &Table<'_, '_>, kind: Option<CursorKind>) -> (Option<Jq>, Option<Jq>) {
    let (field, answer) = (table.take("field"), table.take("answer"));
    match (&field, &answer) {
        (Some(field), Some(answer)) => {
            let message = format!("`{}` and `{}` exclude each other; keep one", field.name, answer.name);
            answer.fault(message, None);
        }
        (Some(field), None) if kind == Some(CursorKind::Link) => {
            let message = format!("`{}`: a link is not read from a record", field.name);
            field.fault(message, Some("remove it; the last next link is kept, or what `answer` gives"));
        }
        (None, None) if kind != Some(CursorKind::Link) => {
            let help = "jq over a record, such as field = \".updatedAt\"; or answer, jq over the answer";
            table.require("field", help);
        }
        _ => {}
    }
    (field.and_then(|value| check_jq(&value)), answer.and_then(|value| check_jq(&value)))
}

/// Keys that are about other kinds of cursor.
fn check_kind(table: &Table<'_, '_>, kind: Option<CursorKind>, by_answer: bool) {
    let refuse = |key: &str, why: &str| {
        if let Some(value) = table.take(key) {
            value.fault(format!("`{}` {why}", value.name), Some("remove it"));
        }
    };
    if kind != Some(CursorKind::Time) {
        for key in ["format", "timezone", "precision", "settle", "max_future"] {
            refuse(key, "is about times, and this cursor is none");
        }
    }
    if matches!(kind, Some(CursorKind::Text | CursorKind::Link)) {
        refuse("inclusive", "is about a filter's bound, and an opaque cursor has none");
    }
    if by_answer {
        for key in ["order", "settle", "max_future"] {
            refuse(key, "is about the cursor of a record, and this one is the answer's");
        }
    }
}

fn read_start(value: &Value<'_, '_>, kind: Option<CursorKind>, zone: Option<Tz>) -> Option<Start> {
    let json = value.json();
    let text = json.as_str();
    let start = match text {
        Some("all") => return Some(Start::All),
        Some("now") => Some(Start::Now),
        Some(text) => match humantime::parse_duration(text) {
            Ok(duration) => Some(Start::Ago(duration)),
            Err(_) => moment(value, zone).map(Start::At),
        },
        None => value.wrong("\"all\", \"now\", a duration such as \"7d\" or a date"),
    };
    if matches!(kind, Some(CursorKind::Number | CursorKind::Text | CursorKind::Link)) && start.is_some() {
        let message = format!("`{}` is about times, and this cursor is none", value.name);
        value.fault(message, Some("only \"all\" goes with it"));
        return None;
    }
    start
}

fn read_lookback(value: &Value<'_, '_>, kind: Option<CursorKind>) -> Option<Lookback> {
    match kind {
        Some(CursorKind::Number) => {
            let number = value.integer(0..=i64::MAX)?;
            Some(Lookback::Number(u64::try_from(number).unwrap_or_default()))
        }
        Some(CursorKind::Text | CursorKind::Link) => {
            value.fault(format!("`{}`: an opaque cursor cannot look back", value.name), Some("remove it"));
            None
        }
        _ => value.duration().map(Lookback::Time),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    None,
    Page,
    Offset,
    Token,
    LastId,
    LinkHeader,
    NextUrl,
}

const KINDS: [(&str, Kind); 7] = [
    ("none", Kind::None),
    ("page", Kind::Page),
    ("offset", Kind::Offset),
    ("token", Kind::Token),
    ("last_id", Kind::LastId),
    ("link_header", Kind::LinkHeader),
    ("next_url", Kind::NextUrl),
];

/// `pagination`; absent: one page.
pub(super) fn read_pagination(table: &Table<'_, '_>) -> Option<Pagination> {
    let Some(value) = table.take("pagination") else {
        return Some(Pagination {
            kind: PageKind::None,
            first: 1,
            size: None,
            more: None,
            total: None,
            stop_when: None,
            numbered: false,
            max_pages: PAGES_MAX,
            split_at: None,
        });
    };
    let table = value.table()?;
    let types = KINDS.map(|(name, _)| name).join(", ");
    let kind = table.require("type", &format!("one of {types}")).and_then(|value| value.choice(&KINDS));
    let page_kind = read_page_kind(&table, kind);
    let pagination = Pagination {
        kind: page_kind.clone().unwrap_or(PageKind::None),
        first: read_first(&table, kind).unwrap_or(1),
        size: table.take("size").and_then(|value| value.integer(1..=1_000_000)).and_then(|n| u64::try_from(n).ok()),
        more: table.take("more").and_then(|value| check_jq(&value)),
        total: table.take("total").and_then(|value| check_jq(&value)),
        stop_when: table.take("stop_when").and_then(|value| check_jq(&value)),
        numbered: read_numbered(&table, kind),
        max_pages: table
            .take("max_pages")
            .and_then(|value| value.integer(1..=10_000_000))
            .and_then(|n| u64::try_from(n).ok())
            .unwrap_or(PAGES_MAX),
        split_at: table
            .take("split_at")
            .and_then(|value| value.integer(1..=1_000_000_000))
            .and_then(|n| u64::try_from(n).ok()),
    };
    if kind == Some(Kind::Offset) && pagination.size.is_none() && !table.has("size") {
        let message = format!("`{}.size` is missing: offsets count by it", value.name);
        value.fault(message, Some("add it, such as size = 100"));
    }
    table.finish();
    page_kind.map(|_| pagination)
}

fn read_first(table: &Table<'_, '_>, kind: Option<Kind>) -> Option<i64> {
    let value = table.take("first")?;
    if kind.is_some_and(|kind| kind != Kind::Page) {
        value.fault(format!("`{}` is the number of the first page, and these pages have none", value.name), None);
        return None;
    }
    value.integer(0..=1_000_000)
}

fn read_numbered(table: &Table<'_, '_>, kind: Option<Kind>) -> bool {
    let Some(value) = table.take("numbered") else { return false };
    if kind.is_some_and(|kind| !matches!(kind, Kind::LinkHeader | Kind::NextUrl)) {
        value.fault(format!("`{}` is about links, and these pages have none", value.name), Some("remove it"));
    }
    value.boolean().unwrap_or(false)
}

fn read_page_kind(table: &Table<'_, '_>, kind: Option<Kind>) -> Option<PageKind> {
    let next = |help: &str| table.require("next", help).and_then(|value| check_jq(&value));
    match kind? {
        Kind::Token => return next("jq over the answer that gives the next token").map(PageKind::Token),
        Kind::LastId => return next("jq over the last record that gives its id").map(PageKind::LastId),
        Kind::NextUrl => return next("jq over the answer that gives the next address").map(PageKind::NextUrl),
        Kind::None | Kind::Page | Kind::Offset | Kind::LinkHeader => {}
    }
    if let Some(value) = table.take("next") {
        let message = format!("`{}` is read only with type token, last_id or next_url", value.name);
        value.fault(message, Some("remove it"));
    }
    Some(match kind? {
        Kind::Page => PageKind::Page,
        Kind::Offset => PageKind::Offset,
        Kind::LinkHeader => PageKind::LinkHeader,
        _ => PageKind::None,
    })
}
