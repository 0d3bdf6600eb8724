//! One pollable collection (rows 32–68), and what its parts demand of each other.

use std::collections::BTreeSet;

use chrono_tz::Tz;

use super::cursor::{read_cursor, read_pagination};
use super::language::{Names, Place, check_jq, check_jqs, plain_template, time_format};
use super::limits::read_limits;
use super::listing::{check_split, may_be_numbered, read_late, read_parent, read_window};
use super::request::{read_answer_format, read_request, read_response_actions, templates};
use super::{
    Conditional, CursorKind, CursorSpec, Deletes, Detect, PageKind, Pagination, RecordsAs, Request, Start, Stream,
    Target, TypeRule, Types, VersionKind, VersionSpec,
};
use crate::answer::{AnswerFormat, FormatKind};
use crate::canonical::Equal;
use crate::glob::FileGlob;
use crate::jq::Jq;
use crate::model::ChangeKind;
use crate::path::Path;
use crate::schedule::StreamSettings;
use crate::settings::{read_advice, read_guards, read_paths, read_zone};
use crate::shape::{Table, Value};
use crate::template::{Template, TimeFormat};

/// What is about requests, and has nothing to say of files.
const OF_REQUESTS: [&str; 19] = [
    "path",
    "url",
    "method",
    "query",
    "headers",
    "json",
    "form",
    "body",
    "pagination",
    "cursor",
    "conditional",
    "long_poll",
    "parent",
    "window",
    "late",
    "history",
    "limits",
    "complete_when",
    "response_actions",
];

/// What a stream takes from the file around it.
pub(super) struct Around<'n> {
    pub names: &'n Names,
    pub request: &'n Request,
    pub answer: &'n AnswerFormat,
    pub timezone: Option<Tz>,
    pub time_format: TimeFormat,
    pub has_base_url: bool,
}

/// Larger event data is left out of the event, which then says so (DESIGN §13).
pub const DATA_MAX: u64 = 1 << 20;

/// Reads `[streams.S]`.
pub(super) fn read_stream(name: String, value: &Value<'_, '_>, around: &Around<'_>) -> Option<Stream> {
    check_name(&name, value);
    let table = value.table()?;
    let mut answer = read_answer_format(&table, around.answer);
    let title = table.take("title").and_then(|value| value.filled_text()).unwrap_or_else(|| name.clone());
    let enabled = table.take("enabled").and_then(|value| value.boolean()).unwrap_or(true);
    let request = read_asking(&table, value, around);
    // One zone for the stream: of the times in its records, and of its cron.
    let timezone = table.take("timezone").map_or(around.timezone, |value| read_zone(&value));
    let format = table.take("time_format").map_or(Some(around.time_format.clone()), |value| time_format(&value));
    let format = format.unwrap_or(TimeFormat::Rfc3339);
    let detect = read_detect(&table);
    let jq = |key: &str| table.take(key).and_then(|value| check_jq(&value));
    let cursor_value = table.take("cursor");
    let cursor = cursor_value.as_ref().and_then(|value| read_cursor(value, &format, timezone));
    let pagination = read_pagination(&table);
    // Of a feed it is known where its entries are.
    let where_ever = if answer.kind == FormatKind::Feed { ".entries" } else { "." };
    let records = jq("records").or_else(|| Jq::parse(where_ever).ok())?;
    answer.expect_lists(records.text());
    let stream = Stream {
        title,
        enabled,
        files: read_files(&table, detect, around),
        answer,
        response_actions: read_response_actions(&table),
        records,
        records_as: read_records_as(&table, detect),
        filter: jq("filter"),
        key: read_key(&table, detect, request.is_none() && !table.has("files")),
        version: table.take("version").and_then(|value| read_version(&value)),
        time: jq("time"),
        created: jq("created"),
        order_key: table.take("order_key").map(check_jqs).unwrap_or_default(),
        event_id: read_event_id(&table, detect),
        ignore: paths(&table, "ignore"),
        unordered: paths(&table, "unordered"),
        only: paths(&table, "only"),
        equal: read_equal(&table),
        mask: paths(&table, "mask"),
        data_max: table.take("data_max").and_then(|value| value.size()).unwrap_or(DATA_MAX),
        lag: table.take("lag").and_then(|value| value.duration()).unwrap_or_default(),
        types: read_types(&table, &name),
        deletes: read_deletes(&table, detect),
        confirm: read_confirm(&table, detect, around),
        conditional: read_conditional(&table, pagination.as_ref()),
        long_poll: table.take("long_poll").and_then(|value| value.duration()),
        history: table.take("history").and_then(|value| value.duration()),
        parent: read_parent(&table, around.names),
        late: read_late(&table, cursor.as_ref()),
        window: read_window(&table, cursor.as_ref()),
        complete_when: jq("complete_when"),
        stable: read_stable(&table, pagination.as_ref()),
        limits: read_limits(&table),
        settings: read_advice(&table),
        name,
        detect: detect.unwrap_or(Detect::Changed),
        timezone,
        time_format: format,
        cursor,
        pagination: pagination.clone().unwrap_or_else(one_page),
        request,
    };
    if detect.is_some() {
        check_detect(&stream, &table, cursor_value.as_ref());
    }
    if pagination.is_some() {
        check_pages(&stream, &table, value, around.request);
    }
    table.finish();
    Some(stream)
}

