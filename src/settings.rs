//! The keys that a stream has in `[defaults.stream]`, in a provider file and in a source alike: one reader for all three.
//! Also the kinds of value that both files share: cron, time zones, rates, paths.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDate;
use chrono_tz::{TZ_VARIANTS, Tz};

use crate::model::Timestamp;
use crate::path::Path;
use crate::schedule::{
    Active, FirstRun, MassChange, Schedule, StreamSettings, check_cron, read_days, read_holidays, read_hours,
};
use crate::shape::{Table, Value, nearest};

/// Shortest interval between two polls.
const EVERY_MIN: Duration = Duration::from_millis(100);

/// Reads a stream's table of `config.toml`, without [`Table::finish`].
pub fn read_stream_settings(table: &Table<'_, '_>) -> StreamSettings {
    let mut settings = read_advice(table);
    if let (Some(zone), None) = (table.take("timezone"), table.take("cron")) {
        zone.fault(format!("`{}` is the time zone of `cron`, which is missing", zone.name), None);
    }
    settings.enabled = table.take("enabled").and_then(|value| value.boolean());
    settings.ignore = table.take("ignore").map(|value| read_paths(&value)).unwrap_or_default();
    if let Some(deletes) = table.take("deletes").and_then(|value| value.table()) {
        read_guards(&deletes, &mut settings);
        deletes.finish();
    }
    settings
}

/// Reads what a provider's author may advise: when to poll and what the first look says.
pub fn read_advice(table: &Table<'_, '_>) -> StreamSettings {
    let duration = |key: &str| table.take(key).and_then(|value| positive(&value));
    let max_per_run = table.take("max_per_run").and_then(|value| value.integer(1..=1_000_000_000));
    StreamSettings {
        every_healthy: read_every_healthy(table),
        schedule: read_schedule(table),
        first_run: read_first_run(table),
        mass_change: table.take("mass_change").and_then(|value| read_mass_change(&value)),
        active: table.take("active").and_then(|value| read_active(&value)),
        max_per_run: max_per_run.and_then(|number| u64::try_from(number).ok()),
        expect_every: duration("expect_every"),
        late_after: duration("late_after"),
        ..StreamSettings::default()
    }
}

/// `mass_change = { max_percent = 50, action = "warn" }`.
fn read_mass_change(value: &Value<'_, '_>) -> Option<MassChange> {
    let table = value.table()?;
    let percent = table.take("max_percent").map_or(Some(50), |value| value.integer(1..=1_000));
    let hold = table.take("action").map_or(Some(false), |value| value.choice(&[("warn", false), ("hold", true)]));
    table.finish();
    Some(MassChange { max_percent: u32::try_from(percent?).ok()?, hold: hold? })
}

/// A duration of more than nothing.
fn positive(value: &Value<'_, '_>) -> Option<Duration> {
    let duration = value.duration()?;
    if duration.is_zero() {
        value.fault(format!("`{}` must be more than nothing", value.name), None);
        return None;
    }
    Some(duration)
}

/// `every_healthy`, next to `every` never less than it.
fn read_every_healthy(table: &Table<'_, '_>) -> Option<Duration> {
    let value = table.take("every_healthy")?;
    if table.has("cron") {
        let message = format!("`{}`: a cron's times do not move", value.name);
        value.fault(message, Some("remove it, or say `every` in place of `cron`"));
        return None;
    }
    let healthy = positive(&value)?;
    let every = table.take("every").and_then(|value| humantime::parse_duration(value.value.as_str()?).ok());
    if every.is_some_and(|every| every > healthy) {
        let message = format!("`{}` is shorter than `every`", value.name);
        value.fault(message, Some("it is how far a healthy webhook may slow the poll: at least `every`"));
        return None;
    }
    Some(healthy)
}

/// `active = { days, hours, timezone, holidays }`.
fn read_active(value: &Value<'_, '_>) -> Option<Active> {
    let table = value.table()?;
    let days = table.take("days").map_or(read_days("MON-SUN"), |value| {
        read_words(&value, "days such as \"MON-FRI\" or [\"MON\", \"WED\"]", read_days).map(|days| days.concat())
    });
    let hours = table
        .take("hours")
        .map_or(Some(Vec::new()), |value| read_words(&value, "hours such as \"06:00-20:00\"", read_hours));
    let zone = table.take("timezone").map_or(Some(Tz::UTC), |value| read_zone(&value));
    let holidays = table.take("holidays").map_or(read_holidays("").ok(), |value| read_calendar(&value));
    table.finish();
    let active = Active { days: days?, hours: hours?, zone: zone?, holidays: holidays? };
    if active.days.is_empty() {
        value.fault(format!("`{}.days` is empty: the stream would never be polled", value.name), None);
        return None;
    }
    Some(active)
}

