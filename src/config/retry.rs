//! Waits between attempts that grow by themselves: `retry = { first = "5s", factor = 2, cap = "1h", attempts = 10 }`.

use std::time::Duration;

use crate::shape::Table;

const FIRST: Duration = Duration::from_secs(5);
const CAP: Duration = Duration::from_secs(24 * 60 * 60);
const KEYS: [&str; 4] = ["first", "factor", "cap", "attempts"];

/// The waits before the second, third, … attempt; None when none of the keys is there.
pub fn growing(table: &Table<'_, '_>, listed: bool) -> Option<Vec<Duration>> {
    let duration = |key: &str| {
        let value = table.take(key)?;
        let time = value.duration()?;
        if time.is_zero() {
            value.fault(format!("`{}` must be more than nothing", value.name), None);
        }
        Some(time)
    };
    let first = duration("first").unwrap_or(FIRST);
    let cap = duration("cap").unwrap_or(CAP);
    let factor = table.take("factor").and_then(|v| v.integer(1..=100)).unwrap_or(2);
    let attempts = table.take("attempts").and_then(|v| v.integer(1..=100)).unwrap_or(10);
    // Taken all the same: they are known here, for whoever misspells one.
    let given = KEYS.iter().find_map(|key| table.take(key))?;
    if listed {
        let help = "list the waits, or say how they grow";
        given.fault(format!("`{}` and `schedule` exclude each other", given.name), Some(help));
    }
    let factor = u32::try_from(factor).unwrap_or(2);
    let waits = std::iter::successors(Some(first.min(cap)), |wait| Some(wait.saturating_mul(factor).min(cap)));
    Some(waits.take(usize::try_from(attempts - 1).unwrap_or(0)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::{Reading, SourceFile};

    fn read(text: &str) -> (Option<Vec<u64>>, Vec<String>) {
        let reading = Reading::new(SourceFile::new("t.toml", text));
        let parsed = reading.parse();
        let table = Table::root(&reading, &parsed);
        let listed = table.take("schedule").is_some();
        let waits = growing(&table, listed);
        table.finish();
        drop(parsed);
        let faults = reading.into_faults().into_iter().map(|fault| fault.message).collect();
        (waits.map(|waits| waits.iter().map(Duration::as_secs).collect()), faults)
    }

    #[test]
    fn waits_grow_up_to_their_cap() {
        for (text, want) in [
            ("", None),
            ("attempts = 1", Some(vec![])),
            ("attempts = 4", Some(vec![5, 10, 20])),
            ("first = \"1s\"\nfactor = 10\ncap = \"1m\"\nattempts = 5", Some(vec![1, 10, 60, 60])),
            ("first = \"10m\"\ncap = \"1m\"\nattempts = 3", Some(vec![60, 60])),
            ("first = \"1s\"\nfactor = 1\nattempts = 3", Some(vec![1, 1])),
        ] {
            assert_eq!(read(text), (want, vec![]), "{text}");
        }
        assert_eq!(read("factor = 100\nattempts = 100").0.map(|w| w.len()), Some(99));
    }

    #[test]
    fn wrong_values_are_told() {
        for (text, want) in [
            ("first = \"0s\"", "more than nothing"),
            ("factor = 0", "1 to 100"),
            ("attempts = 0", "1 to 100"),
            ("schedule = [\"1s\"]\nfactor = 2", "exclude each other"),
        ] {
            let (_, faults) = read(text);
            assert!(faults.len() == 1 && faults[0].contains(want), "{text}: {faults:?}");
        }
    }
}