fn one_page() -> Pagination {
    Pagination {
        kind: PageKind::None,
        first: 1,
        size: None,
        more: None,
        total: None,
        stop_when: None,
        numbered: false,
        max_pages: 1,
        split_at: None,
    }
}

fn paths(table: &Table<'_, '_>, key: &str) -> Vec<Path> {
    table.take(key).map(|value| read_paths(&value)).unwrap_or_default()
}

/// A stream's name stands in addresses, in `SOURCE/STREAM` and in event types.
fn check_name(name: &str, value: &Value<'_, '_>) {
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-') {
        let message = format!("`{name}` cannot be the name of a stream");
        value.reading.fault(value.key_span.clone(), message, Some("use letters, digits, `_` and `-`".into()));
    }
}

/// The request of a stream; None when webhooks alone feed it.
fn read_asking(table: &Table<'_, '_>, value: &Value<'_, '_>, around: &Around<'_>) -> Option<Request> {
    let request = read_request(table, Place::Request, around.names);
    if let Some(files) = table.take("files") {
        for other in OF_REQUESTS.iter().filter_map(|key| table.take(key)) {
            let message = format!("`{}` is about requests, and `{}` reads files", other.name, value.name);
            let help = format!("remove it, or `{}`", files.name);
            other.reading.fault(other.key_span.clone(), message, Some(help));
        }
        return None;
    }
    let asks = table.has("path") || table.has("url") || around.request.target.is_some();
    if !asks {
        for key in ["method", "query", "headers", "json", "form", "body", "pagination", "cursor", "conditional"] {
            if let Some(other) = table.take(key) {
                let message = format!("`{}` has no request to go with", other.name);
                let help = format!("add path or url to `{}`; without one, webhooks alone feed it", value.name);
                other.reading.fault(other.key_span.clone(), message, Some(help));
            }
        }
        return None;
    }
    let by_path = matches!(request.target.as_ref().or(around.request.target.as_ref()), Some(Target::Path(_)));
    if by_path && !around.has_base_url {
        let place = table.take("path").map_or(value.span.clone(), |path| path.span);
        let help = "add base_url to the file, or give the stream a whole address with url";
        value.reading.fault(
            place,
            format!("`{}.path` needs `base_url`, which is missing", value.name),
            Some(help.into()),
        );
    }
    Some(request)
}

/// `files`: a pattern of names, in which settings may stand.
fn read_files(table: &Table<'_, '_>, detect: Option<Detect>, around: &Around<'_>) -> Option<Template> {
    let value = table.take("files")?;
    let template = plain_template(&value, Place::BaseUrl, around.names)?;
    let text = template.text_source();
    if !text.contains("{{")
        && let Err(reason) = files_of(text, detect.unwrap_or(Detect::Changed))
    {
        value.fault(format!("`{}`: {reason}", value.name), None);
        return None;
    }
    Some(template)
}

