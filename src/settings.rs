//! What may be said of a stream in three places (`[defaults.stream]`, a provider file, a source), read in one place.

use std::str::FromStr;

use chrono_tz::Tz;

use crate::path::Path;
use crate::schedule::{FirstRun, Schedule, StreamSettings};
use crate::shape::{Table, Value, nearest};

/// Reads the settings of a stream from the keys of a table that may hold others as well.
pub fn read_stream_settings(table: &Table<'_, '_>) -> StreamSettings {
    for key in ["every_healthy", "active", "max_per_run", "expect_every", "mass_change", "late_after"] {
        table.not_yet(key);
    }
    let mut settings = StreamSettings {
        enabled: table.take("enabled").and_then(|v| v.boolean()),
        schedule: schedule(table),
        first_run: table.take("first_run").and_then(|v| first_run(&v)),
        ignore: table.take("ignore").map(|v| paths(&v)).unwrap_or_default(),
        ..StreamSettings::default()
    };
    if let Some(deletes) = table.take("deletes").and_then(|v| v.table()) {
        settings.confirm_after = deletes.take("confirm_after").and_then(|v| v.integer(1..=1_000)).map(|n| n as u32);
        settings.max_percent = deletes.take("max_percent").and_then(|v| v.integer(0..=100)).map(|n| n as u32);
        settings.max_count = deletes.take("max_count").and_then(|v| v.integer(0..=i64::MAX)).map(|n| n as u64);
        // The provider file says more of deletes; its reader takes those keys from the same table.
        for key in ["when", "confirm"] {
            deletes.take(key);
        }
        deletes.finish();
    }
    settings
}

fn schedule(table: &Table<'_, '_>) -> Option<Schedule> {
    let (every, cron, zone) = (table.take("every"), table.take("cron"), table.take("timezone"));
    if let (Some(every), Some(_)) = (&every, &cron) {
        every.fault("`every` and `cron` are both given; keep one of them", None);
    }
    let zone = zone.and_then(|v| timezone(&v));
    if let Some(cron) = cron {
        let text = cron.filled_text()?;
        if let Err(error) = croner::Cron::from_str(&text) {
            cron.fault(
                format!("`{}` is not a cron schedule: {error}", cron.name),
                Some("for example \"*/5 6-20 * * MON-FRI\""),
            );
            return None;
        }
        return Some(Schedule::Cron { text, zone: zone.unwrap_or(Tz::UTC) });
    }
    let every = every?;
    let duration = every.duration()?;
    if duration < std::time::Duration::from_millis(100) {
        every.fault(format!("`{}` must be at least 100ms", every.name), None);
        return None;
    }
    Some(Schedule::Every(duration))
}

/// A time zone by its IANA name.
pub fn timezone(value: &Value<'_, '_>) -> Option<Tz> {
    let text = value.text()?;
    match Tz::from_str(&text) {
        Ok(zone) => Some(zone),
        Err(_) => {
            let near = nearest(&text, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()));
            let help = near
                .map_or("use an IANA name such as `Europe/Kyiv`".to_owned(), |near| format!("did you mean `{near}`?"));
            value.fault(format!("`{text}` is no time zone"), Some(&help));
            None
        }
    }
}

fn first_run(value: &Value<'_, '_>) -> Option<FirstRun> {
    if value.is_table() {
        value.fault(
            "`first_run = { … }` is not carried out yet by this version of ringback",
            Some("use \"baseline\" or \"send-all\""),
        );
        return None;
    }
    let choice = value.choice(&[("baseline", false), ("send-all", true)])?;
    Some(if choice { FirstRun::SendAll } else { FirstRun::Baseline })
}

/// A list of plain paths.
pub fn paths(value: &Value<'_, '_>) -> Vec<Path> {
    let mut paths = Vec::new();
    for item in value.list().unwrap_or_default() {
        let Some(text) = item.text() else { continue };
        match Path::parse(&text) {
            Some(path) => paths.push(path),
            None => item.fault(format!("`{text}` is not a plain path"), Some("for example `.meta.fetchedAt`")),
        }
    }
    paths
}
