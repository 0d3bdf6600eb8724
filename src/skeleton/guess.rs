//! The guesses themselves: the longest list of objects, the member that differs in each, the members that are times, the ways in which
//! listings say that they go on.

use serde_json::{Map, Value};

use super::{Answered, path_of, toml_text};
use crate::template::TimeFormat;

/// How deep a list is looked for.
const DEPTH_MAX: usize = 6;

/// A list of objects and where it stands.
pub struct Listed<'v> {
    pub steps: Vec<String>,
    pub items: Vec<&'v Map<String, Value>>,
}

impl Listed<'_> {
    pub fn path(&self) -> String {
        if self.steps.is_empty() {
            return ".".to_owned();
        }
        self.steps.iter().map(|step| path_of(step)).collect()
    }
}

/// The longest list of objects; of equally long ones the one that stands nearest to the top.
pub fn records(json: &Value) -> Option<Listed<'_>> {
    let mut found: Vec<Listed<'_>> = Vec::new();
    search(json, &mut Vec::new(), &mut found);
    let longest = found.iter().map(|listed| listed.items.len()).max()?;
    found.into_iter().find(|listed| listed.items.len() == longest)
}

fn search<'v>(json: &'v Value, steps: &mut Vec<String>, found: &mut Vec<Listed<'v>>) {
    match json {
        Value::Array(items) => {
            let objects: Vec<_> = items.iter().filter_map(Value::as_object).collect();
            if objects.len() == items.len() {
                found.push(Listed { steps: steps.clone(), items: objects });
            }
        }
        Value::Object(members) if steps.len() < DEPTH_MAX => {
            for (name, value) in members {
                steps.push(name.clone());
                search(value, steps, found);
                steps.pop();
            }
        }
        _ => {}
    }
}

/// The members of a record with their paths and names: its own, and behind them those of objects within it, where wrappers such as
/// `attributes` keep what counts.
fn members(item: &Map<String, Value>) -> Vec<(String, &str, &Value)> {
    let own = item.iter().map(|(name, value)| (path_of(name), name.as_str(), value));
    let within = item.iter().filter_map(|(outer, value)| Some((outer, value.as_object()?)));
    let within = within.flat_map(|(outer, inner)| {
        inner.iter().map(move |(name, value)| (path_of(outer) + &path_of(name), name.as_str(), value))
    });
    own.chain(within).collect()
}

fn at<'v>(item: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    members(item).into_iter().find(|(known, _, _)| known == path).map(|(_, _, value)| value)
}

/// Where a record is identified: there and different in each, by the likeliest name.
pub fn key(listed: &Listed<'_>) -> Option<String> {
    let first = listed.items.first()?;
    let text = |value: &Value| match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let differs = |path: &str| {
        let values: Vec<Option<String>> = listed.items.iter().map(|item| at(item, path).and_then(text)).collect();
        let known: std::collections::HashSet<&String> = values.iter().flatten().collect();
        known.len() == listed.items.len()
    };
    let found = members(first).into_iter().filter(|(path, _, _)| differs(path));
    let mut found: Vec<(String, usize)> = found.map(|(path, name, _)| (path, likely(name))).collect();
    found.sort_by_key(|(_, likely)| *likely);
    let (path, likely) = found.into_iter().next()?;
    (likely < UNLIKELY || listed.items.len() > 1).then_some(path)
}

const UNLIKELY: usize = 5;

fn likely(name: &str) -> usize {
    let plain = name.to_ascii_lowercase().replace(['@', '-', '_', ' ', '.'], "");
    match plain.as_str() {
        "id" => 0,
        "uuid" | "guid" | "uid" | "resourceid" => 1,
        "key" | "number" | "code" | "reference" | "ref" | "sku" | "iban" | "nr" | "no" => 2,
        _ if name.ends_with("Id") || name.ends_with("_id") || name.ends_with("ID") => 3,
        _ if plain.ends_with("number")
            || plain.ends_with("code")
            || plain.ends_with("key")
            || plain.ends_with("nr") =>
        {
            4
        }
        // A time or a title may well differ in a few records and be the same in the next.
        _ if ["name", "title", "at", "date", "time", "text"].iter().any(|word| plain.ends_with(word)) => UNLIKELY + 1,
        _ => UNLIKELY,
    }
}