/// The pattern that a rendered `files` stands for; the error is a sentence with its remedy.
pub fn files_of(text: &str, detect: Detect) -> Result<FileGlob, String> {
    let glob = FileGlob::parse(text)?;
    match detect {
        Detect::Snapshot | Detect::Document if !glob.is_single() => Err(format!(
            "detect = \"{}\" reads one file that holds everything, and `{text}` names several; name one file, or use \
             detect = \"changed\"",
            detect.as_str()
        )),
        _ => Ok(glob),
    }
}

fn read_detect(table: &Table<'_, '_>) -> Option<Detect> {
    table.take("detect").map_or(Some(Detect::Changed), |value| {
        value.choice(&[
            ("new", Detect::New),
            ("changed", Detect::Changed),
            ("snapshot", Detect::Snapshot),
            ("document", Detect::Document),
        ])
    })
}

fn read_records_as(table: &Table<'_, '_>, detect: Option<Detect>) -> RecordsAs {
    let document = detect == Some(Detect::Document);
    let Some(value) = table.take("records_as") else {
        return if document { RecordsAs::One } else { RecordsAs::List };
    };
    let known =
        [("list", RecordsAs::List), ("map", RecordsAs::Map), ("one", RecordsAs::One), ("columns", RecordsAs::Columns)];
    let given = value.choice(&known).unwrap_or(RecordsAs::List);
    if document && given != RecordsAs::One {
        value.fault(format!("`{}`: a document is one record", value.name), Some("remove it"));
    }
    given
}

/// None where a pure event needs none: it is known by its message id, or by what was signed (RULES R5.6).
fn read_key(table: &Table<'_, '_>, detect: Option<Detect>, webhooks_alone: bool) -> Vec<Jq> {
    if detect == Some(Detect::Document) {
        if let Some(key) = table.take("key") {
            key.fault(format!("`{}`: a document has no key", key.name), Some("remove it"));
        }
        return Vec::new();
    }
    let help = "jq over a record that identifies it, such as key = \".id\"";
    let pure = webhooks_alone && detect == Some(Detect::New);
    let value = if pure { table.take("key") } else { table.require("key", help) };
    let Some(value) = value else { return Vec::new() };
    if value.is_list() && value.list().is_some_and(|parts| parts.is_empty()) {
        value.fault(format!("`{}` is empty", value.name), Some(help));
    }
    check_jqs(value)
}

/// Kinds of difference that are none.
fn read_equal(table: &Table<'_, '_>) -> Equal {
    let mut equal = Equal::default();
    for value in table.take("equal").and_then(|value| value.list()).unwrap_or_default() {
        let kinds = [("numbers", 0), ("times", 1), ("space", 2), ("case", 3)];
        match value.choice(&kinds) {
            Some(0) => equal.numbers = true,
            Some(1) => equal.times = true,
            Some(2) => equal.space = true,
            Some(_) => equal.case = true,
            None => {}
        }
    }
    equal
}

fn read_version(value: &Value<'_, '_>) -> Option<VersionSpec> {
    if value.is_text() {
        return check_jq(value).map(|field| VersionSpec {
            field,
            kind: VersionKind::Time,
            same: Vec::new(),
            each_change: false,
        });
    }
    let table = value.table()?;
    let field =
        table.require("field", "jq over a record, such as field = \".version\"").and_then(|value| check_jq(&value));
    let kinds = [("time", VersionKind::Time), ("number", VersionKind::Number), ("text", VersionKind::Text)];
    let kind = table.take("type").map_or(Some(VersionKind::Time), |value| value.choice(&kinds));
    let same = paths(&table, "same");
    let each_change = table.take("each_change").and_then(|value| value.boolean()).unwrap_or(false);
    if each_change
        && !same.is_empty()
        && let Some(value) = table.take("same")
    {
        value.fault(format!("`{}`: with each_change = true the version alone decides", value.name), Some("remove it"));
    }
    table.finish();
    Some(VersionSpec { field: field?, kind: kind?, same, each_change })
}