/// One word or a list of them.
fn read_words<T>(value: &Value<'_, '_>, wanted: &str, read: fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let words = if value.is_list() {
        value.list()?.iter().map(Value::text).collect::<Option<Vec<_>>>()?
    } else {
        vec![value.text()?]
    };
    let known = words.iter().map(|word| read(word).ok_or(word)).collect::<Result<Vec<T>, _>>();
    match known {
        Ok(known) => Some(known),
        Err(word) => {
            value.fault(format!("`{}` is `{word}`, but must be {wanted}", value.name), None);
            None
        }
    }
}

/// A file of dates beside the one that names it.
fn read_calendar(value: &Value<'_, '_>) -> Option<Arc<[(NaiveDate, NaiveDate)]>> {
    let name = value.filled_text()?;
    let path = value.reading.file.path.parent().unwrap_or(std::path::Path::new("")).join(name);
    let read = std::fs::read_to_string(&path).map_err(|error| error.to_string()).and_then(|text| read_holidays(&text));
    match read {
        Ok(days) => Some(days),
        Err(error) => {
            let message = format!("`{}`: {}: {error}", value.name, path.display());
            value.fault(
                message,
                Some("a text file with one date a line, such as 2026-12-25, or a range 2026-12-24..2027-01-02"),
            );
            None
        }
    }
}

/// `every`, or `cron` with its `timezone` (UTC without one).
fn read_schedule(table: &Table<'_, '_>) -> Option<Schedule> {
    match (table.take("every"), table.take("cron")) {
        (Some(every), Some(cron)) => {
            cron.fault(format!("`{}` and `{}` exclude each other; keep one", every.name, cron.name), None);
            None
        }
        (Some(every), None) => {
            let duration = every.duration()?;
            if duration < EVERY_MIN {
                every.fault(format!("`{}` must be at least 100ms", every.name), None);
                return None;
            }
            Some(Schedule::Every(duration))
        }
        (None, Some(cron)) => {
            let zone = table.take("timezone").map_or(Some(Tz::UTC), |value| read_zone(&value));
            Some(Schedule::Cron { text: read_cron(&cron)?, zone: zone? })
        }
        (None, None) => None,
    }
}

fn read_cron(value: &Value<'_, '_>) -> Option<String> {
    let text = value.filled_text()?;
    if let Err(error) = check_cron(&text) {
        let message = format!("`{}` is no cron pattern: {error}", value.name);
        value.fault(message, Some("minute hour day month weekday, such as \"*/5 6-20 * * MON-FRI\""));
        return None;
    }
    Some(text)
}

fn read_first_run(table: &Table<'_, '_>) -> Option<FirstRun> {
    let value = table.take("first_run")?;
    if value.is_table() {
        return read_first_run_table(&value);
    }
    value.choice(&[("baseline", FirstRunWord::Baseline), ("send-all", FirstRunWord::SendAll)]).map(|word| match word {
        FirstRunWord::Baseline => FirstRun::Baseline,
        FirstRunWord::SendAll => FirstRun::SendAll,
    })
}

/// Records of the first look that are kept in memory until it is complete.
const LAST_MAX: i64 = 10_000;

/// `{ since = "2026-01-01" }` or `{ last = 50 }`.
fn read_first_run_table(value: &Value<'_, '_>) -> Option<FirstRun> {
    let table = value.table()?;
    let (since, last) = (table.take("since"), table.take("last"));
    table.finish();
    match (since, last) {
        (Some(since), None) => read_moment(&since).map(FirstRun::Since),
        (None, Some(last)) => usize::try_from(last.integer(1..=LAST_MAX)?).ok().map(FirstRun::Last),
        _ => {
            value.fault(
                format!("`{}` needs exactly one of `since` and `last`", value.name),
                Some("such as { since = \"2026-01-01\" } or { last = 50 }"),
            );
            None
        }
    }
}

