//! How a source logs in, and how fast it may ask (rows 18–31).

use super::language::{Names, Place, template, word};
use super::request::check_header_name;
use super::{Auth, KeyPlace, Limits, ResetUnit};
use crate::settings::read_rate;
use crate::shape::{Table, Value};
use crate::template::Template;

#[derive(Clone, Copy)]
enum Kind {
    None,
    Basic,
    Bearer,
    ApiKey,
}

const LATER: [&str; 6] = ["oauth2", "jwt", "session", "digest", "hmac", "aws_sigv4"];

/// Keys of ways to log in that later versions carry out.
const LATER_KEYS: [&str; 19] = [
    "grant",
    "token_url",
    "client_id",
    "client_secret",
    "client_auth",
    "scopes",
    "params",
    "refresh_token",
    "algorithm",
    "key",
    "claims",
    "content",
    "encoding",
    "login",
    "logout",
    "token_path",
    "lifetime",
    "service",
    "region",
];

/// `[auth]` or `[[auth]]`; none given is [`Auth::None`].
pub(super) fn read_auth(table: &Table<'_, '_>, names: &Names) -> Vec<Auth> {
    let Some(value) = table.take("auth") else { return vec![Auth::None] };
    let ways = value.one_or_list();
    ways.iter().filter_map(|way| read_way(way, names)).collect()
}

fn read_way(value: &Value<'_, '_>, names: &Names) -> Option<Auth> {
    let table = value.table()?;
    let known = [("none", Kind::None), ("basic", Kind::Basic), ("bearer", Kind::Bearer), ("api_key", Kind::ApiKey)];
    let kind = match table.take("type") {
        Some(kind) => word(&kind, &known, &LATER),
        None => table.require("type", "one of none, basic, bearer, api_key").and(None),
    };
    let Some(kind) = kind else {
        // Its other keys belong to a way that is not known; one fault is enough.
        table.entries();
        return None;
    };
    let text = |key: &str| {
        let help = format!("add it, such as {key} = \"{{{{ secrets.{key} }}}}\"");
        table.require(key, &help).and_then(|value| template(&value, Place::Auth, names))
    };
    let auth = match kind {
        Kind::None => Some(Auth::None),
        Kind::Basic => {
            text("username").zip(text("password")).map(|(username, password)| Auth::Basic { username, password })
        }
        Kind::Bearer => text("token").map(|token| Auth::Bearer { token }),
        Kind::ApiKey => read_api_key(&table, text("value")),
    };
    LATER_KEYS.iter().for_each(|key| table.not_yet(key));
    table.finish();
    auth
}

fn read_api_key(table: &Table<'_, '_>, value: Option<Template>) -> Option<Auth> {
    let places = [("header", KeyPlace::Header), ("query", KeyPlace::Query)];
    let place = table.take("in").map_or(Some(KeyPlace::Header), |value| word(&value, &places, &["cookie"]));
    let name = table.require("name", "the name of the header or of the query parameter");
    let name = name.and_then(|value| {
        let name = value.filled_text()?;
        if place == Some(KeyPlace::Header) {
            check_header_name(&name, &value)?;
        }
        Some(name)
    });
    Some(Auth::ApiKey { place: place?, name: name?, value: value? })
}

/// `limits`, at the top or in a stream.
pub(super) fn read_limits(table: &Table<'_, '_>) -> Option<Limits> {
    let limits = table.take("limits")?.table()?;
    let rates = limits.take("rate").map(Value::one_or_list).unwrap_or_default();
    let rates = rates.iter().filter_map(read_rate).collect();
    let concurrency = limits.take("concurrency").and_then(|value| value.integer(1..=1_000));
    let read = Limits {
        rates,
        concurrency: concurrency.and_then(|number| usize::try_from(number).ok()),
        remaining: read_header(&limits, "remaining"),
        reset: read_reset(&limits),
        stop_below: limits
            .take("stop_below")
            .and_then(|value| value.integer(0..=1_000_000_000))
            .and_then(|number| u64::try_from(number).ok())
            .unwrap_or(0),
        pace: read_header(&limits, "pace"),
    };
    for key in ["stop_below", "reset"] {
        if let (Some(value), None) = (limits.take(key), &read.remaining) {
            let message = format!("`{}` goes with `remaining`, which is missing", value.name);
            value.fault(
                message,
                Some("name the header that says how many requests are left: remaining = \"X-RateLimit-Remaining\""),
            );
        }
    }
    limits.finish();
    Some(read)
}

/// The name of a header, in lower case.
fn read_header(limits: &Table<'_, '_>, key: &str) -> Option<String> {
    let value = limits.take(key)?;
    let name = value.filled_text()?;
    check_header_name(&name, &value)?;
    Some(name.to_ascii_lowercase())
}

/// `reset` with its unit: one name of a header means a moment with one provider and a wait with the next.
fn read_reset(limits: &Table<'_, '_>) -> Option<(String, ResetUnit)> {
    const UNITS: [(&str, ResetUnit); 4] = [
        ("seconds", ResetUnit::Seconds),
        ("unix", ResetUnit::Unix),
        ("unix_ms", ResetUnit::UnixMs),
        ("date", ResetUnit::Date),
    ];
    let unit = limits.take("reset_unit");
    let Some(name) = read_header(limits, "reset") else {
        if let Some(unit) = unit {
            unit.fault(format!("`{}` is the unit of `reset`, which is missing", unit.name), None);
        }
        return None;
    };
    let help = "say how it is written: seconds (from now), unix, unix_ms or date";
    let unit = unit.or_else(|| limits.require("reset_unit", help))?;
    Some((name, unit.choice(&UNITS)?))
}