/// Rows 48–50. Without names of its own a change is called after the stream: `payments.created`.
fn read_types(table: &Table<'_, '_>, stream: &str) -> Types {
    let stem: String = stream.chars().map(|c| if c == '-' { '_' } else { c }).collect();
    let mut types = Types {
        created: format!("{stem}.created"),
        updated: format!("{stem}.updated"),
        deleted: format!("{stem}.deleted"),
        from: None,
        when: Vec::new(),
    };
    let Some(inner) = table.take("types").and_then(|value| value.table()) else { return types };
    let name = |key: &str| inner.take(key).and_then(|value| read_type(&value));
    types.created = name("created").unwrap_or(types.created);
    types.updated = name("updated").unwrap_or(types.updated);
    types.deleted = name("deleted").unwrap_or(types.deleted);
    types.from = inner.take("from").and_then(|value| check_jq(&value));
    let rules = inner.take("when").and_then(|value| value.list()).unwrap_or_default();
    types.when = rules.iter().filter_map(read_type_rule).collect();
    inner.finish();
    types
}

/// The type of an event: words of letters, digits and `_`, joined by dots.
fn read_type(value: &Value<'_, '_>) -> Option<String> {
    let text = value.filled_text()?;
    let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !text.split('.').all(word) {
        let message = format!("`{}` is `{text}`, which is no event type", value.name);
        value.fault(message, Some("letters, digits and `_`, joined by dots: payment.settled"));
        return None;
    }
    Some(text)
}

fn read_type_rule(value: &Value<'_, '_>) -> Option<TypeRule> {
    let table = value.table()?;
    let when = table.require("when", "jq over { kind, old, new, changed } that gives true or false");
    let when = when.and_then(|value| check_jq(&value));
    let event_type = table.require("type", "the type of the event, such as type = \"payment.settled\"");
    let event_type = event_type.and_then(|value| read_type(&value));
    let kinds = [("updated", ChangeKind::Updated), ("created", ChangeKind::Created), ("deleted", ChangeKind::Deleted)];
    let on = table.take("on").map_or(Some(ChangeKind::Updated), |value| value.choice(&kinds));
    table.finish();
    Some(TypeRule { when: when?, event_type: event_type?, on: on? })
}

fn read_deletes(table: &Table<'_, '_>, detect: Option<Detect>) -> Deletes {
    let mut guards = StreamSettings::default();
    let mut when = None;
    if let Some(inner) = table.take("deletes").and_then(|value| value.table()) {
        // Read by `read_confirm`.
        let _ = inner.take("confirm");
        when = inner.take("when").and_then(|value| check_jq(&value));
        read_guards(&inner, &mut guards);
        if detect.is_some_and(|detect| detect != Detect::Snapshot) {
            for key in ["confirm_after", "max_percent", "max_count"] {
                if let Some(value) = inner.take(key) {
                    let message = format!("`{}` is about records that a whole list no longer holds", value.name);
                    let help = "it goes with detect = \"snapshot\" only; remove it, or say deletes.when";
                    value.reading.fault(value.key_span.clone(), message, Some(help.into()));
                }
            }
        }
        inner.finish();
    }
    Deletes {
        when,
        confirm_after: guards.confirm_after.unwrap_or(2),
        max_percent: guards.max_percent.unwrap_or(10),
        max_count: guards.max_count.unwrap_or(1_000),
    }
}

/// `deletes.confirm`: a request that names the record by `{{ key }}` or `{{ record.… }}`.
fn read_confirm(table: &Table<'_, '_>, detect: Option<Detect>, around: &Around<'_>) -> Option<Request> {
    let value = table.take("deletes")?.table()?.take("confirm")?;
    let inner = value.table()?;
    let request = read_request(&inner, Place::Confirm, around.names);
    inner.finish();
    if detect.is_some_and(|detect| detect != Detect::Snapshot) {
        let message = format!("`{}` is about records that a whole list no longer holds", value.name);
        let help = "it goes with detect = \"snapshot\" only; remove it";
        value.reading.fault(value.key_span.clone(), message, Some(help.into()));
    }
    let names_record = templates(&request)
        .into_iter()
        .flat_map(|template| template.names())
        .any(|name| name == "key" || name == "record" || name.starts_with("record."));
    if request.target.is_none() || !names_record {
        let message = format!("`{}` names no record: every one would be asked for at one address", value.name);
        value.fault(message, Some("confirm = { path = \"/customers/{{ key }}\" }, or {{ record.id }}"));
        return None;
    }
    Some(request)
}