/// A date, or a time with its zone.
fn read_moment(value: &Value<'_, '_>) -> Option<Timestamp> {
    let text = value.text()?;
    let day =
        text.parse::<chrono::NaiveDate>().ok().and_then(|day| day.and_hms_opt(0, 0, 0)).map(|time| time.and_utc());
    let moment = day.or_else(|| chrono::DateTime::parse_from_rfc3339(&text).ok().map(|time| time.to_utc()));
    if moment.is_none() {
        let message = format!("`{}` is `{text}`, which is neither a date nor a time with its zone", value.name);
        value.fault(message, Some("such as \"2026-01-01\" or \"2026-01-01T08:00:00+02:00\""));
    }
    moment.map(Timestamp::from)
}

#[derive(Clone, Copy)]
enum FirstRunWord {
    Baseline,
    SendAll,
}

/// `confirm_after`, `max_percent` and `max_count` of a `deletes` table, without [`Table::finish`].
pub fn read_guards(deletes: &Table<'_, '_>, settings: &mut StreamSettings) {
    let integer = |key: &str, low: i64, high: i64| {
        deletes.take(key).and_then(|value| value.integer(low..=high)).and_then(|number| u32::try_from(number).ok())
    };
    settings.confirm_after = integer("confirm_after", 1, 1_000);
    settings.max_percent = integer("max_percent", 0, 100);
    settings.max_count = integer("max_count", 0, i64::from(u32::MAX)).map(u64::from);
}

/// A time zone by its IANA name.
pub fn read_zone(value: &Value<'_, '_>) -> Option<Tz> {
    let name = value.text()?;
    let zone = Tz::from_str(&name).ok();
    if zone.is_none() {
        let near = nearest(&name, TZ_VARIANTS.iter().map(|zone| zone.name()));
        let help =
            near.map_or_else(|| "such as Europe/Kyiv or UTC".to_owned(), |near| format!("did you mean `{near}`?"));
        value.fault(format!("`{}` is `{name}`, which is no time zone", value.name), Some(&help));
    }
    zone
}

/// A list of plain paths.
pub fn read_paths(value: &Value<'_, '_>) -> Vec<Path> {
    value.list().unwrap_or_default().iter().filter_map(read_path).collect()
}

/// A plain path that leads below the record itself.
fn read_path(value: &Value<'_, '_>) -> Option<Path> {
    let text = value.text()?;
    let path = Path::parse(&text).filter(|path| !path.steps.is_empty());
    if path.is_none() {
        let message = format!("`{}` is `{text}`, which is no plain path", value.name);
        value.fault(message, Some("such as \".meta.fetchedAt\" or \".items[].count\""));
    }
    path
}

/// So many in so long: `"5/s"`, `"4/24h"`.
pub fn read_rate(value: &Value<'_, '_>) -> Option<(u32, Duration)> {
    const WANTED: &str = "a rate as text, such as \"5/s\" or \"4/24h\"";
    let text = value.value.as_str().or_else(|| value.wrong(WANTED))?;
    let rate = parse_rate(text);
    if rate.is_none() {
        value.fault(format!("`{}` is `{text}`, but must be {WANTED}", value.name), None);
    }
    rate
}

