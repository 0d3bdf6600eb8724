//! How a stream is looked at beside its plain listing (rows 35 and 58): a second look for late indexes, date slices, and one
//! listing for each record of a parent.

use std::time::Duration;

use super::language::{Names, Place, check_jq};
use super::request::{read_param, templates};
use super::{
    Batch, CursorKind, CursorSpec, Detect, Late, PageKind, Pagination, Param, Parent, ParentOf, Request, Start, Stream,
};
use crate::jq::Jq;
use crate::shape::{Table, Value};

/// Shortest slice: more slices than seconds help nobody.
const STEP_MIN: Duration = Duration::from_secs(60);

/// More parents than this are in no request's address.
const BATCH_MAX: i64 = 1_000;

/// `late = { lag, window, every }`.
pub(super) fn read_late(table: &Table<'_, '_>, cursor: Option<&CursorSpec>) -> Option<Late> {
    let value = table.take("late")?;
    let inner = value.table()?;
    let lag = inner.require("lag", "how late a record may turn up in the listing, such as lag = \"1h\"");
    let lag = lag.and_then(|value| value.duration());
    let window = inner.take("window").map_or(Some(Duration::ZERO), |value| value.duration());
    let every = inner.take("every").map_or(lag, |value| value.duration());
    inner.finish();
    if !by_time(cursor) {
        needs_time_cursor(&value, "a late look goes back by time");
        return None;
    }
    let late = Late { lag: lag?, window: window?, every: every? };
    if late.lag.is_zero() || late.every.is_zero() {
        value.fault(format!("`{}`: `lag` and `every` must be more than nothing", value.name), None);
        return None;
    }
    Some(late)
}

/// `window = { step }`.
pub(super) fn read_window(table: &Table<'_, '_>, cursor: Option<&CursorSpec>) -> Option<Duration> {
    let value = table.take("window")?;
    let inner = value.table()?;
    let step = inner.require("step", "the longest range that the API takes, such as step = \"30d\"");
    let step = step.and_then(|value| value.duration());
    inner.finish();
    let Some(cursor) = cursor.filter(|_| by_time(cursor)) else {
        needs_time_cursor(&value, "slices run from the cursor to now");
        return None;
    };
    if cursor.start == Start::All {
        let message = format!("`{}`: without a `start` the first look has no first slice", value.name);
        value.fault(message, Some("say where it begins: cursor.start = \"2024-01-01\", \"365d\" or \"now\""));
        return None;
    }
    let step = step?;
    if step < STEP_MIN {
        value.fault(format!("`{}.step` must be at least 1m", value.name), None);
        return None;
    }
    Some(step)
}

fn by_time(cursor: Option<&CursorSpec>) -> bool {
    cursor.is_some_and(|cursor| cursor.kind == CursorKind::Time)
}

fn needs_time_cursor(value: &Value<'_, '_>, why: &str) {
    let message = format!("`{}`: {why}, and the stream has no cursor of type time", value.name);
    value.reading.fault(value.key_span.clone(), message, Some("add cursor = { field = \".updatedAt\" }".into()));
}

/// `parent = { stream, values, carry, when, batch, owner }`.
pub(super) fn read_parent(table: &Table<'_, '_>, names: &Names) -> Option<Parent> {
    let value = table.take("parent")?;
    let inner = value.table()?;
    let stream = inner.take("stream");
    let values = inner.take("values");
    let carry = inner.take("carry");
    let when = inner.take("when");
    let (batch, owner) = (inner.take("batch"), inner.take("owner"));
    inner.finish();
    let of = match (&stream, &values) {
        (Some(stream), None) => ParentOf::Stream(stream.filled_text()?),
        (None, Some(values)) => ParentOf::Values(read_values(values, names)?),
        _ => {
            let message = format!("`{}` needs exactly one of `stream` and `values`", value.name);
            value.fault(message, Some("parent = { stream = \"accounts\", carry = { id = \".id\" } }"));
            return None;
        }
    };
    for other in [&carry, &when].into_iter().flatten().filter(|_| values.is_some()) {
        let message = format!("`{}` is about records, and these parents are values", other.name);
        other.fault(message, Some("a value is named {{ parent.value }}"));
    }
    let carried = carry.and_then(|value| value.table()).map(|table| table.entries()).unwrap_or_default();
    let carry: Vec<_> = carried.into_iter().filter_map(|(name, value)| Some((name, check_jq(&value)?))).collect();
    if carry.is_empty() && stream.is_some() {
        let message = format!("`{}.carry` is missing: the request would not know whose records to ask for", value.name);
        value.fault(message, Some("carry = { id = \".id\" }, and {{ parent.id }} in the request"));
        return None;
    }
    let handed: Vec<&str> = match &of {
        ParentOf::Stream(_) => carry.iter().map(|(name, _)| name.as_str()).collect(),
        ParentOf::Values(_) => vec!["value"],
    };
    let batch = read_batch(batch, owner, &handed);
    Some(Parent { of, carry, when: when.and_then(|value| check_jq(&value)), batch })
}

/// `batch = 50`, and `owner = { id = ".accountId" }` beside it.
fn read_batch(batch: Option<Value<'_, '_>>, owner: Option<Value<'_, '_>>, handed: &[&str]) -> Option<Batch> {
    let Some(batch) = batch else {
        if let Some(owner) = owner {
            let message = format!("`{}` is about several parents in one request", owner.name);
            owner.fault(message, Some("say how many with `batch`, or remove it"));
        }
        return None;
    };
    let size = batch.integer(1..=BATCH_MAX)?;
    let owner = owner.and_then(|value| read_owner(&value, handed));
    Some(Batch { size: usize::try_from(size).unwrap_or(usize::MAX), owner })
}