/// How a time is written.
#[derive(Clone, Debug, PartialEq)]
pub struct TimeShape {
    pub word: &'static str,
    pub without_zone: bool,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Times {
    pub updated: Option<(String, TimeShape)>,
    pub created: Option<(String, TimeShape)>,
}

/// The members that say when a record changed and when it was made.
pub fn times(listed: &Listed<'_>) -> Times {
    let Some(first) = listed.items.first() else { return Times::default() };
    let find = |words: &[&str]| {
        members(first).into_iter().find_map(|(path, name, value)| {
            let plain = name.to_ascii_lowercase().replace(['@', '-', '_', ' '], "");
            if !words.iter().any(|word| plain.contains(word)) {
                return None;
            }
            let shape = shape(value)?;
            let all = listed.items.iter().all(|item| at(item, &path).and_then(self::shape).as_ref() == Some(&shape));
            all.then_some((path, shape))
        })
    };
    Times {
        updated: find(&["updated", "modified", "changed", "lastedit"]),
        created: find(&["created", "published", "booked", "inserted"]),
    }
}

fn shape(value: &Value) -> Option<TimeShape> {
    let with = |word: &'static str, without_zone: bool| Some(TimeShape { word, without_zone });
    match value {
        Value::Number(number) => match number.as_i64()? {
            1_000_000_000..=5_000_000_000 => with("unix", false),
            1_000_000_000_000..=5_000_000_000_000 => with("unix_ms", false),
            _ => None,
        },
        Value::String(text) => {
            if chrono::DateTime::parse_from_rfc3339(text).is_ok() {
                return with("rfc3339", false);
            }
            let words = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y"];
            let reads = |word: &&str| {
                TimeFormat::parse(word).is_ok_and(|format| format.read(text, Some(chrono_tz::UTC)).is_ok())
            };
            let word = words.into_iter().find(reads)?;
            with(word, true)
        }
        _ => None,
    }
}

/// How the listing may go on.
#[derive(Debug, Default)]
pub struct Paging {
    /// Lines of the stream.
    pub lines: String,
    /// Parameters of its request.
    pub query: Vec<(String, String)>,
}

impl Paging {
    /// Whether a parameter of the address that was asked for is written by the pagination.
    pub fn replaces(&self, parameter: &str) -> bool {
        self.query.iter().any(|(name, _)| name == parameter)
    }
}

const SIZES: [&str; 8] = ["limit", "per_page", "page_size", "pagesize", "pageSize", "size", "count", "maxResults"];

/// Looks at the `Link` header, at what stands beside the list, and at the address that was asked for.
pub fn paging(answered: &Answered, json: &Value, listed: Option<&Listed<'_>>) -> Paging {
    let Some(listed) = listed else { return Paging::default() };
    let link = answered.link.as_deref().is_some_and(|link| link.contains("next"));
    if link {
        return Paging { lines: "pagination = { type = \"link_header\" }\n".to_owned(), ..Paging::default() };
    }
    let mut beside = Vec::new();
    look_beside(json, &mut Vec::new(), listed, &mut beside);
    let plain = |steps: &[String]| {
        steps.last().map(|name| name.to_ascii_lowercase().replace(['-', '_', '.', '@'], "")).unwrap_or_default()
    };
    let path = |steps: &[String]| steps.iter().map(|step| path_of(step)).collect::<String>();
    let inside_next =
        |steps: &[String]| steps.iter().rev().take(2).any(|step| step.to_ascii_lowercase().contains("next"));
    for (steps, value) in &beside {
        let Value::String(text) = value else { continue };
        let address = text.starts_with('/')
            || text.starts_with("http://")
            || text.starts_with("https://")
            || text.starts_with('?');
        if address && inside_next(steps) {
            let lines = format!("pagination = {{ type = \"next_url\", next = {} }}\n", toml_text(&path(steps)));
            return Paging { lines, ..Paging::default() };
        }
        let name = plain(steps);
        let token = name.contains("next") || name == "cursor" || name.contains("continuation") || name == "endcursor";
        if token && !text.is_empty() && !text.contains(char::is_whitespace) {
            let parameter = if name.contains("pagetoken") { "page_token" } else { "cursor" };
            let lines = format!(
                "pagination = {{ type = \"token\", next = {} }}   # is the parameter called `{parameter}`? See the API's documentation\n",
                toml_text(&path(steps))
            );
            return Paging { lines, query: vec![(parameter.to_owned(), "{{ page.token }}".to_owned())] };
        }
    }
    let total = beside.iter().find(|(steps, value)| {
        let is = ["total", "totalcount", "totalrecords", "totalitems", "totalresults", "totalelements"];
        value.is_u64() && is.contains(&plain(steps).as_str())
    });
    let total = total.map(|(steps, _)| format!(", total = {}", toml_text(&path(steps)))).unwrap_or_default();
    by_number(answered, &total)
}

/// Numbers in the address that was asked for.
fn by_number(answered: &Answered, total: &str) -> Paging {
    let pairs: Vec<(String, String)> = answered.url.query_pairs().into_owned().collect();
    let number = |names: &[&str]| {
        let found = pairs.iter().find(|(name, _)| names.iter().any(|known| known.eq_ignore_ascii_case(name)))?;
        found.1.parse::<u64>().ok().map(|value| (found.0.clone(), value))
    };
    let size = number(&SIZES);
    let size_part = size.as_ref().map(|(_, size)| format!(", size = {size}")).unwrap_or_default();
    let mut query = Vec::new();
    let kind = if let Some((name, first)) = number(&["page", "pageNumber", "page_number", "p"]) {
        query.push((name, "{{ page.number }}".to_owned()));
        format!("type = \"page\", first = {}", first.min(1))
    } else if let Some((name, _)) = number(&["offset", "skip", "start", "startIndex"]) {
        query.push((name, "{{ page.offset }}".to_owned()));
        "type = \"offset\"".to_owned()
    } else {
        return Paging::default();
    };
    query.extend(size.map(|(name, _)| (name, "{{ page.size }}".to_owned())));
    Paging { lines: format!("pagination = {{ {kind}{size_part}{total} }}\n"), query }
}

/// What stands beside the list, in objects only.
fn look_beside<'v>(
    json: &'v Value,
    steps: &mut Vec<String>,
    listed: &Listed<'_>,
    found: &mut Vec<(Vec<String>, &'v Value)>,
) {
    let Value::Object(members) = json else { return };
    for (name, value) in members {
        steps.push(name.clone());
        if *steps != listed.steps {
            match value {
                Value::Object(_) if steps.len() < DEPTH_MAX => look_beside(value, steps, listed, found),
                Value::Array(_) | Value::Null => {}
                scalar => found.push((steps.clone(), scalar)),
            }
        }
        steps.pop();
    }
}