fn parse_rate(text: &str) -> Option<(u32, Duration)> {
    let (count, per) = text.split_once('/')?;
    let per = per.trim();
    let with_number = if per.starts_with(|c: char| c.is_ascii_digit()) { per.to_owned() } else { format!("1{per}") };
    let per = humantime::parse_duration(&with_number).ok().filter(|per| !per.is_zero())?;
    let count = count.trim().parse().ok().filter(|count| *count > 0)?;
    Some((count, per))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Reading, SourceFile};

    fn read(text: &str) -> (StreamSettings, Vec<String>) {
        let reading = Reading::new(SourceFile::new("t.toml", text));
        let parsed = reading.parse();
        let table = Table::root(&reading, &parsed);
        let settings = read_stream_settings(&table);
        table.finish();
        drop(parsed);
        let faults = reading.into_faults().into_iter().map(|f| format!("{} {}", f.message, f.help.unwrap_or_default()));
        (settings, faults.collect())
    }

    #[test]
    fn a_streams_settings_are_read() {
        let (settings, faults) = read(
            "enabled = false\ncron = \"*/5 6-20 * * MON-FRI\"\ntimezone = \"Europe/Kyiv\"\nfirst_run = \"send-all\"\n\
             ignore = [\".a\", \".l[].b\"]\ndeletes = { confirm_after = 3, max_percent = 20, max_count = 5 }\n",
        );
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!(settings.enabled, Some(false));
        let cron = Schedule::Cron { text: "*/5 6-20 * * MON-FRI".into(), zone: Tz::Europe__Kyiv };
        assert_eq!(settings.schedule, Some(cron));
        assert_eq!(settings.first_run, Some(FirstRun::SendAll));
        assert_eq!(settings.ignore.len(), 2);
        assert_eq!((settings.confirm_after, settings.max_percent, settings.max_count), (Some(3), Some(20), Some(5)));
        for (text, want) in [
            ("first_run = { last = 5 }", FirstRun::Last(5)),
            ("first_run = { since = \"2026-01-01\" }", FirstRun::Since(Timestamp(1_767_225_600_000))),
            ("first_run = { since = \"2026-01-01T02:00:00+02:00\" }", FirstRun::Since(Timestamp(1_767_225_600_000))),
        ] {
            assert_eq!(read(text).0.first_run, Some(want));
        }
        let held = Some(MassChange { max_percent: 50, hold: true });
        assert_eq!(read("mass_change = { action = \"hold\" }").0.mass_change, held);
        assert_eq!(read("every = \"5m\"").0.schedule, Some(Schedule::Every(Duration::from_secs(300))));
        assert_eq!(read(""), (StreamSettings::default(), vec![]));
        let (bank, faults) = read(
            "every = \"1m\"\nevery_healthy = \"10m\"\nmax_per_run = 5\nexpect_every = \"1d\"\nlate_after = \"1h\"\n\
             active = { days = \"MON-FRI\", hours = [\"06:00-20:00\"], timezone = \"Europe/Kyiv\" }\n",
        );
        assert_eq!(faults, Vec::<String>::new());
        assert_eq!((bank.every_healthy, bank.max_per_run), (Some(Duration::from_secs(600)), Some(5)));
        assert_eq!(bank.active.map(|active| (active.days.len(), active.hours)), Some((5, vec![(360, 1200)])));
    }

    #[test]
    fn faults_say_what_to_do() {
        let cases = [
            ("every = \"1m\"\ncron = \"* * * * *\"", "exclude each other"),
            ("every = \"1ms\"", "at least 100ms"),
            ("every = 60", "must be a duration as text"),
            ("cron = \"every day\"", "no cron pattern"),
            ("cron = \"* * * * *\"\ntimezone = \"Europe/Kiiv\"", "did you mean `Europe/K"),
            ("timezone = \"UTC\"", "is the time zone of `cron`"),
            ("first_run = \"send_all\"", "did you mean `send-all`?"),
            ("first_run = { last = 5, since = \"2026-01-01\" }", "exactly one of"),
            ("first_run = { last = 0 }", "1 to 10000"),
            ("first_run = { since = \"yesterday\" }", "neither a date nor"),
            ("ignore = [\".a | .b\"]", "no plain path"),
            ("ignore = [\".\"]", "no plain path"),
            ("deletes = { max_percent = 101 }", "0 to 100"),
            ("deletes = { max = 1 }", "unknown key `max`"),
            ("mass_change = { action = \"stop\" }", "`stop`"),
            ("cron = \"0 0 30 2 *\"", "no cron pattern"),
            ("expect_every = \"0s\"", "more than nothing"),
            ("max_per_run = 0", "1 to"),
            ("every = \"5m\"\nevery_healthy = \"1m\"", "shorter than `every`"),
            ("cron = \"* * * * *\"\nevery_healthy = \"1m\"", "do not move"),
            ("active = { days = \"MON-FRY\" }", "must be days"),
            ("active = { days = [] }", "never be polled"),
            ("active = { hours = [\"6-20\"] }", "must be hours"),
            ("active = { holidays = \"nowhere.txt\" }", "nowhere.txt"),
            ("active = { zone = \"UTC\" }", "unknown key `zone`"),
        ];
        for (text, want) in cases {
            let (_, faults) = read(text);
            assert!(faults.len() == 1 && faults[0].contains(want), "{text}: {faults:?}");
        }
    }

    #[test]
    fn rates_are_so_many_in_so_long() {
        let cases = [
            ("5/s", Some((5, 1))),
            ("4/24h", Some((4, 86_400))),
            ("100/m", Some((100, 60))),
            ("10 / 2s", Some((10, 2))),
            ("5", None),
            ("0/s", None),
            ("5/0s", None),
            ("x/s", None),
            ("5/", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_rate(text), want.map(|(count, per)| (count, Duration::from_secs(per))), "{text}");
        }
    }
}