/// `true` is about a listing of one page; over several pages the author must say that the first one's validators stand for all.
fn read_conditional(table: &Table<'_, '_>, pagination: Option<&Pagination>) -> Conditional {
    let Some(value) = table.take("conditional") else { return Conditional::No };
    let pages = pagination.is_some_and(|pagination| !matches!(pagination.kind, PageKind::None));
    if value.value.as_str() == Some("list") {
        if pages {
            return Conditional::List;
        }
        value.fault(format!("`{}` = \"list\" is for lists of several pages", value.name), Some("say true"));
        return Conditional::No;
    }
    match value.boolean() {
        Some(true) if pages => {
            let message = format!("`{}` = true has no effect on a list of several pages", value.name);
            let help = "where an ETag of the first page changes with any record of the list, say conditional = \"list\"; else remove it";
            value.fault(message, Some(help));
            Conditional::No
        }
        Some(true) => Conditional::Page,
        Some(false) | None => Conditional::No,
    }
}

fn read_stable(table: &Table<'_, '_>, pagination: Option<&Pagination>) -> bool {
    let Some(value) = table.take("stable") else { return false };
    if pagination.is_some_and(|pagination| !may_be_numbered(pagination)) {
        let message = format!("`{}` is about pages counted by numbers, and these are not", value.name);
        value.fault(message, Some("remove it"));
    }
    value.boolean().unwrap_or(false)
}

/// What `detect` demands of the other keys.
fn check_detect(stream: &Stream, table: &Table<'_, '_>, cursor: Option<&Value<'_, '_>>) {
    if let (Detect::Snapshot | Detect::Document, Some(value)) = (stream.detect, cursor) {
        let message = format!("`{}`: detect = \"{}\" reads everything each time", value.name, stream.detect.as_str());
        value.reading.fault(value.key_span.clone(), message, Some("remove it, or use detect = \"changed\"".into()));
    }
    if let (Detect::Document, Some(value)) = (stream.detect, table.take("pagination")) {
        let message = format!("`{}`: a document has no pages", value.name);
        value.reading.fault(value.key_span.clone(), message, Some("remove it".into()));
    }
    let starts_late = |cursor: &CursorSpec| cursor.start != Start::All;
    let field = stream.cursor.as_ref().and_then(|cursor| cursor.field.as_ref());
    if let (Detect::Changed, Some(field), Some(created), Some(value)) = (stream.detect, field, &stream.created, cursor)
        && field == created
        // With a lookback the author says for how long a record is watched.
        && stream.cursor.as_ref().is_some_and(|cursor| cursor.lookback.is_none())
    {
        let message =
            format!("`{}.field` is the time of creation: a record that changes later is never asked for", value.name);
        let help = "use a field that moves with each change; or say with `lookback` for how long a record is watched; or detect = \"new\" when records never change";
        value.reading.warning(value.span.clone(), message, Some(help.into()));
    }
    if stream.detect == Detect::Changed
        && stream.created.is_none()
        && !table.has("created")
        && stream.cursor.as_ref().is_some_and(starts_late)
        && let Some(value) = cursor
    {
        let message = format!("`{}.start`: a record older than the start may turn up by a change", value.name);
        let help = "add created = \".createdAt\", so that it is not taken for a new one; or start = \"all\"";
        value.fault(message, Some(help));
    }
}

/// Only what is new has one event for each record; of a change, the record's id says nothing.
fn read_event_id(table: &Table<'_, '_>, detect: Option<Detect>) -> Option<Jq> {
    let value = table.take("event_id")?;
    if detect.is_some_and(|detect| detect != Detect::New) {
        let message =
            format!("`{}`: every event needs an id of its own, and a record that changes gives several", value.name);
        let help = "leave it out; or detect = \"new\"; or make it of what is new with each change, such as event_id = '.id + \"/\" + .version'";
        value.reading.warning(value.key_span.clone(), message, Some(help.into()));
    }
    check_jq(&value)
}

