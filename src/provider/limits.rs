//! How fast a source may ask (rows 29–31).

use super::request::check_header_name;
use super::{Limits, ResetUnit};
use crate::settings::read_rate;
use crate::shape::{Table, Value};

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