fn read_owner(value: &Value<'_, '_>, handed: &[&str]) -> Option<(String, Jq)> {
    let entries = value.table()?.entries();
    let [(name, jq)] = entries.as_slice() else {
        let message = format!("`{}` needs exactly one entry", value.name);
        value.fault(message, Some("owner = { id = \".accountId\" }: the record holds as .accountId its parent's `id`"));
        return None;
    };
    if !handed.contains(&name.as_str()) {
        let message = format!("`{}`: the parents hand down no `{name}`", value.name);
        value.fault(message, Some(&format!("name one of: {}", handed.join(", "))));
        return None;
    }
    Some((name.clone(), check_jq(jq)?))
}

/// A list of values, or a template that gives one.
fn read_values(value: &Value<'_, '_>, names: &Names) -> Option<Param> {
    if value.is_list() && value.list()?.is_empty() {
        value.fault(format!("`{}` is empty: there would be nothing to ask for", value.name), None);
        return None;
    }
    read_param(value, Place::Auth, names)
}

/// What a parent demands of its stream and of the file.
pub(super) fn check_parents(table: &Table<'_, '_>, streams: &[Stream]) {
    let Some(named) = table.take("streams").and_then(|value| value.table()) else { return };
    for stream in streams {
        let Some(parent) = &stream.parent else { continue };
        let Some(value) = named.take(&stream.name).and_then(|v| v.table()).and_then(|t| t.take("parent")) else {
            continue;
        };
        if let ParentOf::Stream(name) = &parent.of {
            check_parent_stream(&value, &stream.name, name, streams);
        }
        if let Some(batch) = &parent.batch {
            check_batch(&value, stream, batch);
        }
        let link = stream.cursor.as_ref().is_some_and(|cursor| cursor.kind == CursorKind::Link);
        if link {
            let message =
                format!("`{}`: a link as cursor stands for one listing, not for one of each parent", value.name);
            value.reading.fault(value.key_span.clone(), message, Some("use a cursor of another type".into()));
        }
    }
}

/// What one request for several parents cannot be: a listing whose place is opaque, or that is one record of one parent.
fn check_batch(value: &Value<'_, '_>, stream: &Stream, batch: &Batch) {
    let fault = |what: &str, help: &str| value.fault(format!("`{}`: {what}", value.name), Some(help));
    match stream.detect {
        Detect::Document => fault("a document is one parent's, and `batch` asks for several", "remove `batch`"),
        Detect::Snapshot if batch.owner.is_none() => fault(
            "with `batch` nothing says whose a record is, so that a parent that vanished would delete its children",
            "add owner = { id = \".accountId\" }: where a record holds what its parent hands down as `id`",
        ),
        Detect::Snapshot | Detect::New | Detect::Changed => {}
    }
    if stream.cursor.as_ref().is_some_and(|cursor| cursor.kind == CursorKind::Text) {
        let help = "use a cursor of type time or number, or remove `batch`";
        fault("an opaque cursor stands for the parents it was given for, and these change", help);
    }
    if stream.confirm.is_some() && batch.owner.is_none() {
        fault("`deletes.confirm` needs to know whose a record is", "add owner = { id = \".accountId\" }");
    }
}

fn check_parent_stream(value: &Value<'_, '_>, child: &str, name: &str, streams: &[Stream]) {
    let fault = |message: String, help: &str| value.fault(message, Some(help));
    match streams.iter().find(|stream| stream.name == name) {
        None => fault(format!("`{}`: there is no stream `{name}`", value.name), "name a stream of this file"),
        Some(_) if name == child => fault(format!("`{}`: a stream is not its own parent", value.name), "name another"),
        Some(parent) if parent.parent.is_some() => {
            fault(format!("`{}`: `{name}` has a parent itself", value.name), "one level is carried out");
        }
        Some(parent) if parent.detect == Detect::New => fault(
            format!("`{}`: `{name}` has detect = \"new\", which keeps no records", value.name),
            "parents are read from the store: use detect = \"snapshot\" or \"changed\" there",
        ),
        Some(_) => {}
    }
}

/// What a result cap demands: a way to go on beyond it.
pub(super) fn check_split(stream: &Stream, value: &Value<'_, '_>) {
    let Some(pagination) = value.table() else { return };
    let Some(split) = pagination.take("split_at") else { return };
    if matches!(stream.pagination.kind, PageKind::None) {
        split.fault(format!("`{}`: a listing of one page has no pages to stop at", split.name), Some("remove it"));
    }
}

impl Stream {
    /// Whether it is looked at by ourselves, and not fed by real webhooks alone.
    pub fn is_polled(&self) -> bool {
        self.request.is_some() || self.files.is_some()
    }

    /// Whether its requests say where to begin. `all`: the request of the whole file.
    pub fn asks_by_cursor(&self, all: &Request) -> bool {
        let names = |request: &Request| templates(request).iter().any(|template| template.names().contains("cursor"));
        self.request.as_ref().is_some_and(names) || names(all)
    }
}

/// Whether a listing is or may be counted by numbers, so that rows may slip between its pages.
pub(super) fn may_be_numbered(pagination: &Pagination) -> bool {
    matches!(pagination.kind, PageKind::Page | PageKind::Offset | PageKind::LinkHeader | PageKind::NextUrl(_))
}