/// What the request must name for its pages and its cursor to go on, and what it names in vain.
fn check_pages(stream: &Stream, table: &Table<'_, '_>, value: &Value<'_, '_>, shared: &Request) {
    let Some(request) = &stream.request else { return };
    let names = |request: &Request| -> BTreeSet<String> {
        templates(request).into_iter().flat_map(|template| template.names()).collect()
    };
    // What the file says for all its streams may well be without a value in this one: then it is left out.
    let (used, used_by_all) = (names(request), names(shared));
    let needed = match stream.pagination.kind {
        PageKind::Page => Some("page.number"),
        PageKind::Offset => Some("page.offset"),
        PageKind::Token(_) => Some("page.token"),
        PageKind::LastId(_) => Some("page.last_id"),
        PageKind::None | PageKind::LinkHeader | PageKind::NextUrl(_) => None,
    };
    let place = table.take("pagination").map_or(value.span.clone(), |value| value.key_span);
    if let Some(needed) = needed.filter(|needed| !used.contains(*needed) && !used_by_all.contains(*needed)) {
        let message =
            format!("no request of `{}` names `{{{{ {needed} }}}}`: every page would be the first", value.name);
        value.reading.fault(place.clone(), message, Some(format!("add it to the query: {{{{ {needed} }}}}")));
    }
    let in_vain = |name: &str| used.contains(name) && needed != Some(name);
    for name in ["page.number", "page.offset", "page.token", "page.last_id"].into_iter().filter(|name| in_vain(name)) {
        let message =
            format!("`{{{{ {name} }}}}` in the request of `{}` has no value with this pagination", value.name);
        value.reading.fault(place.clone(), message, Some("change pagination.type, or remove it".into()));
    }
    if used.contains("page.size") && stream.pagination.size.is_none() {
        let message = format!("`{{{{ page.size }}}}` in the request of `{}` needs `pagination.size`", value.name);
        value.reading.fault(place, message, Some("add it, such as size = 100".into()));
    }
    if let Some(value) = table.take("pagination") {
        check_split(stream, &value);
    }
    check_cursor_use(stream, table, value, &used, &used_by_all);
    let roots = |root: &str| used.iter().any(|name| name == root || name.starts_with(&format!("{root}.")));
    for (root, given, help) in [
        ("window", stream.window.is_some() || table.has("window"), "add window = { step = \"30d\" }"),
        ("parent", stream.parent.is_some() || table.has("parent"), "add parent = { stream = \"…\", carry = { … } }"),
    ] {
        if roots(root) && !given {
            let message = format!("`{{{{ {root}.… }}}}` in the request of `{}` needs a `{root}`", value.name);
            value.reading.fault(value.span.clone(), message, Some(help.into()));
        }
    }
    if stream.window.is_some() && !used.contains("window.start") && !used_by_all.contains("window.start") {
        let message =
            format!("no request of `{}` names `{{{{ window.start }}}}`: every slice would be the same", value.name);
        let help = "add {{ window.start }} and {{ window.end }} to the query";
        value.reading.fault(value.span.clone(), message, Some(help.into()));
    }
    if used.contains("cursor") && !table.has("cursor") {
        let message = format!("`{{{{ cursor }}}}` in the request of `{}` needs a `cursor`", value.name);
        let help = "add it, such as cursor = { field = \".updatedAt\" }";
        value.reading.fault(value.span.clone(), message, Some(help.into()));
    }
}

/// A link stands in place of the request, and comes from pages that have links.
fn check_cursor_use(
    stream: &Stream,
    table: &Table<'_, '_>,
    value: &Value<'_, '_>,
    used: &BTreeSet<String>,
    used_by_all: &BTreeSet<String>,
) {
    let Some(cursor) = stream.cursor.as_ref().filter(|cursor| cursor.kind == CursorKind::Link) else { return };
    let place = table.take("cursor").map_or(value.span.clone(), |value| value.key_span);
    let links = matches!(stream.pagination.kind, PageKind::LinkHeader | PageKind::NextUrl(_));
    if cursor.answer.is_none() && !links {
        let message = format!("`{}.cursor`: there is no link to keep with this pagination", value.name);
        let help = "use pagination.type = \"link_header\" or \"next_url\", or read the link with cursor.answer";
        value.reading.fault(place.clone(), message, Some(help.into()));
    }
    if used.contains("cursor") || used_by_all.contains("cursor") {
        let message =
            format!("`{{{{ cursor }}}}` in the request of `{}`: the link itself is the next request", value.name);
        value.reading.fault(place, message, Some("remove it".into()));
    }
}
